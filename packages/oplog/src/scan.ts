/**
 * Reading a log, from its first byte or from a segment on: every frame, every chain, every commit.
 *
 * From a segment on, what its page says of the commit before it is taken as it is signed there, and an agent's
 * entry is looked at where the first one after it says that it stands; the rest of what lies before is not read.
 *
 * A torn end (an unfinished batch after the last complete commit) is what a power cut leaves, and
 * is reported; anything else that does not check throws `Corrupt` with file and byte.
 */
import { type KeyObject, verify } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { corrupt } from './errors.ts'
import {
  COMMIT,
  COMMIT_FRAME,
  type CommitRecord,
  ENTRY,
  type EntryHeader,
  FORMAT_VERSION,
  type Frame,
  merkleRoot,
  NO_POS,
  offsetOf,
  PAGE_BYTES,
  PAYLOAD,
  type Pos,
  readCommit,
  readEntry,
  readFrame,
  readPayload,
  type Seq,
  segmentName,
  segmentOf,
  sha256,
  signedPart,
  toPos,
  ZERO_HASH,
} from './format.ts'
import { decodePage } from './page.ts'
import { Reader } from './reader.ts'

const SECTOR = 512

export interface ScannedEntry {
  readonly pos: Pos
  readonly hash: Buffer
  readonly header: EntryHeader
  /** Of the entry and its payloads, in the log. */
  readonly bytes: number
}

export interface Scan {
  readonly segments: number
  readonly entries: number
  readonly commits: number
  readonly agents: number
  /** Just behind the last complete commit; where the next batch goes. */
  readonly end: Pos
  readonly lastCommit: Buffer
  /** Bytes of an unfinished batch behind `end`, to be zeroed before anything is appended. */
  readonly torn: number
  /** Hash of the commit that ends exactly there, if one does. */
  commitAt(end: Pos): string | undefined
}

export interface ScanOptions {
  readonly node?: string
  readonly publicKey: KeyObject
  /** Called for every entry of a complete commit, in order. */
  readonly onEntry?: (entry: ScannedEntry) => void
  /** The segment to begin with; the first, if left out. */
  readonly from?: number
  readonly everySignature?: boolean
}

interface Tip {
  pos: Pos
  seq: Seq
  hash: Buffer
}

interface State {
  readonly tips: Map<string, Tip>
  readonly ends: Map<number, string>
  lastCommit: Buffer
  /** Where entries lie that are not scanned. */
  readonly earlier: Reader | undefined
  readonly from: number
  entries: number
  commits: number
  end: Pos
  torn: number
}

export function segmentFiles(folder: string): number[] {
  const names = fs.existsSync(folder) ? fs.readdirSync(folder) : []
  return names
    .filter((name) => /^\d{10}\.seg$/.test(name))
    .map((name) => Number(name.slice(0, 10)))
    .sort((a, b) => a - b)
}

export function scanLog(folder: string, options: ScanOptions): Scan {
  const segments = segmentFiles(folder)
  const from = Math.min(options.from ?? 1, Math.max(1, segments.length))
  const state: State = {
    tips: new Map(),
    ends: new Map([[toPos(1, PAGE_BYTES), ZERO_HASH.toString('hex')]]),
    lastCommit: ZERO_HASH,
    earlier: from > 1 ? new Reader(folder) : undefined,
    from,
    entries: 0,
    commits: 0,
    end: toPos(1, PAGE_BYTES),
    torn: 0,
  }
  segments.forEach((segment, i) => {
    if (segment !== i + 1) throw corrupt(segmentName(i + 1), 0, 'the segment is missing')
    if (segment < from) return
    scanSegment(path.join(folder, segmentName(segment)), segment, i === segments.length - 1, options, state)
  })
  state.earlier?.close()
  return {
    segments: segments.length,
    entries: state.entries,
    commits: state.commits,
    agents: state.tips.size,
    end: state.end,
    lastCommit: state.lastCommit,
    torn: state.torn,
    commitAt: (end) => state.ends.get(end) ?? commitBefore(folder, end, options),
  }
}

