/**
 * Acts of an agent upon cards: derive, offer, preview, accept, drop, revoke, explain. They concern the
 * host's rows alone, so they take place with the turn that asks for them, and their results stand in
 * its entry.
 */
import {
  accept,
  type CardRow,
  codec,
  counted,
  debit,
  derive,
  drop,
  encodeBudgets,
  explain,
  influenceOf,
  judge,
  offer,
  preview,
  revoke,
} from '@cardinal/cards'
import { sha256 } from '@cardinal/oplog'
import type { WireError } from '@cardinal/tools'
import { z } from 'zod'
import { type Actor, type Asking, cardOfHandle, type One, refuse } from './asking.ts'
import { cardName, type Kept, type MintedBounds, type MintedMeta, type Taken } from './authority-wire.ts'
import type { Context } from './context.ts'
import { fanoutBack } from './fanout.ts'
import { type InvocationId, parseAddress } from './ids.ts'
import { narrowArgs, narrowOf } from './narrow.ts'
import { refusalError } from './refusals.ts'
import { requestOf } from './requests.ts'
import { toolsWithin } from './tool-list.ts'

/** What the acts of one turn change, for its entry. */
export interface Acts {
  readonly cards: MintedMeta[]
  readonly minted: MintedBounds[]
  readonly revoked: string[]
  readonly took: string[]
  readonly gave: string[]
  readonly debits: Taken[]
  readonly refunds: Taken[]
  /** Offers that were looked at. */
  readonly previewed: string[]
  readonly kept: Kept[]
  /** Invocations whose answers were declassified. */
  readonly declassified: InvocationId[]
  /** Whether others will read what the agent had read by now. */
  tells: boolean
}

export function noActs(): Acts {
  return {
    cards: [],
    minted: [],
    revoked: [],
    took: [],
    gave: [],
    debits: [],
    refunds: [],
    previewed: [],
    kept: [],
    declassified: [],
    tells: false,
  }
}

const MAX_HELD = 1024
/** Cards that an agent ever has a handle of: handles are not given twice. */
const MAX_HANDLES = 16_384

const ONE_CALL: ReadonlyMap<string, bigint> = new Map([['calls', 1n]])

const handle = z.int().min(0)
const ARGS = {
  'cards.derive': z.strictObject({ card: handle, narrow: narrowArgs }),
  'cards.offer': z.strictObject({
    card: handle,
    to: z.string(),
    narrow: narrowArgs,
    lapsesMs: z.int().min(60_000).optional(),
  }),
  'cards.preview': z.strictObject({ card: handle }),
  'cards.accept': z.strictObject({
    card: handle,
    expect: z.string(),
    allowLoss: z.boolean().optional(),
  }),
  'cards.drop': z.strictObject({ card: handle }),
  'cards.revoke': z.strictObject({ card: handle }),
  'cards.tools': z.strictObject({}),
  'cards.explain': z.strictObject({ card: handle, tool: z.string(), args: z.unknown() }),
} as const

type ActName = keyof typeof ARGS
type ArgsOf<N extends ActName> = z.infer<(typeof ARGS)[N]>

export function isAct(tool: string): tool is ActName {
  return Object.hasOwn(ARGS, tool)
}

/** Where tools are found, and who has ended. */
type ActContext = Pick<Context, 'findTool' | 'toolsOf' | 'isStopped'>

type Done = { readonly value: unknown } | { readonly error: WireError }

export function actOnCards(ctx: ActContext, who: Actor, asking: Asking, acts: Acts): One {
  const tool = asking.effect.tool as ActName
  const parsed = ARGS[tool].safeParse(asking.effect.args)
  if (!parsed.success)
    return refuse(tool, 'act', {
      class: 'Malformed',
      code: 'BadArguments',
      message: `\`${tool}\` was given other arguments than it takes`,
    })
  const done = perform(ctx, who, asking, tool, parsed.data, acts)
  if ('error' in done) return refuse(tool, 'act', done.error)
  return { meta: { tool, class: 'act', verdict: 'done' }, value: done.value }
}

