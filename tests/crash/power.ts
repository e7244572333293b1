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

interface Rename {
  readonly inode: bigint
  readonly folder: bigint
  readonly from: string
  readonly to: string
  /** A link to what the rename replaced, or nothing. */
  readonly replaced: string
}

interface Unsafe {
  readonly writes: Undo[]
  readonly renames: Rename[]
}

const UNDO = 1
const SAFE = 2
const RENAMED = 3
const FOLDER_SAFE = 4

/** What a journal says that no sync made safe, oldest first. The last record may be cut off: then its act never began. */
function readJournal(journal: Buffer): Unsafe {
  let writes: Undo[] = []
  let renames: Rename[] = []
  for (let at = 0; at + 9 <= journal.length; ) {
    const kind = journal[at]
    const inode = journal.readBigUInt64LE(at + 1)
    at += 9
    if (kind === SAFE) writes = writes.filter((u) => u.inode !== inode)
    else if (kind === FOLDER_SAFE) renames = renames.filter((r) => r.folder !== inode)
    else if (kind === RENAMED) {
      const found = readRename(journal, at, inode)
      if (!found) break
      renames.push(found.rename)
      at = found.end
    } else if (kind === UNDO) {
      if (at + 24 > journal.length) break
      const end = at + 24 + journal.readUInt32LE(at + 8)
      if (end > journal.length) break
      writes.push({
        inode,
        offset: Number(journal.readBigUInt64LE(at)),
        span: journal.readUInt32LE(at + 12),
        size: Number(journal.readBigUInt64LE(at + 16)),
        old: journal.subarray(at + 24, end),
      })
      at = end
    } else throw new Error(`a journal with a record of kind ${kind}`)
  }
  return { writes, renames }
}

function readRename(
  journal: Buffer,
  from: number,
  inode: bigint,
): { rename: Rename; end: number } | undefined {
  if (from + 8 > journal.length) return undefined
  const texts: string[] = []
  let at = from + 8
  for (let i = 0; i < 3; i++) {
    if (at + 2 > journal.length) return undefined
    const end = at + 2 + journal.readUInt16LE(at)
    if (end > journal.length) return undefined
    texts.push(journal.toString('utf8', at + 2, end))
    at = end
  }
  const [name = '', to = '', replaced = ''] = texts
  return { rename: { inode, folder: journal.readBigUInt64LE(from), from: name, to, replaced }, end: at }
}

/** Takes back the newest renames of each folder, as many as chance says: a file system loses them from the end. */
function loseRenames(renames: readonly Rename[], random: () => number, loss: number): number {
  let lost = 0
  for (const folder of new Set(renames.map((r) => r.folder))) {
    const inFolder = renames.filter((r) => r.folder === folder)
    for (const { inode, from, to, replaced } of inFolder.reverse()) {
      if (random() >= loss) break
      if (!fs.existsSync(to) || fs.statSync(to, { bigint: true }).ino !== inode) break
      fs.renameSync(to, from)
      if (replaced !== '') fs.linkSync(replaced, to)
      lost++
    }
  }
  for (const { replaced } of renames) if (replaced !== '') fs.rmSync(replaced, { force: true })
  return lost
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

export interface Lost {
  readonly sectors: number
  readonly renames: number
}

/** Loses each unsynced sector, and each newest unsynced rename, with the chance `loss`. */
export function cutPower(folder: string, journalFile: string, random: () => number, loss: number): Lost {
  if (!fs.existsSync(journalFile)) return { sectors: 0, renames: 0 }
  const { writes, renames } = readJournal(fs.readFileSync(journalFile))
  const sectors = loseSectors(folder, writes, random, loss)
  const lost = loseRenames(renames, random, loss)
  fs.rmSync(journalFile)
  return { sectors, renames: lost }
}

function loseSectors(folder: string, writes: Undo[], random: () => number, loss: number): number {
  const files = filesByInode(folder)
  let lost = 0
  for (const undo of writes.reverse()) {
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
  return lost
}