function scanSegment(file: string, segment: number, last: boolean, options: ScanOptions, state: State): void {
  const bytes = fs.readFileSync(file)
  const name = path.basename(file)
  const page = decodePage(bytes, name, options.publicKey)
  if (segment === state.from && segment > 1) state.lastCommit = Buffer.from(page.prevCommit, 'hex')
  const expected = { segment, node: options.node ?? page.node, prevCommit: state.lastCommit.toString('hex') }
  for (const field of ['segment', 'node', 'prevCommit'] as const) {
    if (page[field] !== expected[field])
      throw corrupt(name, 0, `the page's ${field} is not what the log before it says`)
  }
  let at = PAGE_BYTES
  let signed: { body: Buffer; record: CommitRecord; at: number } | undefined
  for (;;) {
    const frame = readFrame(bytes, at)
    if (frame === 'end' || frame === 'room') break
    const batch = frame === 'bad' ? `byte ${at} begins no frame` : readBatch(bytes, at)
    if (typeof batch === 'string') {
      state.torn = tornBytes(bytes, at, name, last, batch)
      break
    }
    signed = acceptBatch(bytes, at, batch, name, segment, options, state)
    at = batch.commit.end
    state.end = toPos(segment, at)
    state.ends.set(state.end, state.lastCommit.toString('hex'))
  }
  if (segment > 1 && at === PAGE_BYTES) {
    // A new segment whose first batch never arrived: the log ends here, at the commit before it.
    state.end = toPos(segment, at)
    state.ends.set(state.end, state.lastCommit.toString('hex'))
  }
  if (signed) checkSignature(signed.body, signed.record, name, signed.at, options.publicKey)
  if (state.torn === 0) checkRoom(bytes, at, name, last, state)
}

interface RawBatch {
  readonly frames: readonly Frame[]
  readonly commit: Frame
  readonly record: CommitRecord
}

/** The frames up to the next commit, with the commit's own sums checked; or what is wrong. */
function readBatch(bytes: Buffer, from: number): RawBatch | string {
  const frames: Frame[] = []
  const starts: number[] = []
  let at = from
  for (;;) {
    const frame = readFrame(bytes, at)
    if (typeof frame === 'string') return `byte ${at} begins no frame`
    if (frame.type === COMMIT) {
      const record = readCommit(bytes.subarray(frame.bodyAt, frame.end))
      if (!record || frames.length === 0) return `the commit at byte ${at} does not parse`
      const leaves = starts.map((start, i) => bytes.subarray(start, starts[i + 1] ?? at))
      const sums = record.entries === starts.length && record.bytes === at - from
      if (!sums || !merkleRoot(leaves).equals(record.root))
        return `the entries before byte ${at} are not those committed`
      return { frames, commit: frame, record }
    }
    if (frame.type === ENTRY) starts.push(at)
    else if (frames.length === 0) return `byte ${at} begins no entry`
    frames.push(frame)
    at = frame.end
  }
}

function acceptBatch(
  bytes: Buffer,
  from: number,
  batch: RawBatch,
  name: string,
  segment: number,
  options: ScanOptions,
  state: State,
): { body: Buffer; record: CommitRecord; at: number } {
  const commitAt = batch.commit.bodyAt
  if (!batch.record.prev.equals(state.lastCommit))
    throw corrupt(name, from, 'a commit before this one is missing or another')
  if (batch.record.first !== toPos(segment, from))
    throw corrupt(name, from, 'the commit belongs at another position')
  const body = bytes.subarray(commitAt, batch.commit.end)
  if (options.everySignature) checkSignature(body, batch.record, name, commitAt, options.publicKey)
  let payloads: Buffer[] = []
  let open: (Omit<ScannedEntry, 'bytes'> & { readonly at: number }) | undefined
  const tell = (end: number) => {
    if (!open) return
    const { at, ...entry } = open
    options.onEntry?.({ ...entry, bytes: end - at })
  }
  for (const frame of batch.frames) {
    const content = bytes.subarray(frame.bodyAt, frame.end)
    if (frame.type === PAYLOAD) {
      const digest = readPayload(content)?.digest
      if (!digest || !payloads.shift()?.equals(digest))
        throw corrupt(name, frame.bodyAt, 'a payload that its entry does not name')
      continue
    }
    if (payloads.length > 0) throw corrupt(name, frame.bodyAt, 'a payload is missing')
    const at = frame.bodyAt - 8
    tell(at)
    const entry = acceptEntry(content, toPos(segment, at), name, at, state)
    payloads = [...entry.header.digests]
    open = { ...entry, at }
  }
  tell(commitAt - 8)
  if (payloads.length > 0) throw corrupt(name, commitAt, 'a payload is missing')
  state.lastCommit = sha256(body)
  state.commits++
  return { body, record: batch.record, at: commitAt }
}

/** An entry must continue its agent's own chain: next number, previous position, previous hash. */
function acceptEntry(
  body: Buffer,
  pos: Pos,
  name: string,
  at: number,
  state: State,
): Omit<ScannedEntry, 'bytes'> {
  const header = readEntry(body)
  if (!header) throw corrupt(name, at, 'an entry whose lengths do not add up')
  const agent = header.agent.toString('hex')
  const tip = state.tips.get(agent) ?? earlierTip(header, state)
  if (header.prev !== tip.pos || header.seq !== tip.seq + 1 || !header.prevHash.equals(tip.hash)) {
    throw corrupt(name, at, `entry ${header.seq} of agent \`${agent}\` does not follow its entry ${tip.seq}`)
  }
  const hash = sha256(body)
  state.tips.set(agent, { pos, seq: header.seq, hash })
  state.entries++
  return { pos, hash, header }
}

