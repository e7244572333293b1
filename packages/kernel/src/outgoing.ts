/**
 * The effects that one awake agent has out: performing them, waiting for answers and approvals, and
 * recording what came of each.
 */
import { approve, type EffectRequest, encodeBudgets, type Influence, join } from '@cardinal/cards'
import type { Receipt, WireError } from '@cardinal/tools'
import type { LiveAgent, Surroundings } from './agent.ts'
import { effectKey } from './asking.ts'
import type { Child, Taken } from './authority-wire.ts'
import { redecide } from './decide.ts'
import { type EffectId, effectId } from './ids.ts'
import { cancelledReceipt, encodeOutcome } from './outcome.ts'
import { performEffect, Stopping } from './perform.ts'
import { requestOf } from './requests.ts'
import { encodeRequest, settleEffect } from './settle.ts'
import { isAsked, type OpenEffect, onlyWaits } from './state.ts'
import type { EffectMeta, IntentMeta, ReceiptMeta } from './wire.ts'

/** What a receipt says besides the outcome. */
interface Besides {
  readonly child?: Child
  readonly answer?: string
  readonly bare?: 1
  readonly denied?: string
  readonly debits?: readonly Taken[]
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
      // Given up before the node stopped, and nobody was told.
      if (effect.dropped && (isAsked(effect) || effect.class === 'call')) this.abandon(effect.id)
      // The callee may have answered before the node stopped.
      else if (effect.class === 'call' && effect.sent !== undefined)
        this.#around.dispatch(this.#agent, effect)
      else if (onlyWaits(effect, now)) continue
      else if (effect.class === 'call' || effect.class === 'spawn') this.#around.dispatch(this.#agent, effect)
      // Cancelled before it began: it must not begin now. A keyed one may have begun, and is repeated.
      else if (effect.dropped && effect.class !== 'idempotent' && !effect.started)
        this.receive(effect, cancelledReceipt(), false)
      else this.perform(effect, true)
    }
  }

  /** Sends the messages of a turn on their way; inside the node nothing waits for the disk. */
  dispatch(seq: number, metas: readonly EffectMeta[]): void {
    metas.forEach(({ verdict, class: cls, due }, index) => {
      if (verdict !== 'allow' || (cls !== 'call' && cls !== 'spawn') || due !== undefined) return
      const effect = this.#agent.state.effects.get(effectId(seq, index))
      if (effect) this.#around.dispatch(this.#agent, effect)
    })
  }

  perform(effect: OpenEffect, again: boolean): void {
    const { ctx, fatal } = this.#around
    const agent = this.#agent
    const controller = new AbortController()
    this.#attempts.set(effect.id, controller)
    const started = async () => {
      if (agent.stopping) throw new Stopping()
      const tip = agent.append('started', { effect: effect.id }, [])
      await ctx.log.untilDurable(tip.pos)
    }
    const decided = (intent: IntentMeta, request: EffectRequest) => {
      if (agent.stopping) throw new Stopping()
      agent.append('intent', intent, [Buffer.from(JSON.stringify(encodeRequest(request)))])
    }
    const who = { actor: () => agent.standing.actor(), started, decided, signal: controller.signal }
    performEffect(ctx, who, effect, again)
      .then(({ receipt, attempted, recorded }) => {
        this.#attempts.delete(effect.id)
        if (!(agent.stopping && controller.signal.aborted)) this.receive(effect, receipt, attempted)
        recorded()
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
    const open = agent.state.effects.get(effect.id)
    if (!open) return
    const { event, outcome } = encodeOutcome(agent.name, effect, receipt)
    const { class: cls, code } = outcome.ok ? { class: undefined, code: undefined } : outcome.error
    const before = agent.standing.row.influence
    const refund = settleEffect(agent.standing.actor(), open, outcome, attempted)
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
      ...besides,
    }
    agent.append('receipt', meta, [event])
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
    const { world, name, rootCard } = agent.standing.actor()
    const decided = approve(world, effectKey(name, effect.id), role)
    const verdict = decided.ok ? decided.verdict : undefined
    if (!verdict || verdict.verdict === 'refuse') {
      const error = this.#cutError(effect)
      this.receive(effect, { ok: false, error }, false)
      return error
    }
    const reserved = world.effects.get(effectKey(name, effect.id))?.open?.reserved
    const meta = {
      effect: effect.id,
      role,
      principal,
      verdict: verdict.verdict,
      ...(verdict.card.id !== rootCard && { via: verdict.card.id }),
      ...(reserved && { spends: { card: verdict.card.id, of: encodeBudgets(reserved) } }),
    }
    const tip = agent.append('approved', meta, [])
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

const LATE: WireError = {
  class: 'Unavailable',
  code: 'TimedOut',
  message: 'no answer came within the time allowed',
}
const CUT: WireError = {
  class: 'Refused',
  code: 'Cut',
  by: 'revoked',
  message: 'what it was asked under has sunk since: it would no longer be allowed',
}
