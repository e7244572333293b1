/** Answers as the rules see them: who may have one, and which children end with it. */
import { answer, counted, debit, declassify, encodeBudgets, type Refusal, revokeAll } from '@cardinal/cards'
import type { Acts } from './acts.ts'
import type { Context } from './context.ts'
import { fanoutBack } from './fanout.ts'
import type { InvocationId } from './ids.ts'
import type { Reply, ReplyError } from './reply.ts'
import type { Standing } from './standing.ts'
import type { AgentState } from './state.ts'

/** Whoever answers. */
export interface Answering {
  readonly state: AgentState
  readonly standing: Standing
  showReply(ok: boolean, value: unknown): Reply
}

/** An answer that a turn gave, and what may become of it. */
export interface Answered {
  readonly id: InvocationId
  readonly ok: boolean
  /** It was declassified: whoever asked takes on nothing. */
  readonly bare?: boolean
  /** The code of why it may not be passed on. */
  readonly refused?: string
  /** What a caller from outside is shown. */
  readonly shown?: Reply
  /** The agent that waits for it, if it may have it. */
  readonly to?: { readonly caller: string; readonly effect: string; readonly reply: Reply }
}

interface Given {
  readonly invocation: InvocationId
  readonly ok: boolean
  readonly value: unknown
  readonly declassify?: { readonly via?: number }
}

export const WITHHELD: ReplyError = {
  class: 'Refused',
  code: 'WouldFlow',
  by: 'flow',
  message: 'what the agent has read by then may not flow to whoever asked',
}

/** Decides for each answer of a turn whether whoever asked may have it (R7). */
export function answersOf(who: Answering, given: readonly Given[], acts: Acts): Answered[] {
  const { state, standing } = who
  const { world } = standing
  return given.flatMap(({ invocation: id, ok, value, declassify: asked }): Answered[] => {
    if (!state.invocations.has(id)) return []
    // Of a message nobody waits for an answer.
    const served = state.served.get(id)
    if (served && !served.caller) return [{ id, ok }]
    const denied = asked && declassifyAnswer(who, id, value, asked, acts)
    const bare = asked !== undefined && !denied
    const passed = answer(world, id, bare)
    if (bare) acts.declassified.push(id)
    const refused = passed.ok ? {} : { refused: passed.code }
    const why = denied && { undeclassified: { ...(denied.by && { by: denied.by }), code: denied.code } }
    if (!passed.ok) acts.kept.push({ invocation: id, code: passed.code, missing: passed.missing, ...why })
    const caller = served?.caller
    if (!caller || 'principal' in caller) {
      const shown = passed.ok ? who.showReply(ok, value) : { ok: false as const, error: WITHHELD }
      return [{ id, ok, ...refused, shown }]
    }
    if (!passed.ok) return [{ id, ok, ...refused }]
    if (!bare) acts.tells = true
    const reply = who.showReply(ok, value)
    return [{ id, ok, ...(bare && { bare }), to: { caller: caller.agent, effect: caller.effect, reply } }]
  })
}

/** Takes the bits of an answer from the card that allows it; what it may not say so is an answer like any other. */
function declassifyAnswer(
  { state, standing }: Answering,
  turn: InvocationId,
  value: unknown,
  { via }: { readonly via?: number },
  acts: Acts,
): Refusal | undefined {
  const { world } = standing
  const card = via === undefined ? undefined : state.holding.handles[via]
  if (via !== undefined && card === undefined) return { ok: false, code: 'NoSuchCard', by: 'card' }
  const { method } = state.invocations.get(turn) as { method: string }
  const done = declassify(world, { turn, method, value, ...(card !== undefined && { via: card }) })
  if (!done.ok) return done
  const taken = counted(done.card, done.cost, world.nowMs)
  debit(done.card, taken)
  acts.debits.push({ card: done.card.id, of: encodeBudgets(taken) })
  return undefined
}

/** Revokes the cards of children that end with their invocation; they stop by that. */
export function endChildren(
  { state, standing }: Pick<Answering, 'state' | 'standing'>,
  ended: readonly InvocationId[],
  acts: Acts,
  ctx: Pick<Context, 'isStopped'>,
): void {
  if (state.children.size === 0 || ended.length === 0) return
  const { world, row } = standing
  const over = [...state.children.values()].filter(
    ({ keep, invocation }) => !keep && invocation !== null && ended.includes(invocation),
  )
  const revoked = revokeAll(
    world,
    over.flatMap(({ cards }) => cards),
    row.id,
  )
  for (const card of revoked) acts.revoked.push(card.id)
  if (revoked.length > 0) acts.tells = true
  acts.refunds.push(...fanoutBack(world, revoked, (agent) => ctx.isStopped(agent)))
}
