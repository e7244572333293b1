/**
 * Bringing an agent back: its last snapshot, then the turns after it, fed with what was recorded.
 *
 * No effect is performed, no card evaluated, no clock read. A turn that does something else than
 * the record says is `Diverged`, with a diff that a person can read; nothing is tolerated.
 */
import fs from 'node:fs'
import type { FoundHome, Instance, Stop } from '@cardinal/engine'
import type { Entry, PayloadKey, Pos, Tip } from '@cardinal/oplog'
import { NO_POS } from '@cardinal/oplog'
import { type Context, hmac } from './context.ts'
import { KernelError } from './errors.ts'
import { decodeGiven, readGiven } from './given-home.ts'
import type { LoadedImage } from './images.ts'
import { ranOnOther } from './runs-on.ts'
import type { SnapshotRow } from './saves.ts'
import { isKnown, type Opened, openSnapshot, type Saved } from './snapshots.ts'
import { type AgentState, emptyState, type Folded, fold } from './state.ts'
import type { TurnMeta, WipedMeta } from './wire.ts'

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
  /** Something is stored in a home: from now on memory is saved there. */
  readonly hasHome: boolean
  /** The file that its memory was saved in. */
  readonly memoryFile: string | undefined
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
  /** What was saved of an agent without a home. */
  readonly snapshot?: SnapshotRow | undefined
  /** The file of a home that is made for this and removed by the caller; left out: the agent's own. */
  readonly scratch?: string
  /** Stop after this entry. */
  readonly toSeq?: number
  readonly onTurn?: (seq: number, output: Buffer) => void
}

/**
 * Rebuilds state, memory and home at `tip`. The instance belongs to the caller.
 *
 * Begins at the pair of memory and rows in the agent's home. Where there is a home, that is the only
 * place: whatever is wrong with it, the home is made anew from the agent's birth on, and never put
 * beside memory of another moment.
 */
export async function replay(
  ctx: Context,
  who: Identity,
  image: LoadedImage,
  tip: Tip,
  options: ReplayOptions = {},
): Promise<Replayed> {
  const file = options.scratch ?? ctx.homes.fileOf(who.birth)
  const found = options.scratch === undefined ? await ctx.homes.find(file) : undefined
  let from: Beginning | undefined
  const saved = found ?? options.snapshot
  try {
    from = await beginning(ctx, who, image, tip, saved)
  } finally {
    // Nobody may find it open, whatever the log says of it.
    if (found && !from?.opened) ctx.engine.dropHome(found)
  }
  const { opened, entries } = from
  if (saved && !opened)
    ctx.onNotice(
      `\`${who.address}\`: what was saved of it at entry ${saved.seq} cannot be used; all of its ${entries.length} entries are repeated instead`,
    )
  if (found && !opened) {
    // Where nothing may be repeated here, what another kernel could use stays.
    for (const entry of entries)
      if (entry.header.kind === 'turn') requireSame(ctx, who, toFolded(entry, who.key))
    await ctx.homes.remove(file)
  }
  const state = opened?.state ?? emptyState(who.birth)
  const hashes = new Map<number, Buffer>([[state.tip.seq, state.tip.hash]])
  let hasHome = found !== undefined && opened !== undefined
  let instance = ctx.engine.create(image.image, {
    saved: opened?.memory,
    home: hasHome ? found : file,
  })
  let turns = 0
  try {
    for (const entry of entries) {
      if (options.toSeq !== undefined && entry.header.seq > options.toSeq) break
      const folded = toFolded(entry, who.key)
      if (folded.kind === 'turn' && !('failed' in (folded.meta as object))) {
        requireSame(ctx, who, folded)
        const output = await repeat(ctx, who, instance, state, folded, hashes)
        if ((folded.meta as TurnMeta).home) hasHome = true
        options.onTurn?.(entry.header.seq, output)
        turns++
      }
      if (folded.kind === 'wiped') {
        ctx.engine.drop(instance)
        await ctx.homes.remove(file)
        hasHome = (folded.meta as WipedMeta).home === 1
        const home = hasHome ? await adopt(ctx, who, folded, file) : file
        instance = ctx.engine.create(image.image, { home })
      }
      fold(state, folded)
      hashes.set(entry.header.seq, entry.hash)
    }
  } catch (error) {
    ctx.engine.drop(instance)
    throw error
  }
  return { state, instance, turns, hasHome, memoryFile: opened?.file }
}

/** The home that an agent begins anew with, out of its log. */
async function adopt(ctx: Context, who: Identity, wiped: Folded, file: string): Promise<FoundHome> {
  const database = await readGiven(ctx, who, decodeGiven(wiped.payloads[1] as Buffer))
  try {
    return await ctx.engine.adoptHome(database, file)
  } finally {
    fs.rmSync(database, { force: true })
  }
}

interface Beginning {
  readonly opened: Opened | undefined
  readonly entries: readonly Entry[]
}

/** What a replay begins with: a save of this very history and what came after it, or the agent's birth. */
async function beginning(
  ctx: Context,
  who: Identity,
  { image }: LoadedImage,
  tip: Tip,
  saved: Saved | undefined,
): Promise<Beginning> {
  const usable = saved && isKnown(saved) ? saved : undefined
  const after = usable && readBack(ctx, tip, usable)
  const pos = after?.[0]?.header.prev ?? tip.pos
  const opened = usable && after && (await openSnapshot(ctx.memoryFiles, usable, who.birth, who.key, pos))
  // Of an image that lost the first turn it was saved over, nothing can be made.
  const whole = opened && ctx.engine.restores(image, opened.memory)
  return whole ? { opened, entries: after } : { opened: undefined, entries: readBack(ctx, tip) as Entry[] }
}

/** What ran on something else may come out otherwise here. */
function requireSame(ctx: Context, who: Identity, turn: Folded): void {
  if ('failed' in (turn.meta as object)) return
  const used = (turn.meta as TurnMeta).home ? (['engine', 'sqlite'] as const) : (['engine'] as const)
  for (const what of used) {
    const made = ctx.control.ranOn(what, turn.tip.pos)
    if (made !== ctx.runsOn[what]) throw ranOnOther(who.address, what, made, ctx.runsOn[what])
  }
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
    memoryBytes: meta.limits.memory,
    sqlSteps: meta.home?.steps ?? 0,
    homeBytes: meta.home?.bytes ?? 0,
    repeat: (meta.home?.stops ?? []).map(([call, row, kind]): Stop => ({ call, row, kind })),
  })
  if (!outcome.ok)
    throw diverged(who, turn, `turn ${turn.tip.seq} ended with ${outcome.kind}: ${outcome.detail}`)
  const recorded = turn.payloads[0] as Buffer
  if (!outcome.output.equals(recorded)) throw diverged(who, turn, diff(recorded, outcome.output))
  const digest = outcome.home?.digest.toString('hex')
  if (digest !== meta.home?.digest)
    throw diverged(
      who,
      turn,
      `what its home answered\n  expected ${meta.home?.digest ?? 'nothing'}\n  got      ${digest ?? 'nothing'}`,
    )
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
