/**
 * The bytes of a segment file, version 2. `docs/log-format.md` says the same for other programs.
 *
 * A segment is a format page and then frames: entries, each followed by its payloads, and after
 * every batch a commit. All integers are little-endian. A frame never begins with a zero byte, so
 * zeros after the last commit are room, not data.
 *
 *   frame    u8 0xC1, u8 type, u16 version, u32 body length, body
 *   entry    agent 16, seq u64, previous position u64, time ms u64, previous hash 32,
 *            u8 kind length, u8 payload count, u16 0, u32 meta length, kind, meta (JSON), digests
 *   payload  digest 32, key slot u64, iv 12, tag 16, AES-256-GCM of (salt 16, bytes)
 *   commit   previous commit hash 32, Merkle root 32, first position u64, time ms u64,
 *            u32 entries, u32 bytes, signature 64, 0xC1C1C1C1
 */
import { hash } from 'node:crypto'

export const FORMAT_VERSION = 2
export const PAGE_BYTES = 4096
export const MAX_SEGMENT_BYTES = 1 << 30
export const FRAME_BYTES = 8
const MARK = 0xc1
export const ENTRY = 1
export const PAYLOAD = 2
export const COMMIT = 3
const ENTRY_FIXED = 80
const PAYLOAD_FIXED = 68
const SALT_BYTES = 16
const SIGNED_BYTES = 88
const COMMIT_BODY = SIGNED_BYTES + 64 + 4
export const COMMIT_FRAME = FRAME_BYTES + COMMIT_BODY
export const ZERO_HASH = Buffer.alloc(32)

/** A place in the log: segment number × 2^32 + byte offset. Node order, and directly a file and an offset. */
export type Pos = number & { readonly __brand: 'Pos' }
/** An agent's own count of its entries, from 1. */
export type Seq = number & { readonly __brand: 'Seq' }

const SEGMENT_STRIDE = 2 ** 32
export const NO_POS = 0 as Pos

export function toPos(segment: number, offset: number): Pos {
  return (segment * SEGMENT_STRIDE + offset) as Pos
}
export function segmentOf(pos: Pos): number {
  return Math.floor(pos / SEGMENT_STRIDE)
}
export function offsetOf(pos: Pos): number {
  return pos % SEGMENT_STRIDE
}
export function segmentName(segment: number): string {
  return `${String(segment).padStart(10, '0')}.seg`
}

/** SHA-256. Taken as a string first: a digest that Node returns as a buffer costs twice as much. */
export function sha256(bytes: Uint8Array): Buffer {
  return Buffer.from(hash('sha256', bytes, 'binary'), 'latin1')
}

export interface EntryHeader {
  readonly agent: Buffer
  readonly seq: Seq
  readonly prev: Pos
  readonly timeMs: number
  readonly prevHash: Buffer
  readonly kind: string
  readonly meta: string
  readonly digests: readonly Buffer[]
}

function writeU64(out: Buffer, value: number, at: number): void {
  out.writeUInt32LE(value % 2 ** 32, at)
  out.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4)
}
function readU64(from: Buffer, at: number): number {
  return from.readUInt32LE(at + 4) * 2 ** 32 + from.readUInt32LE(at)
}

function writeFrame(out: Buffer, at: number, type: number, length: number): number {
  out[at] = MARK
  out[at + 1] = type
  out.writeUInt16LE(FORMAT_VERSION, at + 2)
  out.writeUInt32LE(length, at + 4)
  return at + FRAME_BYTES
}

export interface Frame {
  readonly type: number
  readonly bodyAt: number
  readonly end: number
}

/** The frame at `at`, or why there is none. Bounds are checked; the body is not. */
export function readFrame(from: Buffer, at: number): Frame | 'end' | 'room' | 'bad' {
  if (at + FRAME_BYTES > from.length) return 'end'
  if (from[at] === 0) return 'room'
  const type = from[at + 1] as number
  const end = at + FRAME_BYTES + from.readUInt32LE(at + 4)
  const known = type >= ENTRY && type <= COMMIT && from.readUInt16LE(at + 2) === FORMAT_VERSION
  if (from[at] !== MARK || !known || end > from.length) return 'bad'
  return { type, bodyAt: at + FRAME_BYTES, end }
}

export function entryBytes(kind: string, metaBytes: number, payloads: number): number {
  return FRAME_BYTES + ENTRY_FIXED + kind.length + metaBytes + 32 * payloads
}

/** Writes an entry frame and returns where it ends. `metaBytes` is the UTF-8 length of the meta. */
export function writeEntry(out: Buffer, at: number, e: EntryHeader, metaBytes: number): number {
  const body = writeFrame(out, at, ENTRY, entryBytes(e.kind, metaBytes, e.digests.length) - FRAME_BYTES)
  e.agent.copy(out, body)
  writeU64(out, e.seq, body + 16)
  writeU64(out, e.prev, body + 24)
  writeU64(out, e.timeMs, body + 32)
  e.prevHash.copy(out, body + 40)
  out[body + 72] = e.kind.length
  out[body + 73] = e.digests.length
  out.writeUInt16LE(0, body + 74)
  out.writeUInt32LE(metaBytes, body + 76)
  let next = body + ENTRY_FIXED
  next += out.write(e.kind, next, 'latin1')
  next += out.write(e.meta, next, 'utf8')
  for (const digest of e.digests) next += digest.copy(out, next)
  return next
}

