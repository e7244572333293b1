/**
 * Proof that one entry stands in a signed log, for whoever has neither the log nor anything else of the node
 * than its public key: the entry's frames, the way up the Merkle tree of its commit, and the signed commit.
 */
import { hash, type KeyObject, verify } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { corrupt } from './errors.ts'
import {
  COMMIT,
  ENTRY,
  type EntryHeader,
  FRAME_BYTES,
  offsetOf,
  type Pos,
  readCommit,
  readEntry,
  readFrame,
  readPayload,
  segmentName,
  segmentOf,
  signedPart,
} from './format.ts'
import { openSalted, type PayloadKey, payloadDigest } from './keys.ts'

/** What stands beside on the way up, from the leaf. */
type Step = readonly [side: 'left' | 'right', hash: string]

export interface Inclusion {
  /** The entry's frame with the frames of its payloads, which stay encrypted; base64. */
  readonly frames: string
  readonly path: readonly Step[]
  /** Body of the commit frame; base64. */
  readonly commit: string
}

/** A payload that was opened for whoever reads the proof: with its salt it answers to the digest in the entry. */
export interface Disclosed {
  readonly index: number
  readonly salt: string
  readonly bytes: string
}

/** Proves the entry at `pos`, which must be durable. */
export function proveEntry(folder: string, pos: Pos): Inclusion {
  const name = segmentName(segmentOf(pos))
  const segment = fs.readFileSync(path.join(folder, name))
  const commit = commitBehind(segment, offsetOf(pos), name)
  const record = readCommit(commit.body)
  if (!record) throw corrupt(name, commit.at, 'a commit that is none')
  const leaves = leavesOf(segment, offsetOf(record.first), commit.at, name)
  const index = leaves.findIndex(([from]) => from === offsetOf(pos))
  if (index < 0) throw corrupt(name, offsetOf(pos), 'no entry begins here')
  const [from, to] = leaves[index] as [number, number]
  return {
    frames: segment.subarray(from, to).toString('base64'),
    path: wayUp(
      leaves.map(([a, b]) => segment.subarray(a, b)),
      index,
    ),
    commit: commit.body.toString('base64'),
  }
}

/** The entry, if it stands in a commit that the key has signed. */
export function checkInclusion(
  { frames, path: steps, commit }: Inclusion,
  key: KeyObject,
): { readonly header: EntryHeader; readonly committedMs: number } | undefined {
  const leaf = Buffer.from(frames, 'base64')
  const body = Buffer.from(commit, 'base64')
  const record = readCommit(body)
  if (!record || !verify(null, signedPart(body), key, record.signature)) return undefined
  let at = hash('sha256', leaf, 'buffer')
  for (const [side, text] of steps) {
    const other = Buffer.from(text, 'hex')
    if (other.length !== 32) return undefined
    const pair = side === 'left' ? [other, at] : [at, other]
    at = hash('sha256', Buffer.concat([Buffer.of(1), ...pair]), 'buffer')
  }
  if (!at.equals(record.root)) return undefined
  const frame = readFrame(leaf, 0)
  if (typeof frame === 'string' || frame.type !== ENTRY) return undefined
  const header = readEntry(leaf.subarray(FRAME_BYTES, frame.end))
  return header && { header, committedMs: record.timeMs }
}

/** Opens payloads of a proven entry. */
export function disclose(
  { frames }: Inclusion,
  which: readonly number[],
  keyOf: (slot: number) => PayloadKey,
): Disclosed[] {
  const leaf = Buffer.from(frames, 'base64')
  const bodies: Buffer[] = []
  for (let at = 0; at < leaf.length; ) {
    const frame = readFrame(leaf, at)
    if (typeof frame === 'string') break
    if (frame.type !== ENTRY) bodies.push(leaf.subarray(frame.bodyAt, frame.end))
    at = frame.end
  }
  return which.flatMap((index) => {
    const body = bodies[index]
    const parts = body && readPayload(body)
    if (!body || !parts) return []
    const { salt, bytes } = openSalted(parts, body.subarray(0, 40), keyOf(parts.slot).key)
    return [{ index, salt: salt.toString('hex'), bytes: bytes.toString('base64') }]
  })
}

/** The bytes of a disclosed payload, if they answer to the digest that the entry holds. */
export function checkDisclosed(
  { digests }: EntryHeader,
  { index, salt, bytes }: Disclosed,
): Buffer | undefined {
  const content = Buffer.from(bytes, 'base64')
  const digest = digests[index]
  return digest?.equals(payloadDigest(Buffer.from(salt, 'hex'), content)) ? content : undefined
}

function commitBehind(segment: Buffer, from: number, name: string): { at: number; body: Buffer } {
  for (let at = from; ; ) {
    const frame = readFrame(segment, at)
    if (typeof frame === 'string') throw corrupt(name, at, 'no commit stands behind this entry')
    if (frame.type === COMMIT) return { at, body: segment.subarray(frame.bodyAt, frame.end) }
    at = frame.end
  }
}

/** Where each entry of a batch begins, and ends with its payloads. */
function leavesOf(segment: Buffer, from: number, to: number, name: string): [number, number][] {
  const leaves: [number, number][] = []
  for (let at = from; at < to; ) {
    const frame = readFrame(segment, at)
    if (typeof frame === 'string') throw corrupt(name, at, 'no frame begins here')
    const last = leaves.at(-1)
    if (frame.type === ENTRY) leaves.push([at, frame.end])
    else if (last) last[1] = frame.end
    at = frame.end
  }
  return leaves
}

function wayUp(leaves: readonly Buffer[], index: number): Step[] {
  const steps: Step[] = []
  let level: Buffer[] = leaves.map((leaf) => hash('sha256', leaf, 'buffer'))
  for (let at = index; level.length > 1; at >>= 1) {
    const beside = level[at ^ 1]
    // One without a neighbour is carried up as it is.
    if (beside) steps.push([at % 2 === 1 ? 'left' : 'right', beside.toString('hex')])
    const next: Buffer[] = []
    for (let i = 0; i < level.length; i += 2) {
      const [a, b] = [level[i] as Buffer, level[i + 1]]
      next.push(b ? hash('sha256', Buffer.concat([Buffer.of(1), a, b]), 'buffer') : a)
    }
    level = next
  }
  return steps
}
