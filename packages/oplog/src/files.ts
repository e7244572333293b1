/** The few ways in which files are made durable. */
import fs from 'node:fs'
import path from 'node:path'

/** A file's bytes are durable only with its name: sync the folder after creating or renaming. */
export function syncFolder(folder: string): void {
  const fd = fs.openSync(folder, 'r')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** Replaces a file in one step: readers see the old bytes or the new, also after a power cut. */
export function writeFileDurably(file: string, bytes: string | Uint8Array, mode = 0o644): void {
  const temporary = `${file}.new`
  const fd = fs.openSync(temporary, 'w', mode)
  try {
    fs.writeFileSync(fd, bytes)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(temporary, file)
  syncFolder(path.dirname(file))
}

/** Writes all of `bytes` at `offset`; a short write is continued, an error is thrown. */
export function writeAll(fd: number, bytes: Uint8Array, offset: number): void {
  let done = 0
  while (done < bytes.length) done += fs.writeSync(fd, bytes, done, bytes.length - done, offset + done)
}
