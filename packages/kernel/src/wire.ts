/**
 * What crosses between kernel and guest, and what entries say of it.
 *
 * A guest's output is untrusted: it is parsed here, once, into these types. The metas are the
 * readable part of entries; nothing in them may let anyone guess an argument.
 */
import type { Stop } from '@cardinal/engine'
import type { EffectClass, WireError } from '@cardinal/tools'
import type { AuthorityMeta, Child, Taken } from './authority-wire.ts'
import { KernelError } from './errors.ts'
import type { Address, EffectId, InvocationId } from './ids.ts'
import { type AgentLimits, told } from './limits.ts'
import type { Taking } from './meters.ts'

export interface GuestEffect {
  readonly cid: number
  readonly invocation: InvocationId | null
  readonly tool: string
  /** A handle of this agent's; an older SDK names its birth card by the agent's address. */
  readonly via?: number | string
  readonly args: unknown
}

interface GuestReply {
  readonly invocation: InvocationId
  readonly ok: boolean
  readonly value: unknown
  /** It asks to be passed on as if its agent had read nothing; by the card of this handle, if it names one. */
  readonly declassify?: { readonly via?: number }
}

export interface GuestOutput {
  readonly effects: readonly GuestEffect[]
  readonly replies: readonly GuestReply[]
  readonly logs: readonly (readonly [string, string])[]
  readonly drops: readonly number[]
}

const MAX_LOGS = 10_000

/** Thrown for output that no well-behaved guest makes: the turn fails. */
export class BadOutput extends KernelError {
  constructor(code: string, message: string) {
    super('Thrown', code, message)
  }
}

/** What a guest has just put out, within its limits. */
export function parseOutput(bytes: Buffer, limits: Pick<AgentLimits, 'effects' | 'output'>): GuestOutput {
  if (bytes.length > limits.output.value)
    throw new BadOutput(
      'OutputTooLarge',
      `a turn with ${bytes.length} bytes of effects and replies: ${told('output', limits.output)}`,
    )
  const output = readOutput(bytes)
  const { length } = output.effects
  if (length > limits.effects.value)
    throw new BadOutput('TooManyEffects', `${length} effects in one turn: ${told('effects', limits.effects)}`)
  return output
}

/** What a turn put out that is on record. */
export function readOutput(bytes: Buffer): GuestOutput {
  let raw: Record<string, unknown>
  try {
    raw = JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new BadOutput('MalformedOutput', 'the guest did not return JSON')
  }
  const list = (name: string): unknown[] => {
    const value = raw?.[name]
    if (!Array.isArray(value)) throw new BadOutput('MalformedOutput', `the guest's \`${name}\` is no list`)
    return value
  }
  const effects = list('effects')
  const written = typeof raw.written === 'string' ? linesOf(raw.written) : []
  const logs = list('logs')
  const lines = logs.length + written.length
  if (lines > MAX_LOGS)
    throw new BadOutput('TooManyLogs', `${lines} log lines in one turn; ${MAX_LOGS} at most`)
  const objects = [...effects, ...list('replies'), ...logs].every(
    (item) => typeof item === 'object' && item !== null,
  )
  if (!objects)
    throw new BadOutput('MalformedOutput', 'the guest put something else than objects into its lists')
  return {
    effects: effects.map((e) => parseEffect(e as Record<string, unknown>)),
    replies: list('replies').map((r) => parseReply(r as Record<string, unknown>)),
    logs: [
      ...written,
      ...logs.map((l) => [String((l as unknown[])[0]), String((l as unknown[])[1])] as const),
    ],
    drops: list('drops').map(Number),
  }
}

/** What a guest that is no QuickJS wrote to its standard output. */
function linesOf(written: string): (readonly [string, string])[] {
  return written
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => ['info', line] as const)
}

function parseEffect(e: Record<string, unknown>): GuestEffect {
  const { c, inv, tool, via } = e
  const shaped =
    Number.isSafeInteger(c) &&
    typeof tool === 'string' &&
    (inv === null || typeof inv === 'string') &&
    (via === undefined || typeof via === 'string' || Number.isSafeInteger(via))
  if (!shaped) throw new BadOutput('MalformedOutput', 'an effect without number or tool')
  return {
    cid: c as number,
    invocation: inv as InvocationId | null,
    tool: tool as string,
    ...(via !== undefined && { via: via as number | string }),
    args: e.args,
  }
}

function parseReply(r: Record<string, unknown>): GuestReply {
  if (typeof r.inv !== 'string' || typeof r.ok !== 'boolean')
    throw new BadOutput('MalformedOutput', 'a reply to nobody')
  const { via } = (r.bits ?? {}) as { via?: unknown }
  if (via !== undefined && !Number.isSafeInteger(via))
    throw new BadOutput('MalformedOutput', 'a reply by no card')
  return {
    invocation: r.inv as InvocationId,
    ok: r.ok,
    value: r.value,
    ...(r.bits !== undefined && r.ok && { declassify: via === undefined ? {} : { via: via as number } }),
  }
}

