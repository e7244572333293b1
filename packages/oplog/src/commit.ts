/**
 * Writing one batch: encrypt its payloads, append the commit record, write, sync.
 *
 * Runs on the log's own thread, blocking; there is never more than one batch in flight. Nothing
 * here is retried: after a failed write or sync the thread reports and does no more.
 */
import { type KeyObject, randomFillSync, sign } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { syncFolder, writeAll } from './files.ts'
import {
  COMMIT_FRAME,
  FORMAT_VERSION,
  FRAME_BYTES,
  merkleRoot,
  offsetOf,
  type Pos,
  segmentName,
  segmentOf,
  sha256,
  writeCommit,
} from './format.ts'
import { sealPayload } from './keys.ts'
import { encodePage } from './page.ts'

/** A closed batch as the kernel's thread hands it over; the buffer changes owner. */
export interface Batch {
  readonly base: Pos
  /** Frames, and room for the commit frame at the end. */
  readonly bytes: Uint8Array
  readonly timeMs: number
  /** Where each entry begins; it ends, with its payloads, where the next begins. */
  readonly starts: Uint32Array
  /** Pairs of payload body offset and length; the key of each is in `keys`, 32 bytes each. */
  readonly seals: Uint32Array
  readonly keys: Uint8Array
  /** Key records were written that must be durable before this batch. */
  readonly syncKeys: boolean
}

/** The sync of a batch, or of the folder after a new segment got its name. */
export type SkippedSync = 'batch' | 'folder'

export interface WriterOptions {
  readonly folder: string
  readonly node: string
  readonly publicHex: string
  readonly privateKey: KeyObject
  readonly segmentBytes: number
  readonly keySlots: number
  readonly lastCommit: Uint8Array
  readonly segment: number
  /** Leave one sync out: only for the tests that show that the power-cut sweep would notice. */
  readonly skipSync: SkippedSync | undefined
}

const IV_BYTES = 12
const SPARE = 'spare'
const MAKING = 'making'
const ZEROS = Buffer.alloc(1 << 20)

/** Appends batches to segments. Holds one open segment until `close`. */
export class Writer {
  readonly #options: WriterOptions
  #segment: number
  #fd: number
  #lastCommit: Buffer

  constructor(options: WriterOptions) {
    this.#options = options
    this.#segment = options.segment
    this.#lastCommit = Buffer.from(options.lastCommit)
    const file = path.join(options.folder, segmentName(options.segment))
    this.#fd = fs.existsSync(file) ? fs.openSync(file, 'r+') : this.#create(options.segment)
  }

  get lastCommit(): Buffer {
    return this.#lastCommit
  }

  /** Writes a batch durably. The order is: key records, then the batch, then the caller may be told. */
  write(batch: Batch): void {
    if (batch.syncKeys) fs.fdatasyncSync(this.#options.keySlots)
    const segment = segmentOf(batch.base)
    if (segment !== this.#segment) this.#rotate(segment)
    const bytes = Buffer.from(batch.bytes.buffer, batch.bytes.byteOffset, batch.bytes.byteLength)
    seal(bytes, batch)
    const body = this.#commit(bytes, batch)
    writeAll(this.#fd, bytes, offsetOf(batch.base))
    if (this.#options.skipSync !== 'batch') fs.fdatasyncSync(this.#fd)
    this.#lastCommit = sha256(body)
  }

  close(): void {
    fs.closeSync(this.#fd)
  }

  #commit(bytes: Buffer, batch: Batch): Buffer {
    const end = bytes.length - COMMIT_FRAME
    const leaves: Buffer[] = []
    for (let i = 0; i < batch.starts.length; i++) {
      leaves.push(bytes.subarray(batch.starts[i], i + 1 < batch.starts.length ? batch.starts[i + 1] : end))
    }
    const record = {
      prev: this.#lastCommit,
      root: merkleRoot(leaves),
      first: batch.base,
      timeMs: batch.timeMs,
      entries: leaves.length,
      bytes: end,
    }
    writeCommit(bytes, end, record, (covered) => sign(null, covered, this.#options.privateKey))
    return bytes.subarray(end + FRAME_BYTES)
  }

  #rotate(segment: number): void {
    fs.closeSync(this.#fd)
    this.#fd = this.#create(segment)
    this.#segment = segment
  }

  /** A new segment: the spare that was prepared, or one made now; its name and page are durable before its first batch. */
  #create(segment: number): number {
    const { folder, segmentBytes } = this.#options
    const file = path.join(folder, segmentName(segment))
    const spare = path.join(folder, SPARE)
    // Claimed by renaming: the kernel's thread may be preparing the next spare at this moment.
    const making = path.join(folder, MAKING)
    if (fs.existsSync(spare)) fs.renameSync(spare, making)
    else fillZeros(making, segmentBytes)
    const fd = fs.openSync(making, 'r+')
    const { node, publicHex, privateKey } = this.#options
    const page = {
      version: FORMAT_VERSION,
      node,
      segment,
      prevCommit: this.#lastCommit.toString('hex'),
      created: new Date().toISOString(),
      algorithm: 'ed25519' as const,
      publicKey: publicHex,
    }
    writeAll(fd, encodePage(page, privateKey), 0)
    fs.fsyncSync(fd)
    // The name comes last: a file that is called a segment always has its page.
    fs.renameSync(making, file)
    if (this.#options.skipSync !== 'folder') syncFolder(folder)
    return fd
  }
}

function seal(bytes: Buffer, batch: Batch): void {
  const count = batch.seals.length / 2
  const ivs = randomFillSync(Buffer.allocUnsafe(count * IV_BYTES))
  for (let i = 0; i < count; i++) {
    const at = batch.seals[2 * i] as number
    const key = Buffer.from(batch.keys.buffer, batch.keys.byteOffset + 32 * i, 32)
    const body = bytes.subarray(at, at + (batch.seals[2 * i + 1] as number))
    sealPayload(body, key, ivs.subarray(i * IV_BYTES, (i + 1) * IV_BYTES))
  }
}

function fillZeros(file: string, size: number): void {
  const fd = fs.openSync(file, 'w', 0o600)
  try {
    for (let at = 0; at < size; at += ZEROS.length)
      writeAll(fd, ZEROS.subarray(0, Math.min(ZEROS.length, size - at)), at)
    fs.fsyncSync(fd)
  } catch (error) {
    fs.rmSync(file, { force: true })
    throw error
  } finally {
    fs.closeSync(fd)
  }
}

/** Prepares the next segment off the log's thread, so that a rotation costs a rename. */
export async function prepareSpare(folder: string, size: number): Promise<void> {
  const spare = path.join(folder, SPARE)
  if (fs.existsSync(spare)) return
  const temporary = `${spare}.new`
  const file = await fs.promises.open(temporary, 'w', 0o600)
  try {
    for (let at = 0; at < size; at += ZEROS.length)
      await file.write(ZEROS, 0, Math.min(ZEROS.length, size - at), at)
    await file.sync()
    await file.close()
    await fs.promises.rename(temporary, spare)
  } catch (error) {
    await file.close().catch(() => {})
    await fs.promises.rm(temporary, { force: true })
    throw error
  }
}
