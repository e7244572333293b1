/**
 * The effects that one awake agent has out: performing them, waiting for answers and approvals, and
 * recording what came of each.
 */
import {
  approve,
  costOfEffect,
  type EffectRequest,
  encodeBudgets,
  grantOf,
  type Influence,
  join,
} from '@cardinal/cards'
import { type Call, type Middleware, type Ran, runRequests, runResponses } from '@cardinal/middleware'
import type { Receipt, WireError } from '@cardinal/tools'
import type { LiveAgent, Surroundings } from './agent.ts'
import { effectKey } from './asking.ts'
import type { Child, Taken } from './authority-wire.ts'
import { mayMediate } from './chains.ts'
import { redecide } from './decide.ts'
import { type EffectId, effectId, type InvocationId } from './ids.ts'
import { bodyOf, callOf, cardOf, decideMediated, isSameChain, withinBudgets } from './mediation.ts'
import { givenBack, type Taking } from './meters.ts'
import { cancelledReceipt, encodeOutcome } from './outcome.ts'
import { type Performed, performEffect, Stopping } from './perform.ts'
import { requestOf } from './requests.ts'
import { encodeRequest, settleEffect, usedBudgets } from './settle.ts'
import { isAsked, type OpenEffect, onlyWaits } from './state.ts'
import type { EffectMeta, IntentMeta, ReceiptMeta } from './wire.ts'

/** What a receipt says besides the outcome. */
interface Besides {
  readonly child?: Child
  readonly answer?: string
  readonly bare?: 1
  readonly denied?: string
  readonly debits?: readonly Taken[]
  readonly withheldBy?: string
  readonly version?: string
  readonly upstream?: string
  readonly attempts?: number
}

/** What stands before one effect, and what it was shown of it. */
interface Mediating {
  readonly chain: readonly Middleware[]
  readonly call: Call
}

export class Outgoing {
  readonly #around: Surroundings
  readonly #agent: LiveAgent
  readonly #attempts = new Map<EffectId, AbortController>()

  constructor(around: Surroundings, agent: LiveAgent) {
    this.#around = around
    this.#agent = agent
  }

  /** Whether an attempt is under way. */
  get busy(): boolean {
    return this.#attempts.size > 0
  }

  isOut(id: EffectId): boolean {
    return this.#attempts.has(id)
  }