/** What an entry says of one effect. Tool and class only: where it goes is in the payload. */
export interface EffectMeta {
  readonly tool: string
  readonly class: EffectClass | 'sleep' | 'call' | 'spawn' | 'act'
  /** `done`: an act on cards, which took place with its turn. */
  readonly verdict: 'allow' | 'refuse' | 'drop' | 'ask' | 'done'
  readonly by?: string
  readonly code?: string
  /** Which of its card's grants allowed it, from 0. */
  readonly grant?: number
  /** In whose name from outside. */
  readonly for?: readonly string[]
  /** The card it was done by, if it is not the one that its agent was rooted with. */
  readonly via?: string
  readonly calls?: number
  readonly bytesOut?: number
  /** Reserved amounts by budget, as texts of whole units. */
  readonly spend?: Readonly<Record<string, string>>
  readonly due?: number
  /** Middleware stands before it: what was decided was whether it may be asked for; its intent says the rest. */
  readonly mediated?: 1
  /** The sets of roles of which one must approve. */
  readonly ask?: readonly (readonly string[])[]
  /** Which child of its agent it makes, counted from 1. */
  readonly child?: number
}

export interface BirthMeta extends AuthorityMeta {
  readonly tenant: string
  readonly type: string
  readonly key: string
  readonly generation: number
  readonly image: string
  readonly slot: number
  /** The agent that was the first to call it: it is the host's, and begins with what that one had read. */
  readonly first?: { readonly by: string; readonly effect: EffectId }
  /** The address of the agent that made it, and by which of its effects; left out: the host. */
  readonly spawned?: { readonly by: string; readonly effect: EffectId }
}

/** 1: it begins anew with a home that was given; the second payload says which. */
export interface WipedMeta extends AuthorityMeta {
  readonly home?: 1
}

export interface AcceptedMeta extends AuthorityMeta {
  /** `abandon`: the guest forgets an invocation that was ended long ago and did not finish. */
  readonly what: 'invoke' | 'emit' | 'cancel' | 'abandon' | 'offer' | 'card'
  readonly invocation?: InvocationId
  readonly method?: string
  readonly shared?: boolean
  readonly principal: string
  readonly deadline?: number
  /** HMACs under the agent's own key: unreadable once that is destroyed. */
  readonly key?: string
  readonly same?: string
  /** The effect of another agent that this is, as `address@effect`. */
  readonly from?: string
  /** The card that is offered, or that the host gave. */
  readonly card?: string
  /** Labels of the route that it came by. */
  readonly labels?: readonly string[]
  /** Whether a payload says in what scope, and who waits for the answer. */
  readonly turn?: 1
}

/** The limits in force of which an outcome may depend. */
interface TurnBounds {
  readonly fuel: number
  readonly memory: number
  /** Left out: 4096, before anybody could set it. */
  readonly effects?: number
}

export interface TurnMeta extends AuthorityMeta {
  /** Inputs consumed: `seq` of the entry, or `seq.part` of what a turn left for the next. */
  readonly inputs: readonly string[]
  /** The agent's entry whose hash seeded this turn. */
  readonly basis: number
  readonly time: number
  readonly limits: TurnBounds
  /** Its first birth card. */
  readonly card: string
  /** Of the manifest in force, where it is another than at the birth. */
  readonly generation?: number
  readonly effects: readonly EffectMeta[]
  /** The third: why an answer was not passed on. */
  readonly replies: readonly (readonly [InvocationId, boolean, string?])[]
  readonly drops: readonly EffectId[]
  /** How many of the dropped only waited: each has a receipt yet to come. */
  readonly owes?: number
  readonly usage: { readonly fuel: number }
  /** The turn touched its home: the digest of what that answered, and what bounds it had. */
  readonly home?: HomeMeta
}

export interface HomeMeta {
  readonly digest: string
  readonly steps: number
  readonly bytes: number
  /** Where it was stopped otherwise than by what the guest did: call, row, kind. */
  readonly stops?: readonly (readonly [number, number, Stop['kind']])[]
}

export interface FailedTurnMeta extends AuthorityMeta {
  readonly inputs: readonly string[]
  readonly basis: number
  readonly time: number
  readonly limits: TurnBounds
  readonly failed: string
  readonly ends: readonly InvocationId[]
  readonly drops: readonly EffectId[]
  readonly owes?: number
  /** Whether the guest must be told to forget invocations it already knew. */
  readonly abandon: boolean
  /** Whose callers may not have the error. */
  readonly withheld?: readonly InvocationId[]
  /** Those among them that had been ended before. */
  readonly forgotten?: readonly InvocationId[]
}

