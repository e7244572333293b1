/**
 * An insider who has the node's signing key: rewrites a log's first segment and signs every commit
 * anew. What still stops them is what the tests of threat 44 are about.
 */
import { sign } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { layout } from '@cardinal/kernel'
import { openNodeKey, sha256, ZERO_HASH } from '@cardinal/oplog'
import {
  COMMIT,
  COMMIT_FRAME,
  ENTRY,
  FRAME_BYTES,
  merkleRoot,
  PAGE_BYTES,
  readCommit,
  readEntry,
  readFrame,
  toPos,
  writeCommit,
} from '../../packages/oplog/src/format.ts'
import { headText } from '../../packages/oplog/src/head.ts'

/** An entry's frame with the frames of its payloads. */
export interface ForgedEntry {
  bytes: Buffer
  readonly agent: string
  readonly seq: number
  readonly kind: string
  readonly meta: string
}

export interface ForgedBatch {
  readonly timeMs: number
  entries: ForgedEntry[]
}

/** Rewrites the log of a closed node. `heads` are the files that the insider can also rewrite. */
export function forge(
  data: string,
  change: (batches: ForgedBatch[]) => ForgedBatch[],
  heads: string[],
): void {
  const folder = layout(data)
  const key = openNodeKey(folder.keys)
  const file = path.join(folder.log, '0000000001.seg')
  const bytes = fs.readFileSync(file)
  const batches = change(readBatches(bytes))
  bytes.fill(0, PAGE_BYTES)
  let at = PAGE_BYTES
  let prev: Buffer = ZERO_HASH
  for (const { timeMs, entries } of batches) {
    const leaves = entries.map((e) => e.bytes)
    const whole = Buffer.concat(leaves)
    whole.copy(bytes, at)
    const record = {
      prev,
      root: merkleRoot(leaves),
      first: toPos(1, at),
      timeMs,
      entries: leaves.length,
      bytes: whole.length,
    }
    at = writeCommit(bytes, at + whole.length, record, (covered) => sign(null, covered, key.privateKey))
    prev = sha256(bytes.subarray(at - COMMIT_FRAME + FRAME_BYTES, at))
  }
  fs.writeFileSync(file, bytes)
  const text = headText({ end: toPos(1, at), commit: prev.toString('hex') }, key.node, key.privateKey)
  for (const head of heads) fs.writeFileSync(head, text)
}

function readBatches(bytes: Buffer): ForgedBatch[] {
  const batches: ForgedBatch[] = []
  let entries: ForgedEntry[] = []
  for (let at = PAGE_BYTES; ; ) {
    const frame = readFrame(bytes, at)
    if (typeof frame === 'string') return batches
    const whole = Buffer.from(bytes.subarray(at, frame.end))
    const last = entries.at(-1)
    if (frame.type === COMMIT) {
      const record = readCommit(bytes.subarray(frame.bodyAt, frame.end))
      batches.push({ timeMs: record?.timeMs ?? 0, entries })
      entries = []
    } else if (frame.type === ENTRY) {
      const header = readEntry(bytes.subarray(frame.bodyAt, frame.end))
      if (!header) throw new Error('a log that does not parse cannot be forged')
      const { agent, seq, kind, meta } = header
      entries.push({ bytes: whole, agent: agent.toString('hex'), seq, kind, meta })
    } else if (last) last.bytes = Buffer.concat([last.bytes, whole])
    at = frame.end
  }
}
