/**
 * Bringing an agent back: its last snapshot, then the turns after it, fed with what was recorded.
 *
 * No effect is performed, no card evaluated, no clock read. A turn that does something else than
 * the record says is `Diverged`, with a diff that a person can read; nothing is tolerated.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { Instance } from '@cardinal/engine'
import type { Entry, PayloadKey, Pos, Tip } from '@cardinal/oplog'
import { NO_POS } from '@cardinal/oplog'
import { type Context, hmac } from './context.ts'
import type { SnapshotRow } from './derived.ts'
import { KernelError } from './errors.ts'
import type { LoadedImage } from './images.ts'
import { type AgentState, decodeState, emptyState, encodeState, type Folded, fold } from './state.ts'
import type { TurnMeta } from './wire.ts'

export interface Identity {
  readonly address: string
  readonly birth: Buffer
  readonly key: PayloadKey
  readonly lane: number
}

export interface Replayed {
  readonly state: AgentState
  readonly instance: Instance
  readonly turns: number
}

/** 32 bytes that only this agent, at this point of its history, gets. */
export function turnSeed(secret: Buffer, birth: Buffer, basisHash: Buffer): Buffer {
  return hmac(hmac(secret, 'turn-seed', birth), basisHash)
}

/**
 * The entries of an agent after `from`, oldest first, each checked against the one that follows it.
 * Undefined if the entry at `from` is another one than `from` says: a snapshot of another history.
 */
function readBack(
  ctx: Context,
  tip: Tip,
  from?: { readonly seq: number; readonly hash: Buffer },
): Entry[] | undefined {
  const entries: Entry[] = []
  let at: { pos: Pos; hash: Buffer } = tip
  while (at.pos !== NO_POS) {
    const entry = ctx.log.read(at.pos)
    if (!entry.hash.equals(at.hash)) {
      throw new KernelError(
        'Corrupt',
        'LogCorrupt',
        `the entry at position ${at.pos} is not the one that its successor names`,
      )
    }
    if (from && entry.header.seq <= from.seq) {
      return entry.header.seq === from.seq && entry.hash.equals(from.hash) ? entries.reverse() : undefined
    }
    entries.push(entry)
    at = { pos: entry.header.prev, hash: entry.header.prevHash }
  }
  return from ? undefined : entries.reverse()
}

export function toFolded(entry: Entry, key: PayloadKey): Folded {
  const tip = { pos: entry.pos, seq: entry.header.seq, hash: entry.hash }
  return {
    kind: entry.header.kind,
    tip,
    meta: JSON.parse(entry.header.meta),
    payloads: entry.payloads(() => key),
  }
}

export interface ReplayOptions {
  readonly snapshot?: SnapshotRow | undefined
  /** Stop after this entry. */
  readonly toSeq?: number
  readonly onTurn?: (seq: number, output: Buffer) => void
}

/** Rebuilds state and memory at `tip`. The instance belongs to the caller. */
export async function replay(
  ctx: Context,
  who: Identity,
  image: LoadedImage,
  tip: Tip,
  options: ReplayOptions = {},
): Promise<Replayed> {
  const usable = options.snapshot?.bytes[0] === SNAPSHOT_VERSION ? options.snapshot : undefined
  const after = usable && readBack(ctx, tip, usable)
  const entries = after ?? (readBack(ctx, tip) as Entry[])
  const opened = usable && after ? openSnapshot(usable, who, entries[0]?.header.prev ?? tip.pos) : undefined
  const state = opened?.state ?? emptyState(who.birth)
  const hashes = new Map<number, Buffer>([[state.tip.seq, state.tip.hash]])
  const { memoryBytes: maximumBytes } = ctx.limits
  let instance = ctx.engine.create(image.image, {
    maximumBytes,
    ...(opened && { saved: opened.memory }),
  })
  let turns = 0
  try {
    for (const entry of entries) {
      if (options.toSeq !== undefined && entry.header.seq > options.toSeq) break
      const folded = toFolded(entry, who.key)
      if (folded.kind === 'turn' && !('failed' in (folded.meta as object))) {
        const output = await repeat(ctx, who, instance, state, folded, hashes)
        options.onTurn?.(entry.header.seq, output)
        turns++
      }
      if (folded.kind === 'wiped') {
        ctx.engine.drop(instance)
        instance = ctx.engine.create(image.image, { maximumBytes })
      }
      fold(state, folded)
      hashes.set(entry.header.seq, entry.hash)
    }
  } catch (error) {
    ctx.engine.drop(instance)
    throw error
  }
  return { state, instance, turns }
}