export interface ReceiptMeta extends AuthorityMeta {
  readonly effect: EffectId
  readonly ok: boolean
  readonly class?: string
  readonly code?: string
  readonly dropped?: boolean
  /** It was out nowhere: it waited for time, for another agent, or for a person. */
  readonly sleep?: boolean
  /** A person said no. */
  readonly denied?: string
  /** What is given back of what was reserved. */
  readonly refund?: Taken
  /** The agent that it made. */
  readonly child?: Child
  /** Something was attempted: what it says of the world binds the agent. */
  readonly read?: 1
  /** Whose answer it is, as `address@seq`. */
  readonly answer?: string
  /** The answer was declassified: it adds nothing to its caller. */
  readonly bare?: 1
  /** It failed, and what was reserved may have been spent. */
  readonly spent?: 1
  /** What it took of budgets, where its tool knows; the rest of what was reserved is given back. */
  readonly used?: Readonly<Record<string, string>>
  /** What it gives back of budgets that middleware sets: negative. */
  readonly meters?: readonly Taking[]
  /** The middleware that holds back what came of it. */
  readonly withheldBy?: string
  /** Of the tool that performed it. */
  readonly version?: string
  /** A second payload says what the other side calls it. */
  readonly upstream?: 1
  /** How often it was tried, where it was not once. */
  readonly attempts?: number
}

/** A message that has arrived at another agent, or was lost on the way to one that is stopped. */
export interface SentMeta extends AuthorityMeta {
  readonly effect: EffectId
  readonly callee: string
  readonly invocation?: InvocationId
  /** When the wait for its answer ends. */
  readonly due?: number
  /** It was not sent at once: a timer stood for it. */
  readonly timed?: boolean
  readonly waits?: boolean
}

/**
 * An effect decided anew: before it is repeated after a crash, or to follow a redirect; or what its program asks of the
 * world, decided by the card of its tool.
 */
export interface IntentMeta {
  readonly effect: EffectId
  readonly what: 'again' | 'hop' | 'egress'
  readonly verdict: 'allow' | 'refuse'
  readonly by?: string
}

/**
 * An effect as its middleware lets it go out, decided in the same step. Its payload holds the arguments, and
 * the request that was decided.
 */
export interface MediatedMeta {
  readonly effect: EffectId
  readonly what: 'mediated'
  readonly verdict: 'allow' | 'ask' | 'refuse'
  readonly by?: string
  readonly code?: string
  readonly via?: string
  readonly grant?: number
  readonly generation?: number
  /** It had asked a person before, and is asked for anew. */
  readonly again?: 1
  /** Name, digest and what it did, from the outermost. */
  readonly chain: readonly (readonly [name: string, digest: string, did: string])[]
  /** Reserved with it. */
  readonly spends?: Taken
  /** Taken with it of budgets that middleware sets. */
  readonly meters?: readonly Taking[]
  /** What it took of `asks`. */
  readonly asks?: Taken
  readonly ask?: readonly (readonly string[])[]
  /** Those of the roles that middleware asks for. */
  readonly roles?: readonly string[]
  /** When what asks is over. */
  readonly due?: number
  /** It is answered by this member of the chain and not performed. */
  readonly answered?: number
}

export interface MediatedBody {
  readonly args: unknown
  readonly request: object
}

export interface ApprovedMeta {
  readonly effect: EffectId
  readonly role: string
  readonly principal: string
  readonly verdict: 'allow' | 'ask'
  readonly via?: string
  readonly grant?: number
  readonly spends?: Taken
  readonly meters?: readonly Taking[]
}

export interface RepliedMeta extends AuthorityMeta {
  readonly invocation: InvocationId
  readonly code: string
  /** The guest never saw the invocation, and never will. */
  readonly undelivered?: boolean
  /** Until when the guest may still work on it, in its `finally`; nothing else that is serial begins before. */
  readonly until?: number
}

/** Refusals that a turn recorded, and results of acts on cards, in the payload beside its output. */
export interface VerdictDetail {
  readonly index: number
  readonly error?: WireError
  readonly nearest?: unknown
  readonly value?: unknown
}

/**
 * What a guest is told at its birth, and again when it begins anew. `home`: it begins with one that is not
 * empty, which a program of the same image has set up, or another one.
 */
export function birthEvent(
  { tenant, type, key }: Address,
  births: readonly string[],
  home?: 'same' | 'other',
): Buffer {
  const cards = births.map((id, card) => ({ card, id }))
  const address = `${tenant}/${type}/${key}`
  const event = { t: 'birth', address, key, card: { id: births[0] }, cards, ...(home && { home }) }
  return Buffer.from(JSON.stringify(event))
}

export function receiptEvent(
  cid: number,
  receipt: { ok: true; value: unknown } | { ok: false; error: WireError },
): Buffer {
  return Buffer.from(JSON.stringify({ t: 'receipt', id: cid, ...receipt }))
}
