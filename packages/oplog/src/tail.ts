/** The end of a log that is being opened: cut where a power cut tore it, and made durable. */
import fs from 'node:fs'
import path from 'node:path'
import { syncFolder, writeAll } from './files.ts'
import { offsetOf, type Pos, segmentName } from './format.ts'
import { segmentFiles } from './scan.ts'

/** What was read counts only once it is durable: an entry seen in the page cache may yet be lost. */
export function makeTailDurable(folder: string, segment: number, end: Pos, torn: number): void {
  for (const number of segmentFiles(folder).filter((n) => n >= segment)) {
    const fd = fs.openSync(path.join(folder, segmentName(number)), 'r+')
    try {
      if (number === segment && torn > 0) writeAll(fd, Buffer.alloc(torn), offsetOf(end))
      fs.fsyncSync(fd)
    } finally {
      fs.closeSync(fd)
    }
  }
  syncFolder(folder)
}
