/** Taking the power away: puts back, at random, what a killed process wrote and never synced. */
import fs from 'node:fs'
import path from 'node:path'

export const LIBRARY = path.join(import.meta.dirname, '..', 'powercut', 'build', 'libcardinal_powercut.so')
const SECTOR = 512

interface Undo {
  readonly inode: bigint
  readonly offset: number
  readonly span: number
  readonly size: number
  readonly old: Buffer
}

/** Writes of a journal that no sync made safe, oldest first. */
function unsafeWrites(journal: Buffer): Undo[] {
  let pending: Undo[] = []
  for (let at = 0; at < journal.length; ) {
    const kind = journal[at]
    const inode = journal.readBigUInt64LE(at + 1)
    if (kind === 2) {
      pending = pending.filter((u) => u.inode !== inode)
      at += 9
      continue
    }
    // The process may have been killed while it wrote this record; the write itself then never began.
    if (kind !== 1 || at + 33 > journal.length) break
    const length = journal.readUInt32LE(at + 17)
    const end = at + 33 + length
    if (end > journal.length) break
    pending.push({
      inode,
      offset: Number(journal.readBigUInt64LE(at + 9)),
      span: journal.readUInt32LE(at + 21),
      size: Number(journal.readBigUInt64LE(at + 25)),
      old: journal.subarray(at + 33, end),
    })
    at = end
  }
  return pending
}

function filesByInode(folder: string): Map<bigint, string> {
  const found = new Map<bigint, string>()
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = path.join(entry.parentPath, entry.name)
    found.set(fs.statSync(file, { bigint: true }).ino, file)
  }
  return found
}

/** Loses each unsynced sector with the chance `loss`; returns how many were lost. */
export function cutPower(folder: string, journalFile: string, random: () => number, loss: number): number {
  if (!fs.existsSync(journalFile)) return 0
  const files = filesByInode(folder)
  let lost = 0
  for (const undo of unsafeWrites(fs.readFileSync(journalFile)).reverse()) {
    const file = files.get(undo.inode)
    if (!file) continue
    const fd = fs.openSync(file, 'r+')
    for (let at = 0; at < undo.span; at += SECTOR) {
      if (random() >= loss) continue
      const sector = Buffer.alloc(SECTOR)
      if (at < undo.old.length) undo.old.copy(sector, 0, at, at + SECTOR)
      const length = fs.fstatSync(fd).size
      const end = Math.min(SECTOR, length - undo.offset - at)
      if (end <= 0) continue
      fs.writeSync(fd, sector, 0, end, undo.offset + at)
      lost++
    }
    if (undo.size < undo.offset + undo.span && random() < loss / 2)
      fs.ftruncateSync(fd, Math.max(undo.size, 0))
    fs.closeSync(fd)
  }
  fs.rmSync(journalFile)
  return lost
}
