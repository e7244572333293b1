/**
 * The batch that entries are being written into, in memory: frames with payloads still in clear, and
 * what the log's thread needs to seal them. Handed over whole by `close`; its memory is its own.
 */
import { randomFillSync } from 'node:crypto'
import type { Batch } from './commit.ts'
import { assert } from './errors.ts'
import {
  COMMIT_FRAME,
  type EntryHeader,
  FRAME_BYTES,
  type Pos,
  type Seq,
  sha256,
  writeEntry,
  writePayload,
} from './format.ts'
import { type PayloadKey, payloadDigest } from './keys.ts'

/** The last entry of one agent: what its next entry must follow. */
export interface Tip {
  readonly pos: Pos
  readonly seq: Seq
  readonly hash: Buffer
}

export interface NewEntry {
  readonly agent: Buffer
  readonly tip: Tip
  readonly kind: string
  readonly timeMs: number
  /** JSON without secrets or payloads: it is readable to whoever has the file. */
  readonly meta: string
  readonly payloads: readonly Buffer[]
  readonly key?: PayloadKey
}

const SALT_BYTES = 16
const SALTS_AT_ONCE = 256

/** Random salts, drawn many at a time: asking for few bytes costs as much as for many. */
export class Salts {
  #bytes = Buffer.alloc(0)
  #at = 0

  next(): Buffer {
    if (this.#at >= this.#bytes.length) {
      this.#bytes = randomFillSync(Buffer.allocUnsafe(SALT_BYTES * SALTS_AT_ONCE))
      this.#at = 0
    }
    this.#at += SALT_BYTES
    return this.#bytes.subarray(this.#at - SALT_BYTES, this.#at)
  }
}

export class OpenBatch {
  readonly base: Pos
  readonly #salts: Salts
  #buffer: Buffer
  #used = 0
  readonly #starts: number[] = []
  readonly #seals: number[] = []
  readonly #keys: Buffer[] = []

  /** An empty batch at `base`, with room for `bytes` before it must grow. */
  constructor(base: Pos, salts: Salts, bytes: number) {
    this.base = base
    this.#salts = salts
    this.#buffer = Buffer.from(new ArrayBuffer(bytes))
  }

  get used(): number {
    return this.#used
  }
  get entries(): number {
    return this.#starts.length
  }
  /** Bytes that the batch will take in its segment, its commit included. */
  get bytes(): number {
    return this.#used + COMMIT_FRAME
  }

  /** Writes an entry of exactly `size` bytes, payloads included, and returns its agent's new tip. */
  write(entry: NewEntry, size: number, metaBytes: number): Tip {
    const at = this.#used
    this.#reserve(size + COMMIT_FRAME)
    const salts = entry.payloads.map(() => this.#salts.next())
    const header: EntryHeader = {
      agent: entry.agent,
      seq: (entry.tip.seq + 1) as Seq,
      prev: entry.tip.pos,
      timeMs: entry.timeMs,
      prevHash: entry.tip.hash,
      kind: entry.kind,
      meta: entry.meta,
      digests: entry.payloads.map((bytes, i) => payloadDigest(salts[i] as Buffer, bytes)),
    }
    let end = writeEntry(this.#buffer, at, header, metaBytes)
    const hash = sha256(this.#buffer.subarray(at + FRAME_BYTES, end))
    entry.payloads.forEach((bytes, i) => {
      assert(entry.key, 'payloads come with the key they are encrypted under')
      const from = end
      const { slot, key } = entry.key
      const parts = { digest: header.digests[i] as Buffer, slot, salt: salts[i] as Buffer, bytes }
      end = writePayload(this.#buffer, from, parts)
      this.#seals.push(from + FRAME_BYTES, end - from - FRAME_BYTES)
      this.#keys.push(key)
    })
    assert(end === at + size, 'an entry takes the bytes that were counted for it')
    this.#starts.push(at)
    this.#used = end
    return { pos: (this.base + at) as Pos, seq: header.seq, hash }
  }

  /** The batch as the log's thread takes it. The memory goes with it: nothing is written here again. */
  close(timeMs: number, syncKeys: boolean): Batch {
    return {
      base: this.base,
      bytes: this.#buffer.subarray(0, this.bytes),
      timeMs,
      starts: Uint32Array.from(this.#starts),
      seals: Uint32Array.from(this.#seals),
      keys: Buffer.concat(this.#keys),
      syncKeys,
    }
  }

  #reserve(more: number): void {
    const needed = this.#used + more
    if (needed <= this.#buffer.length) return
    const grown = Buffer.from(new ArrayBuffer(Math.max(needed, this.#buffer.length * 2)))
    this.#buffer.copy(grown, 0, 0, this.#used)
    this.#buffer = grown
  }
}