  /** Takes up what an earlier run of the node left open. */
  recover(): void {
    this.#agent.standing.restoreEffects()
    const now = this.#around.ctx.clock.nowMs()
    for (const effect of [...this.#agent.state.effects.values()]) {
      // Those that nobody waits for are told at last, once what is under way is known.
      if (isGivenUp(effect)) continue
      // The callee may have answered before the node stopped.
      if (effect.class === 'call' && effect.sent !== undefined) this.#around.dispatch(this.#agent, effect)
      else if (onlyWaits(effect, now)) continue
      else if (effect.class === 'call' || effect.class === 'spawn') this.#around.dispatch(this.#agent, effect)
      else if (effect.mediated && !effect.mediated.done && effect.dropped)
        this.receive(effect, cancelledReceipt(), false)
      else if (effect.mediated && !effect.mediated.done) this.mediate(effect)
      // Whoever answered in its place forgot that with the node's memory; it was not performed.
      else if (effect.mediated?.done?.answered !== undefined)
        this.receive(effect, { ok: false, error: INTERRUPTED }, false)
      // Cancelled before it began: it must not begin now. A keyed one may have begun, and is repeated.
      else if (effect.dropped && effect.class !== 'idempotent' && !effect.started)
        this.receive(effect, cancelledReceipt(), false)
      else this.perform(effect, true)
    }
    // Not before: an agent whose cards are dead ends as soon as nothing of it is out.
    for (const effect of [...this.#agent.state.effects.values()])
      if (isGivenUp(effect)) this.abandon(effect.id)
    for (const { kind, invocation } of this.#agent.state.pending)
      if (kind === 'cancel' && invocation !== null) this.endAsks(invocation)
  }

  /** Sends the messages of a turn on their way; inside the node nothing waits for the disk. */
  dispatch(seq: number, metas: readonly EffectMeta[]): void {
    metas.forEach(({ verdict, class: cls, due }, index) => {
      if (verdict !== 'allow' || (cls !== 'call' && cls !== 'spawn') || due !== undefined) return
      const effect = this.#agent.state.effects.get(effectId(seq, index))
      if (effect) this.#around.dispatch(this.#agent, effect)
    })
  }

  /**
   * Lets middleware at an effect that its turn asked for. Where nothing in the chain leaves the node, this may
   * be called before the turn is durable: the intent then goes with it.
   */
  mediate(effect: OpenEffect): void {
    const { fatal } = this.#around
    const agent = this.#agent
    const controller = new AbortController()
    this.#attempts.set(effect.id, controller)
    const mediating = this.#mediatingOf(effect, effect.mediated ? effect.mediated.given : effect.args)
    const decided = (ran: Ran) => {
      if (this.#attempts.get(effect.id) !== controller) return
      this.#attempts.delete(effect.id)
      if (!(agent.stopping && controller.signal.aborted)) this.#mediated(effect.id, mediating, ran)
    }
    const ran = runRequests(mediating.chain, mediating.call, controller.signal)
    if (ran instanceof Promise) ran.then(decided).catch(fatal)
    else decided(ran)
  }

  /** What stands before an effect now, whether it did when it was asked for or not. */
  #standingBefore(effect: OpenEffect): Mediating | undefined {
    const { control } = this.#around.ctx
    if (!effect.mediated && !mayMediate(control, this.#agent.address.tenant)) return undefined
    return this.#mediatingOf(effect, effect.args)
  }

  #chainOf(effect: OpenEffect): Middleware[] {
    const who = this.#agent.standing.actor()
    return this.#around.ctx.chains.of(who.row, effect.tool, cardOf(who, effect.via))
  }

  #mediatingOf(effect: OpenEffect, args: unknown): Mediating {
    const call = callOf(this.#around.ctx, this.#agent.standing.actor(), effect, args)
    return { chain: this.#chainOf(effect), call }
  }

  /** Whether something before an effect of these reaches out of the node itself: then its turn is durable first. */
  leaves(effect: OpenEffect): boolean {
    return this.#chainOf(effect).some(({ leaves }) => leaves)
  }

  /** decide₂: on exactly what is to go out, and on record in the same step. */
  #mediated(id: EffectId, mediating: Mediating, ran: Ran): void {
    const { ctx } = this.#around
    const agent = this.#agent
    const effect = agent.state.effects.get(id)
    if (!effect) return
    if (effect.dropped) return this.receive(effect, cancelledReceipt(), false)
    const asked = isAsked(effect)
    // Somebody else has decided it meanwhile.
    if (effect.mediated?.done && !asked) return
    const { ran: within, takes: needed } = withinBudgets(ctx, agent.standing.actor(), effect, mediating, ran)
    const { meta, request, error } = decideMediated(ctx, agent.standing.actor(), effect, within)
    const takes = error ? [] : needed
    const roles = ran.ask.length > 0 ? { roles: ran.ask } : {}
    const intent = {
      effect: id,
      what: 'mediated',
      chain: within.did,
      ...roles,
      ...(asked && { again: 1 as const }),
      ...(takes.length > 0 && { meters: takes }),
      ...agent.generation,
      ...meta,
    } as const
    const tip = agent.append('intent', intent, [bodyOf(ran.args, request)])
    ctx.meters.take(takes)
    ctx.crashPoint('effect.mediated')
    if (error) return this.#end(effect, mediating, { ok: false, error }, false)
    // Once it is on record it may be shown to a person, or begin.
    ctx.log.whenDurable(tip.pos, () => {
      if (meta.verdict === 'ask' && !agent.stopping)
        ctx.onTurn({
          address: agent.name,
          seq: tip.seq,
          logs: [],
          refused: [],
          asked: [`${agent.name}@${id}`],
        })
    })
    if (meta.verdict === 'ask') return agent.pump()
    const open = agent.state.effects.get(id) as OpenEffect
    if (ran.end.kind === 'answer') return this.#answer(open, mediating, ran.end)
    ctx.log.whenDurable(tip.pos, () => {
      const now = agent.state.effects.get(id)
      if (!now || agent.stopping || this.isOut(id)) return
      if (now.dropped) this.receive(now, cancelledReceipt(), false)
      else this.perform(now, false)
    })
  }

  /** A member of the chain answered in the tool's place; those that stand before it see the answer. */
  #answer(effect: OpenEffect, mediating: Mediating, end: Ran['end'] & { readonly kind: 'answer' }): void {
    const { fatal } = this.#around
    const controller = new AbortController()
    this.#attempts.set(effect.id, controller)
    const before = mediating.chain.slice(0, end.by)
    runResponses(before, mediating.call, end.receipt, controller.signal)
      .then(({ receipt, withheldBy }) => {
        this.#attempts.delete(effect.id)
        if (this.#agent.stopping && controller.signal.aborted) return
        this.#end(effect, mediating, receipt, end.read, withheldBy)
      })
      .catch(fatal)
  }

  #end(
    effect: OpenEffect,
    { chain, call }: Mediating,
    receipt: Receipt,
    attempted: boolean,
    withheldBy?: string,
    how: Besides = {},
  ): void {
    this.receive(effect, receipt, attempted, { ...how, ...(withheldBy !== undefined && { withheldBy }) })
    for (const member of chain) member.ended?.({ ...call, args: effect.args }, receipt)
  }

  perform(effect: OpenEffect, again: boolean): void {
    const { ctx, fatal } = this.#around
    const agent = this.#agent
    const standing = this.#standingBefore(effect)
    // What it was decided by stands there no more. Nothing has begun, and whoever asked may ask again; but what
    // an earlier run of the node has begun may be done.
    if (!isSameChain(effect.mediated?.done?.chain ?? [], standing?.chain ?? [])) {
      const begun = effect.started || (again && effect.class === 'idempotent')
      return this.receive(effect, { ok: false, error: begun ? CHANGED : INTERRUPTED }, false)
    }
    const mediating = effect.mediated && standing
    const controller = new AbortController()
    this.#attempts.set(effect.id, controller)
    const started = async () => {
      if (agent.stopping) throw new Stopping()
      const tip = agent.append('started', { effect: effect.id }, [])
      await ctx.log.untilDurable(tip.pos)
    }
    const decided = async (intent: IntentMeta, request: EffectRequest) => {
      if (agent.stopping) throw new Stopping()
      const said = Buffer.from(JSON.stringify(encodeRequest(request)))
      await ctx.log.untilDurable(agent.append('intent', intent, [said]).pos)
    }
    const { signal } = controller
    const retry = mediating?.chain.find((member) => member.retry)?.retry
    const who = { actor: () => agent.standing.actor(), started, decided, retry, signal }
    const back = async ({ receipt, attempted }: Performed): ReturnType<typeof runResponses> =>
      mediating && attempted ? runResponses(mediating.chain, mediating.call, receipt, signal) : { receipt }
    performEffect(ctx, who, effect, again)
      .then(async (performed) => {
        ctx.crashPoint('effect.back')
        const { receipt, withheldBy } = await back(performed)
        this.#attempts.delete(effect.id)
        if (!(agent.stopping && signal.aborted)) {
          const { attempted } = performed
          const how = howPerformed(performed)
          if (mediating) this.#end(effect, mediating, receipt, attempted, withheldBy, how)
          else this.receive(effect, receipt, attempted, how)
        }
        performed.recorded()
      })
      .catch((error) => {
        if (!(error instanceof Stopping)) fatal(error)
      })
  }

  /**
   * Records the outcome of an effect; the guest sees exactly these bytes in its next turn. `attempted`
   * says whether it may tell of the world outside, which then binds the agent.
   */
  receive(effect: OpenEffect, receipt: Receipt, attempted: boolean, besides: Besides = {}): void {
    const { ctx } = this.#around
    const agent = this.#agent
    const { upstream, ...kept } = besides
    const open = agent.state.effects.get(effect.id)
    if (!open) return
    const { used, spent, ...plain } = { used: undefined, spent: undefined, ...receipt }
    const taken = used && usedBudgets(used)
    const { event, outcome } = encodeOutcome(agent.name, effect, plain)
    const { class: cls, code } = outcome.ok ? { class: undefined, code: undefined } : outcome.error
    const before = agent.standing.row.influence
    const refund = settleEffect(agent.standing.actor(), open, outcome, attempted, taken, spent)
    const meters = givenBack(open.metered, refund?.of)
    const sank = before !== agent.standing.row.influence
    const waited = open.class === 'call' ? open.sent !== undefined || open.due > 0 : onlyWaits(open, 0)
    const meta: ReceiptMeta = {
      effect: effect.id,
      ok: outcome.ok,
      ...(cls && code && { class: cls, code }),
      ...(open.dropped && { dropped: true }),
      ...(waited && { sleep: true }),
      ...(attempted && { read: 1 as const }),
      ...(refund && { refund }),
      ...(taken && { used: encodeBudgets(taken) }),
      ...(spent && { spent: 1 as const }),
      ...(meters.length > 0 && { meters }),
      ...(upstream !== undefined && { upstream: 1 as const }),
      ...kept,
    }
    const said = upstream === undefined ? [event] : [event, Buffer.from(JSON.stringify({ upstream }))]
    agent.append('receipt', meta, said)
    ctx.meters.take(meters)
    ctx.crashPoint('receipt.appended')
    ctx.waits.remove(agent.name, effect.id)
    if (sank) this.#around.lowered(agent.address.tenant)
    agent.pump()
  }

  /** Stops an attempt that nobody waits for, unless it may change the world and has begun. */
  abandon(id: EffectId): void {
    const effect = this.#agent.state.effects.get(id)
    if (!effect || effect.class === 'read' || !effect.started) this.#attempts.get(id)?.abort()
    if (effect?.class === 'call') this.#around.dispatch(this.#agent, effect)
    else if (effect && isAsked(effect)) this.receive(effect, cancelledReceipt(), false)
  }

  /**
   * A call has ended by the kernel's word, and whoever made it was told so: nobody can approve any more what was
   * asked for it alone. What its guest asks for in its `finally` comes later, and is another matter.
   */
  endAsks(id: InvocationId): void {
    const { effects, invocations } = this.#agent.state
    for (const effect of [...effects.values()]) {
      const own =
        effect.serves.includes(id) && effect.serves.every((one) => one === id || !invocations.has(one))
      if (own && isAsked(effect)) this.receive(effect, cancelledReceipt(), false)
    }
  }

  abortAll(): void {
    for (const controller of this.#attempts.values()) controller.abort()
  }

  /** What waited for this moment: waits end, messages go out, calls that nobody answered give up. */
  due(now: number): void {
    for (const effect of [...this.#agent.state.effects.values()]) {
      if (effect.due === 0 || effect.due > now) continue
      if (effect.class === 'sleep') this.receive(effect, { ok: true, value: null }, false)
      else if (effect.class === 'call' && effect.sent === undefined)
        this.#around.dispatch(this.#agent, effect)
      else if (effect.class === 'call') this.receive(effect, { ok: false, error: LATE }, false)
      else if (isAsked(effect)) this.receive(effect, { ok: false, error: EXPIRED }, false)
    }
  }

  /** The answer of another agent, with what it had read by then. */
  receiveAnswer(
    effect: OpenEffect,
    receipt: Receipt,
    influence: Influence | undefined,
    whose: Pick<ReceiptMeta, 'answer' | 'bare'>,
  ): void {
    const { row } = this.#agent.standing.actor()
    const before = row.influence
    if (influence) join(row, influence)
    this.receive(effect, receipt, false, whose)
    if (row.influence !== before) this.#around.lowered(this.#agent.address.tenant)
  }

  /** A person approved: on record, then the effect is decided anew. Returns what is still missing. */
  approve(effect: OpenEffect, role: string, principal: string): 'allow' | 'ask' | WireError {
    const { ctx } = this.#around
    const agent = this.#agent
    const ran = effect.mediated?.done?.chain ?? []
    if (this.isOut(effect.id)) return STALE
    // Somebody else was faster: what is approved already must not be decided as if its card had sunk.
    if (agent.state.effects.get(effect.id) !== effect) return DECIDED
    const standing = this.#standingBefore(effect)
    if (!isSameChain(ran, standing?.chain ?? [])) {
      // What was shown is not what would go out now: whoever approves looks again.
      this.mediate(effect)
      return STALE
    }
    const { takes, short } = this.#needOf(effect, standing)
    if (short) {
      this.receive(effect, { ok: false, error: short }, false)
      return short
    }
    const { world, name, rootCard } = agent.standing.actor()
    const decided = approve(world, effectKey(name, effect.id), role)
    const verdict = decided.ok ? decided.verdict : undefined
    if (!verdict || verdict.verdict === 'refuse') {
      const error = this.#cutError(effect)
      this.receive(effect, { ok: false, error }, false)
      return error
    }
    const reserved = world.effects.get(effectKey(name, effect.id))?.open?.reserved
    const grant = grantOf(verdict)
    const meta = {
      effect: effect.id,
      role,
      principal,
      verdict: verdict.verdict,
      ...(verdict.card.id !== rootCard && { via: verdict.card.id }),
      ...(grant !== undefined && { grant }),
      ...(reserved && { spends: { card: verdict.card.id, of: encodeBudgets(reserved) } }),
      ...(reserved && takes.length > 0 && { meters: takes }),
    }
    const tip = agent.append('approved', meta, [])
    if (reserved) ctx.meters.take(takes)
    if (verdict.verdict === 'allow')
      ctx.log.whenDurable(tip.pos, () => {
        const open = agent.state.effects.get(effect.id)
        if (!open || agent.stopping || this.isOut(effect.id)) return
        // Given up since it was approved: it must not begin now.
        if (open.dropped) this.receive(open, cancelledReceipt(), false)
        else this.perform(open, false)
      })
    return verdict.verdict
  }

  /** What an approved effect takes of the budgets before it, or which one is short. */
  #needOf(
    effect: OpenEffect,
    standing: Mediating | undefined,
  ): { readonly takes: readonly Taking[]; readonly short?: WireError } {
    const { ctx } = this.#around
    if (!standing?.chain.some(({ budget }) => budget)) return { takes: [] }
    const { row, settings } = this.#agent.standing.actor()
    const asked = requestOf(ctx, row.tenant, effect.tool, effect.args, settings)
    if (!asked || 'bad' in asked) return { takes: [] }
    const need = ctx.meters.need(standing.chain, standing.call, costOfEffect(asked.request))
    return 'takes' in need ? need : { takes: [], short: need.short }
  }

  /** The rules have ended a pending ask: its authority sank (R15). */
  cut(id: EffectId): void {
    const effect = this.#agent.state.effects.get(id)
    if (effect && isAsked(effect)) this.receive(effect, { ok: false, error: this.#cutError(effect) }, false)
  }

  /** What it would be refused by now. */
  #cutError(effect: OpenEffect): WireError {
    const actor = this.#agent.standing.actor()
    const asked = requestOf(this.#around.ctx, actor.row.tenant, effect.tool, effect.args, actor.settings)
    if (!asked || 'bad' in asked) return CUT
    const now = redecide(actor, effect, asked.request, false)
    return now && now.by !== 'person'
      ? { ...now, code: 'Cut', message: `${CUT.message}: ${now.message}` }
      : CUT
  }
}

/** Nobody waits for it any more, and it is out nowhere. */
function isGivenUp(effect: OpenEffect): boolean {
  return effect.dropped && (isAsked(effect) || effect.class === 'call')
}

/** By which tool it was performed, and how. */
function howPerformed({ version, upstream, attempts = 1 }: Performed): Besides {
  return {
    ...(version !== undefined && { version }),
    ...(upstream !== undefined && { upstream }),
    ...(attempts > 1 && { attempts }),
  }
}

const LATE: WireError = {
  class: 'Unavailable',
  code: 'TimedOut',
  message: 'no answer came within the time allowed',
}
const EXPIRED: WireError = {
  class: 'Refused',
  code: 'ApprovalExpired',
  by: 'person',
  message: 'nobody approved it in time',
}
const STALE: WireError = {
  class: 'Refused',
  code: 'OtherDigest',
  by: 'middleware',
  message: 'its middleware has changed since it was shown, and it was asked for anew: look again',
}
const DECIDED: WireError = {
  class: 'Refused',
  code: 'AlreadyDecided',
  by: 'person',
  message: 'somebody else has decided on it meanwhile: look again',
}
const CHANGED: WireError = {
  class: 'Indeterminate',
  code: 'Indeterminate',
  message:
    'it was begun before the node stopped, and its middleware has changed since; whether it was done is unknown',
}
const INTERRUPTED: WireError = {
  class: 'Unavailable',
  code: 'Interrupted',
  message: 'the node stopped, or its middleware changed, before it was performed; it may be asked for again',
  retryAfterMs: 0,
}
const CUT: WireError = {
  class: 'Refused',
  code: 'Cut',
  by: 'revoked',
  message: 'what it was asked under has sunk since: it would no longer be allowed',
}