/** The header in an entry's body, or undefined if its lengths do not add up. */
export function readEntry(body: Buffer): EntryHeader | undefined {
  if (body.length < ENTRY_FIXED) return undefined
  const kindEnd = ENTRY_FIXED + (body[72] as number)
  const metaEnd = kindEnd + body.readUInt32LE(76)
  const count = body[73] as number
  if (body.readUInt16LE(74) !== 0 || metaEnd + 32 * count !== body.length) return undefined
  const digests = Array.from({ length: count }, (_, i) =>
    body.subarray(metaEnd + 32 * i, metaEnd + 32 * (i + 1)),
  )
  return {
    agent: body.subarray(0, 16),
    seq: readU64(body, 16) as Seq,
    prev: readU64(body, 24) as Pos,
    timeMs: readU64(body, 32),
    prevHash: body.subarray(40, 72),
    kind: body.toString('latin1', ENTRY_FIXED, kindEnd),
    meta: body.toString('utf8', kindEnd, metaEnd),
    digests,
  }
}

/** Bytes that an entry takes in the log, its payloads included. */
export function sizeOfEntry(kind: string, meta: string, payloads: readonly Buffer[]): number {
  return payloads.reduce(
    (size, payload) => size + payloadBytes(payload.length),
    entryBytes(kind, Buffer.byteLength(meta), payloads.length),
  )
}

export function payloadBytes(length: number): number {
  return FRAME_BYTES + PAYLOAD_FIXED + SALT_BYTES + length
}

/** Writes a payload frame with its content still in clear; `sealPayload` encrypts it in place. */
export function writePayload(
  out: Buffer,
  at: number,
  p: { digest: Buffer; slot: number; salt: Buffer; bytes: Buffer },
): number {
  const body = writeFrame(out, at, PAYLOAD, PAYLOAD_FIXED + SALT_BYTES + p.bytes.length)
  p.digest.copy(out, body)
  writeU64(out, p.slot, body + 32)
  let next = body + PAYLOAD_FIXED
  next += p.salt.copy(out, next)
  next += p.bytes.copy(out, next)
  return next
}

export interface PayloadParts {
  readonly digest: Buffer
  readonly slot: number
  readonly iv: Buffer
  readonly tag: Buffer
  readonly sealed: Buffer
}

export function readPayload(body: Buffer): PayloadParts | undefined {
  if (body.length < PAYLOAD_FIXED + SALT_BYTES) return undefined
  return {
    digest: body.subarray(0, 32),
    slot: readU64(body, 32),
    iv: body.subarray(40, 52),
    tag: body.subarray(52, 68),
    sealed: body.subarray(PAYLOAD_FIXED),
  }
}

export interface CommitRecord {
  readonly prev: Buffer
  readonly root: Buffer
  readonly first: Pos
  readonly timeMs: number
  readonly entries: number
  readonly bytes: number
  readonly signature: Buffer
}

/** Writes a commit frame; `sign` gets the bytes that the signature covers. */
export function writeCommit(
  out: Buffer,
  at: number,
  c: Omit<CommitRecord, 'signature'>,
  sign: (bytes: Buffer) => Buffer,
): number {
  const body = writeFrame(out, at, COMMIT, COMMIT_BODY)
  c.prev.copy(out, body)
  c.root.copy(out, body + 32)
  writeU64(out, c.first, body + 64)
  writeU64(out, c.timeMs, body + 72)
  out.writeUInt32LE(c.entries, body + 80)
  out.writeUInt32LE(c.bytes, body + 84)
  sign(out.subarray(body, body + SIGNED_BYTES)).copy(out, body + SIGNED_BYTES)
  out.writeUInt32LE(0xc1c1c1c1, body + SIGNED_BYTES + 64)
  return body + COMMIT_BODY
}

export function readCommit(body: Buffer): CommitRecord | undefined {
  if (body.length !== COMMIT_BODY || body.readUInt32LE(SIGNED_BYTES + 64) !== 0xc1c1c1c1) return undefined
  return {
    prev: body.subarray(0, 32),
    root: body.subarray(32, 64),
    first: readU64(body, 64) as Pos,
    timeMs: readU64(body, 72),
    entries: body.readUInt32LE(80),
    bytes: body.readUInt32LE(84),
    signature: body.subarray(SIGNED_BYTES, SIGNED_BYTES + 64),
  }
}

/** What a commit's signature covers. */
export function signedPart(body: Buffer): Buffer {
  return body.subarray(0, SIGNED_BYTES)
}

/**
 * Merkle root over the leaves' hashes, pairwise, an odd one carried up. A node is hashed behind the
 * byte 0x01; a leaf is frames, which begin with 0xC1, so nobody can pass one for the other.
 */
export function merkleRoot(leaves: readonly Uint8Array[]): Buffer {
  let level = leaves.map((leaf) => hash('sha256', leaf, 'binary'))
  const node = Buffer.alloc(65, 1)
  while (level.length > 1) {
    const next: string[] = []
    for (let i = 0; i < level.length; i += 2) {
      const [a, b] = [level[i] as string, level[i + 1]]
      if (b !== undefined) {
        node.write(a, 1, 'latin1')
        node.write(b, 33, 'latin1')
      }
      next.push(b === undefined ? a : hash('sha256', node, 'binary'))
    }
    level = next
  }
  return level[0] === undefined ? ZERO_HASH : Buffer.from(level[0], 'latin1')
}
