/**
 * How invocations of one awake agent end, and what ends with them: answers on their way to callers,
 * children that were made for an invocation, and the agent itself when its cards are dead.
 */
import { costOf, floorOf, influenceOf, join, receipt } from '@cardinal/cards'
import type { Tip } from '@cardinal/oplog'
import { type Acts, noActs, toldBy } from './acts.ts'
import type { LiveAgent, Surroundings } from './agent.ts'
import { type Answered, endChildren } from './answers.ts'
import { effectKey } from './asking.ts'
import type { AuthorityMeta, AuthorityPayload, TurnData } from './authority-wire.ts'
import { fanoutOfEnd } from './fanout.ts'
import type { InvocationId } from './ids.ts'
import { refusalError } from './refusals.ts'
import type { Reply, ReplyError } from './reply.ts'
import type { RepliedMeta } from './wire.ts'

/** How long the `finally` of an invocation that was ended may keep the next one waiting. */
const ENDING_MS = 30_000

export class Ending {
  readonly #around: Surroundings
  readonly #agent: LiveAgent

  constructor(around: Surroundings, agent: LiveAgent) {
    this.#around = around
    this.#agent = agent
  }

  /** Takes an answer to the agent that waits for it: it stands behind this agent's entry in the log. */
  passOn({ to, bare }: Answered, tip: Tip): void {
    if (!to) return
    const { row, world } = this.#agent.standing
    const influence = bare ? undefined : influenceOf(world, row)
    const from = `${this.#agent.name}@${tip.seq}`
    this.#around.answered({ ...to, influence, from, ...(bare && { bare }) })
  }

  /** What the acts of a turn add to the readable part of its entry. */
  metaOf({ cards, revoked, took, gave, debits, refunds, declassified }: Acts): AuthorityMeta {
    const lists = { cards, revoked, took, gave, debits, refunds, declassified }
    return Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0))
  }

  payloadOf(acts: Acts): AuthorityPayload {
    const told = toldBy(this.#agent.standing, acts)
    const { previewed = [] } = this.#agent.state.holding
    return {
      ...(acts.minted.length > 0 && { minted: acts.minted }),
      ...(told && { told }),
      ...(acts.kept.length > 0 && { kept: acts.kept }),
      ...(acts.previewed.length > 0 && { previewed: [...new Set([...previewed, ...acts.previewed])] }),
    }
  }

  /** After the entry of a turn is written: revocations are on record, whoever they stop ends, offers are announced. */
  told({ pos }: Tip, { cards, revoked, gave, took }: Acts): void {
    const { authority } = this.#around.ctx
    for (const card of revoked) authority.noteRevoked({ pos, card, by: this.#agent.name })
    for (const { owner } of cards) if (owner !== undefined) this.#around.offered(owner)
    if (revoked.length > 0) this.#around.sunk(this.#agent.address.tenant)
    else if (gave.length + took.length > 0) this.#around.lowered(this.#agent.address.tenant)
  }

  /** Ends an invocation by the kernel's word; a guest that already works on it is told at its next await. */
  end(id: InvocationId, cls: string, code: string, why: string): void {
    const agent = this.#agent
    agent.betweenTurns(() => {
      const open = agent.state.invocations.get(id)
      if (!open) return
      const error: ReplyError = { class: cls, code, message: why }
      if (open.delivered && !agent.state.stopped) {
        const event = Buffer.from(JSON.stringify({ t: 'cancel', id, why }))
        agent.append('accepted', { what: 'cancel', invocation: id, principal: 'kernel' }, [event])
      }
      const caller = agent.state.served.get(id)?.caller
      const acts = noActs()
      endChildren(agent, [id], acts, this.#around.ctx)
      const meta = { invocation: id, code, ...this.#ending(open), ...this.metaOf(acts) }
      const tip = agent.append('replied', meta, [Buffer.from(JSON.stringify(error))], this.payloadOf(acts))
      this.told(tip, acts)
      agent.outgoing.endAsks(id)
      this.#answer(id, caller, tip, error)
      agent.pump()
    })
  }

  /** Tells whoever asked that the kernel ended it: an agent at once, somebody outside when it is durable. */
  #answer(
    id: InvocationId,
    caller: TurnData['caller'],
    tip: Tip,
    error: ReplyError,
    stopped: { readonly stopped?: string } = {},
  ): void {
    const reply: Reply = { ok: false, error }
    if (caller && !('principal' in caller)) {
      const from = `${this.#agent.name}@${tip.seq}`
      const { agent, effect } = caller
      this.#around.answered({ caller: agent, effect, reply, influence: undefined, from, ...stopped })
    } else this.#around.ctx.log.whenDurable(tip.pos, () => this.#around.released(id, reply))
  }

  /** A child was born after the invocation that it was made for had ended. */
  endLate(id: InvocationId): void {
    const acts = noActs()
    endChildren(this.#agent, [id], acts, this.#around.ctx)
    if (acts.revoked.length === 0) return
    this.told(this.#agent.append('revoked', this.metaOf(acts), [], this.payloadOf(acts)), acts)
  }

  /** What a serial invocation that the guest knows may still do, so that nothing else sees it half done. */
  #ending({ delivered, shared }: { delivered: boolean; shared: boolean }): Partial<RepliedMeta> {
    if (!delivered) return { undelivered: true }
    return shared ? {} : { until: this.#around.ctx.clock.nowMs() + ENDING_MS }
  }

  /** The agent is stopped: whoever waits for it is told so, as far as it may know, and nothing of it runs again. */
  halt(): void {
    const agent = this.#agent
    if (agent.outgoing.busy || agent.state.stopped) return
    const error = refusalError({ ok: false, code: 'Stopped' })
    for (const [id, open] of [...agent.state.invocations]) {
      const caller = agent.state.served.get(id)?.caller
      const meta = { invocation: id, code: 'Stopped', ...(open.delivered ? {} : { undelivered: true }) }
      const tip = agent.append('replied', meta, [Buffer.from(JSON.stringify(error))])
      this.#answer(id, caller, tip, error, { stopped: agent.name })
    }
    const { world } = agent.standing
    for (const id of agent.state.effects.keys()) {
      this.#around.ctx.waits.remove(agent.name, id)
      const key = effectKey(agent.name, id)
      if (world.effects.get(key)?.open)
        receipt(world, { id: key, outcome: 'unknown', more: false, learned: false })
      world.effects.delete(key)
    }
    const refunds = fanoutOfEnd(world, agent.standing.row)
    agent.append('stopped', refunds.length > 0 ? { refunds } : {}, [])
    this.#around.quiet(agent)
  }

  /** Tells the agent of offers to it that cost it nothing to know of; it takes on what their offerers had read. */
  announceOffers(): void {
    const agent = this.#agent
    const { world, row } = agent.standing
    if (world.offers.size === 0) return
    for (const { card, by, influence, lapses } of [...world.offers.values()]) {
      if (lapses <= world.nowMs) world.offers.delete(card)
      if (card.owner !== row || lapses <= world.nowMs || agent.state.holding.handles.includes(card.id))
        continue
      if (costOf(world, floorOf(world, row), influence)) continue
      join(row, influence)
      const handle = agent.state.holding.handles.length
      const event = Buffer.from(JSON.stringify({ t: 'offer', card: handle, id: card.id, from: by.id }))
      agent.append('accepted', { what: 'offer', card: card.id, principal: by.id }, [event])
    }
  }
}
