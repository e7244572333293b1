/** Reading single entries back, by position. Holds segments open until `close`. */
import fs from 'node:fs'
import path from 'node:path'
import { corrupt } from './errors.ts'
import {
  FRAME_BYTES,
  MAX_SEGMENT_BYTES,
  offsetOf,
  type Pos,
  readEntry,
  readFrame,
  readPayload,
  segmentName,
  segmentOf,
  sha256,
} from './format.ts'
import { openPayload, type PayloadKey } from './keys.ts'
import type { ScannedEntry } from './scan.ts'

export interface Entry extends Omit<ScannedEntry, 'bytes'> {
  /** Decrypts the payloads; throws `KeyDestroyed` if their key is gone. */
  payloads(keyOf: (slot: number) => PayloadKey): Buffer[]
}

/** Agents that sleep lie in all of the log: a file opened for each costs more than what is read of it. */
export const MAX_OPEN_SEGMENTS = 128
const FIRST_READ = 1024

export class Reader {
  readonly #folder: string
  readonly #files = new Map<number, number>()

  constructor(folder: string) {
    this.#folder = folder
  }

  /** The entry that begins at `pos`, which must be durable. Its hash is of the bytes read; compare it with what you know. */
  read(pos: Pos): Entry {
    const segment = segmentOf(pos)
    const name = segmentName(segment)
    const offset = offsetOf(pos)
    const body = readBody(this.#file(segment), offset, name)
    const header = readEntry(body)
    if (!header) throw corrupt(name, offset, 'an entry whose lengths do not add up')
    const payloads = (keyOf: (slot: number) => PayloadKey) => {
      let at = offset + FRAME_BYTES + body.length
      // Whoever asks may do so late: by then the segment may be closed, and its descriptor another one's.
      const fd = this.#file(segment)
      return header.digests.map((digest) => {
        const content = readBody(fd, at, name)
        const parts = readPayload(content)
        if (!parts?.digest.equals(digest)) throw corrupt(name, at, 'a payload that its entry does not name')
        at += FRAME_BYTES + content.length
        return openPayload(parts, content.subarray(0, 40), keyOf(parts.slot).key)
      })
    }
    return { pos, hash: sha256(body), header, payloads }
  }

  close(): void {
    for (const fd of this.#files.values()) fs.closeSync(fd)
    this.#files.clear()
  }

  #file(segment: number): number {
    const known = this.#files.get(segment)
    // The one that was used longest ago is the first.
    if (known !== undefined) this.#files.delete(segment)
    if (this.#files.size >= MAX_OPEN_SEGMENTS) this.#closeOne()
    const fd = known ?? this.#open(segment)
    this.#files.set(segment, fd)
    return fd
  }

  /** Where the process has no descriptor left, it takes one of its own. */
  #open(segment: number): number {
    for (;;) {
      try {
        return fs.openSync(path.join(this.#folder, segmentName(segment)), 'r')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EMFILE' || this.#files.size === 0) throw error
        this.#closeOne()
      }
    }
  }

  #closeOne(): void {
    const [segment, fd] = this.#files.entries().next().value as [number, number]
    fs.closeSync(fd)
    this.#files.delete(segment)
  }
}

function readBody(fd: number, offset: number, name: string): Buffer {
  const guess = Buffer.allocUnsafe(FIRST_READ)
  const got = fs.readSync(fd, guess, 0, guess.length, offset)
  if (got < FRAME_BYTES) throw corrupt(name, offset, 'the file ends here')
  const length = guess.readUInt32LE(4)
  let bytes = guess.subarray(0, FRAME_BYTES + length)
  if (FRAME_BYTES + length > got) {
    if (length > MAX_SEGMENT_BYTES) throw corrupt(name, offset, 'a frame longer than any segment')
    bytes = Buffer.allocUnsafe(FRAME_BYTES + length)
    fs.readSync(fd, bytes, 0, bytes.length, offset)
  }
  const frame = readFrame(bytes, 0)
  if (typeof frame === 'string') throw corrupt(name, offset, 'no frame begins here')
  return bytes.subarray(FRAME_BYTES)
}