async function repeat(
  ctx: Context,
  who: Identity,
  instance: Instance,
  state: AgentState,
  turn: Folded,
  hashes: ReadonlyMap<number, Buffer>,
): Promise<Buffer> {
  const meta = turn.meta as TurnMeta
  const events = meta.inputs.map((ref) => {
    const input = state.pending.find((p) => p.ref === ref)
    if (!input) throw diverged(who, turn, `turn ${turn.tip.seq} consumed input ${ref}, which is not pending`)
    return input.bytes
  })
  const basis = hashes.get(meta.basis)
  if (!basis)
    throw diverged(
      who,
      turn,
      `turn ${turn.tip.seq} names entry ${meta.basis} as its basis, which is not there`,
    )
  const seed = turnSeed(ctx.secret, who.birth, basis)
  const outcome = await ctx.engine.deliver(instance, who.lane, {
    events,
    clockMs: meta.time,
    seed,
    fuel: meta.limits.fuel,
  })
  if (!outcome.ok)
    throw diverged(who, turn, `turn ${turn.tip.seq} ended with ${outcome.kind}: ${outcome.detail}`)
  const recorded = turn.payloads[0] as Buffer
  if (!outcome.output.equals(recorded)) throw diverged(who, turn, diff(recorded, outcome.output))
  return outcome.output
}

function diverged(who: Identity, turn: Folded, message: string): KernelError {
  return new KernelError('Diverged', 'Diverged', `\`${who.address}\` diverged from its record: ${message}`, {
    address: who.address,
    seq: turn.tip.seq,
  })
}

interface Shown {
  effects?: unknown[]
  replies?: unknown[]
}

/** The first effect or reply that differs, expected and got. */
function diff(recorded: Buffer, got: Buffer): string {
  const [a, b] = [recorded, got].map((bytes) => {
    try {
      return JSON.parse(bytes.toString()) as Shown
    } catch {
      return {}
    }
  }) as [Shown, Shown]
  for (const what of ['effects', 'replies'] as const) {
    const [x, y] = [a[what] ?? [], b[what] ?? []]
    for (let i = 0; i < Math.max(x.length, y.length); i++) {
      const [expected, actual] = [JSON.stringify(x[i]), JSON.stringify(y[i])]
      if (expected !== actual)
        return `${what}[${i}]\n  expected ${expected ?? 'nothing'}\n  got      ${actual ?? 'nothing'}`
    }
  }
  return `output of ${recorded.length} bytes expected, ${got.length} got`
}

const SNAPSHOT_VERSION = 5

/** Memory and kernel state in one encrypted value: version, iv, tag, u32 state length, state, memory. */
export function sealSnapshot(state: AgentState, memory: Buffer, key: PayloadKey): Buffer {
  const text = Buffer.from(encodeState(state))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', key.key, iv)
  cipher.setAAD(snapshotAad(state.tip))
  const sealed = Buffer.concat([
    cipher.update(length),
    cipher.update(text),
    cipher.update(memory),
    cipher.final(),
  ])
  return Buffer.concat([Buffer.of(SNAPSHOT_VERSION), iv, cipher.getAuthTag(), sealed])
}

function snapshotAad(tip: { seq: number; hash: Buffer }): Buffer {
  return Buffer.concat([Buffer.from(`cardinal.snapshot.${SNAPSHOT_VERSION}.${tip.seq}.`), tip.hash])
}

function openSnapshot(row: SnapshotRow, who: Identity, pos: Pos): { state: AgentState; memory: Buffer } {
  const { bytes } = row
  const opener = createDecipheriv('aes-256-gcm', who.key.key, bytes.subarray(1, 13))
  opener.setAAD(snapshotAad(row))
  opener.setAuthTag(bytes.subarray(13, 29))
  const clear = Buffer.concat([opener.update(bytes.subarray(29)), opener.final()])
  const length = clear.readUInt32LE(0)
  const state = decodeState(clear.toString('utf8', 4, 4 + length), { pos, seq: row.seq, hash: row.hash })
  return { state, memory: clear.subarray(4 + length) }
}