/** The last entry of an agent before those that are scanned: where its next one says that it stands. */
function earlierTip({ prev, agent }: EntryHeader, { earlier, from }: State): Tip {
  if (earlier && prev !== NO_POS && segmentOf(prev) < from) {
    const { pos, hash, header } = earlier.read(prev)
    if (header.agent.equals(agent)) return { pos, seq: header.seq, hash }
  }
  return { pos: NO_POS, seq: 0 as Seq, hash: ZERO_HASH }
}

/** Hash of the commit that ends at a position which was not scanned. */
function commitBefore(folder: string, end: Pos, options: ScanOptions): string | undefined {
  const file = path.join(folder, segmentName(segmentOf(end)))
  if (!fs.existsSync(file)) return undefined
  const fd = fs.openSync(file, 'r')
  try {
    const page = Buffer.alloc(PAGE_BYTES)
    fs.readSync(fd, page, 0, page.length, 0)
    const { prevCommit } = decodePage(page, path.basename(file), options.publicKey)
    if (offsetOf(end) === PAGE_BYTES) return prevCommit
    const bytes = Buffer.alloc(COMMIT_FRAME)
    fs.readSync(fd, bytes, 0, bytes.length, offsetOf(end) - COMMIT_FRAME)
    const frame = readFrame(bytes, 0)
    if (typeof frame === 'string' || frame.type !== COMMIT) return undefined
    const body = bytes.subarray(frame.bodyAt, frame.end)
    const record = readCommit(body)
    if (!record || !verify(null, signedPart(body), options.publicKey, record.signature)) return undefined
    return sha256(body).toString('hex')
  } finally {
    fs.closeSync(fd)
  }
}

function checkSignature(body: Buffer, record: CommitRecord, name: string, at: number, key: KeyObject): void {
  if (!verify(null, signedPart(body), key, record.signature))
    throw corrupt(name, at, 'the signature of the commit is not by this node')
}

/**
 * Decides whether a batch that does not check was torn by a power cut, and returns its length.
 *
 * Segments are zero-filled and synced before use, and only one batch is ever in flight, so a
 * sector that did not arrive is all zeros. A batch whose every sector is there and which does not
 * check was damaged later.
 */
function tornBytes(bytes: Buffer, from: number, name: string, last: boolean, problem: string): number {
  let end = bytes.length
  while (end > from && bytes[end - 1] === 0) end--
  if (!last || (!hasLostSector(bytes, from, end) && looksWhole(bytes, from, end)))
    throw corrupt(name, from, problem)
  return end - from
}

function hasLostSector(bytes: Buffer, from: number, end: number): boolean {
  for (let at = from; at < end; ) {
    const next = Math.min(end, (Math.floor(at / SECTOR) + 1) * SECTOR)
    if (bytes.subarray(at, next).every((b) => b === 0)) return true
    at = next
  }
  return false
}

/** Whether a commit frame stands at the very end, give or take two flipped bits. */
function looksWhole(bytes: Buffer, from: number, end: number): boolean {
  const at = end - COMMIT_FRAME
  if (at < from) return false
  const model = Buffer.from([0xc1, COMMIT, FORMAT_VERSION, 0, COMMIT_FRAME - 8, 0, 0, 0])
  const actual = Buffer.concat([bytes.subarray(at, at + 8), bytes.subarray(end - 4, end)])
  const wanted = Buffer.concat([model, Buffer.alloc(4, 0xc1)])
  let wrong = 0
  for (let i = 0; i < wanted.length; i++) {
    for (let x = (actual[i] as number) ^ (wanted[i] as number); x; x &= x - 1) wrong++
  }
  return wrong <= 2
}

/** Behind the last commit there are only zeros; what a lost first sector leaves behind counts as torn. */
function checkRoom(bytes: Buffer, at: number, name: string, last: boolean, state: State): void {
  let end = bytes.length
  while (end > at && bytes[end - 1] === 0) end--
  if (end === at) return
  const only = bytes.subarray(at, end - 1).every((b) => b === 0)
  const byte = bytes[end - 1] as number
  const oneBit = only && (byte & (byte - 1)) === 0
  if (!last || oneBit || !hasLostSector(bytes, at, end))
    throw corrupt(name, end - 1, 'bytes where no entry is')
  state.torn = end - at
}