function perform(
  ctx: ActContext,
  who: Actor,
  asking: Asking,
  tool: ActName,
  args: unknown,
  acts: Acts,
): Done {
  if (tool === 'cards.tools') return { value: toolsWithin(who.world, who.row, ctx.toolsOf(who.row.tenant)) }
  const { card } = args as { card: number }
  const name = cardOfHandle(who, card)
  if (name === undefined || name === null) return { error: refusalError({ ok: false, code: 'NoSuchCard' }) }
  switch (tool) {
    case 'cards.derive':
      return deriveCard(who, asking, name, args as ArgsOf<'cards.derive'>, acts)
    case 'cards.offer':
      return offerCard(who, asking, name, args as ArgsOf<'cards.offer'>, acts)
    case 'cards.preview':
      return previewCard(who, name, acts)
    case 'cards.accept':
      return acceptCard(who, name, args as ArgsOf<'cards.accept'>, acts)
    case 'cards.drop':
      return dropCard(who, name, acts)
    case 'cards.revoke':
      return revokeCard(ctx, who, name, acts)
    case 'cards.explain':
      return explainCall(ctx, who, asking, name, args as ArgsOf<'cards.explain'>)
  }
}

function turnIds({ turns }: Asking): string[] {
  return turns.map((turn) => turn.id)
}

function deriveCard(
  who: Actor,
  asking: Asking,
  from: string,
  args: ArgsOf<'cards.derive'>,
  acts: Acts,
): Done {
  if (who.row.held.size >= MAX_HELD || who.state.holding.handles.length >= MAX_HANDLES)
    return {
      error: {
        class: 'Refused',
        code: 'TooManyCards',
        by: 'limit',
        message: `more than ${MAX_HELD} cards held at once, or ${MAX_HANDLES} ever`,
      },
    }
  const id = cardName(who.birth, asking.id)
  const done = derive(who.world, {
    card: id,
    by: who.row.id,
    from,
    for: turnIds(asking),
    ...narrowOf(args.narrow, who.settings),
  })
  if (!done.ok) return { error: refusalError(done) }
  note(acts, done.card, {})
  // It gives nothing new; what it takes keeps a loop from minting for ever.
  const taken = counted(done.card.parent as CardRow, ONE_CALL, who.world.nowMs)
  debit(done.card.parent as CardRow, taken)
  acts.debits.push({ card: from, of: encodeBudgets(taken) })
  return { value: { card: handleOf(who, id), id } }
}

/** The handle that a card has, or will have once this turn's entry is folded: handles go by the order of taking. */
function handleOf({ state, row }: Actor, id: string): number {
  const { handles } = state.holding
  const known = handles.indexOf(id)
  if (known >= 0) return known
  const given = new Set(handles)
  let next = handles.length
  for (const card of row.held) {
    if (card.id === id) break
    if (!given.has(card.id)) next++
  }
  return next
}

/** Notes a minted card for the turn's entry. */
function note(
  acts: Pick<Acts, 'cards' | 'minted'>,
  card: CardRow,
  more: { readonly owner?: string; readonly lapses?: number },
): void {
  acts.cards.push({
    id: card.id,
    ...(card.parent && { parent: card.parent.id }),
    limits: codec.encodeLimits(card.limits),
    ...more,
  })
  acts.minted.push({ now: codec.encodeBound(card.now), ever: codec.encodeBound(card.ever) })
}

function offerCard(who: Actor, asking: Asking, from: string, args: ArgsOf<'cards.offer'>, acts: Acts): Done {
  const { world, row } = who
  const id = cardName(who.birth, asking.id)
  let to: string
  try {
    const { tenant, type, key } = parseAddress(args.to, row.tenant)
    to = `${tenant}/${type}/${key}`
  } catch {
    return { error: { class: 'Malformed', code: 'BadAddress', message: 'an agent is `type/key`' } }
  }
  const done = offer(world, {
    card: id,
    by: row.id,
    from,
    to,
    for: turnIds(asking),
    ...(asking.via !== undefined && { via: asking.via }),
    ...(args.lapsesMs !== undefined && { lapses: args.lapsesMs }),
    ...narrowOf(args.narrow, who.settings),
  })
  if (!done.ok) return { error: refusalError(done) }
  const card = world.cards.get(id) as CardRow
  const { lapses } = world.offers.get(card) as { lapses: number }
  note(acts, card, { owner: to, lapses })
  const parent = card.parent as CardRow
  acts.debits.push({ card: from, of: encodeBudgets(counted(parent, new Map([['calls', 1n]]), world.nowMs)) })
  acts.tells = true
  return { value: null }
}

