/**
 * Files that come from outside: with the program, when an agent is born, or from an operator, as calls of
 * a method that every agent has. They come in parts, and stand in their place once the last one is there.
 */
import {
  CHUNK,
  change,
  destroy,
  type Entry,
  entryOf,
  fsError,
  insertChunk,
  make,
  makeNameless,
  move,
  overwrite,
  setSize,
  walk,
} from './file-tree.ts'

/** The kernel alone calls it, and no program can declare it. */
export const PUT_METHOD = 'cardinal.put'

/** One part of a file. Its chunks are bytes in hex, all of them whole but the last of the file. */
export interface FilePart {
  readonly path: string
  /** `run/id`: tells this putting of the file from another one, and from those of a kernel that is gone. */
  readonly put: string
  /** From 0 on, in order; anything else gives up. */
  readonly part: number
  readonly chunks: readonly string[]
  readonly last: boolean
}

export type InitialFile = readonly [path: string, chunks: readonly string[]]

interface Putting {
  readonly put: string
  readonly id: number
  readonly parts: number
  readonly size: number
}

const MODE = 0o644
const putting = new Map<string, Putting>()
let initial: readonly InitialFile[] = []

/** Called once by the bundle, when the image is built. */
export function putInitial(files: readonly InitialFile[]): void {
  initial = files
}

/** The agent is born, or begins anew. */
export function writeInitial(): void {
  for (const [path, chunks] of initial) putPart({ path, put: '', part: 0, chunks, last: true })
}

/** Takes a part from an operator. What the file system has against it is an answer. */
export function answerPut(part: FilePart): object {
  try {
    return putPart(part)
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    if (code === undefined || !/^E[A-Z]+$/.test(code)) throw error
    return { failed: code, message }
  }
}

/** Takes a part. Throws what `node:fs` would: then nothing of this file is left. */
function putPart(given: FilePart): { readonly size: number } {
  if (given.part === 0) dropLeft(given)
  try {
    return change('open', given.path, () => take(given))
  } catch (error) {
    const left = putting.get(given.path)
    if (left?.put === given.put) {
      change('unlink', given.path, () => destroy(left.id))
      putting.delete(given.path)
    }
    throw error
  }
}

/**
 * What nobody brings the rest of: an earlier put of this file, and those of a run that has ended. A change of
 * its own, which stands whatever becomes of the part.
 */
function dropLeft({ path, put }: FilePart): void {
  const left = [...putting].filter(([of, other]) => of === path || runOf(other.put) !== runOf(put))
  if (left.length === 0) return
  change('unlink', path, () => {
    for (const [, { id }] of left) destroy(id)
  })
  for (const [of] of left) putting.delete(of)
}

function take({ path, put, part, chunks, last }: FilePart): { readonly size: number } {
  const before = part === 0 ? begin(path, put) : putting.get(path)
  // Somebody else has begun to put this file.
  if (before?.put !== put || before.parts !== part) throw fsError('ESTALE', 'write', path)
  let { size } = before
  for (const hex of chunks) {
    insertChunk(before.id, size / CHUNK, hex)
    size += hex.length / 2
  }
  setSize(before.id, size)
  putting.set(path, { ...before, parts: part + 1, size })
  if (last) settle(path, before.id)
  return { size }
}

function begin(path: string, put: string): Putting {
  const there = place(path).entry
  if (there?.kind === 'dir' || path.endsWith('/')) throw fsError('EISDIR', 'open', path)
  return { put, id: makeNameless(MODE), parts: 0, size: 0 }
}

function runOf(put: string): string {
  return put.split('/')[0] as string
}

/** Where a file is to stand; directories on the way are made. */
function place(path: string): ReturnType<typeof walk> {
  const parts = [...path.matchAll(/[^/]+/g)].slice(0, -1)
  for (const part of parts) {
    const above = walk(path.slice(0, part.index + part[0].length), 'mkdir')
    if (!above.entry) make(above, 'dir', 0o755)
  }
  return walk(path, 'open')
}

/** Whoever has the file open that was there before reads the new bytes from then on. */
function settle(path: string, id: number): void {
  const found = place(path)
  if (found.entry?.kind === 'dir') throw fsError('EISDIR', 'open', path)
  if (found.entry) overwrite(found.entry.id, id)
  else move(entryOf(id) as Entry, found)
  putting.delete(path)
}