function shownBounds(card: CardRow): { now: object[]; ever: object[]; digest: string } {
  const now = codec.encodeBound(card.now)
  const ever = codec.encodeBound(card.ever)
  const digest = sha256(Buffer.from(JSON.stringify({ now, ever, id: card.id })))
    .toString('hex')
    .slice(0, 16)
  return { now, ever, digest }
}

function previewCard({ world, row }: Actor, id: string, acts: Acts): Done {
  const seen = preview(world, row.id, id)
  if (!seen.ok) return { error: refusalError(seen) }
  acts.previewed.push(id)
  return { value: shownBounds(seen.card) }
}

function acceptCard(who: Actor, id: string, args: ArgsOf<'cards.accept'>, acts: Acts): Done {
  const { world, row } = who
  const card = world.cards.get(id)
  if (!card || shownBounds(card).digest !== args.expect)
    return { error: refusalError({ ok: false, code: 'NotPreviewed' }) }
  const done = accept(world, row.id, id, args.allowLoss === true)
  if (!done.ok) return { error: refusalError(done) }
  acts.took.push(id)
  return { value: { card: handleOf(who, id), id } }
}

function dropCard({ world, row }: Actor, id: string, acts: Acts): Done {
  const done = drop(world, row.id, id)
  if (!done.ok) return { error: refusalError(done) }
  acts.gave.push(id)
  return { value: null }
}

function revokeCard(ctx: ActContext, { world, row }: Actor, id: string, acts: Acts): Done {
  // Said once more with nothing new behind it, a revocation adds nothing: neither a row nor a look at who holds what.
  const told = JSON.stringify(codec.encodeInfluence(influenceOf(world, row)))
  const said = world.cards
    .get(id)
    ?.revocations.some(
      ({ by, influence }) => by === row && JSON.stringify(codec.encodeInfluence(influence)) === told,
    )
  if (said) return { value: null }
  const done = revoke(world, id, row.id)
  if (!done.ok) return { error: refusalError(done) }
  acts.revoked.push(id)
  acts.tells = true
  const card = world.cards.get(id)
  if (card) acts.refunds.push(...fanoutBack(world, [card], (agent) => ctx.isStopped(agent)))
  return { value: null }
}

/** What would be decided now, of this agent's own authority. Changes nothing. */
function explainCall(
  ctx: Pick<Context, 'findTool'>,
  who: Actor,
  { turns }: Asking,
  via: string,
  { tool, args }: ArgsOf<'cards.explain'>,
): Done {
  const asked = requestOf(ctx, who.row.tenant, tool, args, who.settings)
  if (!asked) return { value: { verdict: 'refuse', by: 'card', message: 'there is no tool of this name' } }
  if ('bad' in asked)
    return { value: { verdict: 'refuse', by: 'card', message: `\`${tool}\` was given ${asked.bad}` } }
  return { value: showVerdict(who, asked.request, via, turns) }
}

export function showVerdict(
  { world, row }: Pick<Actor, 'world' | 'row'>,
  request: Parameters<typeof judge>[1]['request'],
  via: string | undefined,
  turns: Asking['turns'],
): object {
  const cost = new Map([['calls', 1n], ...(request.takes ?? [])])
  for (const [currency, amount] of request.spend) cost.set(`spend.${currency}`, amount)
  const verdict = judge(world, { agent: row, request, via, turns, approved: new Set(), cost })
  if (verdict.verdict === 'allow') return { verdict: 'allow', card: verdict.card.id }
  if (verdict.verdict === 'ask') return { verdict: 'ask', card: verdict.card.id, ask: verdict.ask }
  const { code, message, missing, nearest } = explain(world, row, request, turns, verdict)
  return {
    verdict: 'refuse',
    by: verdict.by,
    code,
    message,
    ...(missing && { missing }),
    ...(nearest && { nearest }),
  }
}

/** What the agent has read, if others will read it. */
export function toldBy(
  who: Pick<Actor, 'world' | 'row'>,
  acts: Pick<Acts, 'tells'>,
): codec.InfluenceData | undefined {
  return acts.tells ? codec.encodeInfluence(influenceOf(who.world, who.row)) : undefined
}
