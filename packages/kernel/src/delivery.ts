/**
 * Messages, answers and births between agents of a node, once both sides are awake.
 *
 * What the rules say, the receiver's entry and the sender's are written in one step. A crash keeps a
 * prefix of the log, so a message may have arrived without its sender's entry: it is found again at
 * the receiver by its key, and nobody is told twice.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type AgentRow,
  budgetShort,
  type CardRow,
  codec,
  costOf,
  counted,
  debit,
  decodeBudgets,
  encodeBudgets,
  floorOf,
  influenceOf,
  isRefusal,
  isStopped,
  join,
  meets,
  type Narrow,
  permit,
  type Refusal,
  send,
  spawn,
  stopShown,
  type TurnRow,
} from '@cardinal/cards'
import type { Receipt, WireError } from '@cardinal/tools'
import type { Answer, LiveAgent } from './agent.ts'
import type { Agents } from './agents.ts'
import {
  cardName,
  type MintedBounds,
  type MintedMeta,
  type ScopeData,
  type Taken,
  type TurnData,
} from './authority-wire.ts'
import { type Context, hmac } from './context.ts'
import { KernelError } from './errors.ts'
import { FANOUT } from './fanout.ts'
import { type Address, type InvocationId, newInvocationId, parseAddress, showAddress } from './ids.ts'
import { admitsOf, type CallArgs, callArgs, calleeOf, childKey, parseSpawnArgs } from './messages.ts'
import { narrowOf } from './narrow.ts'
import { refusalError } from './refusals.ts'
import type { Reply } from './reply.ts'
import { type OpenEffect, principalsOf } from './state.ts'
import type { View } from './view.ts'
import { wipingError } from './wiping.ts'

const CANCELLED_BY_CALLER = 'cancelled by its caller'

/** How soon a message that found no room for its receiver is tried again. */
const ROOM_RETRY_MS = 200

export class Delivery {
  readonly #ctx: Context
  readonly #agents: Agents
  readonly #view: Pick<View, 'answerOf'>
  readonly #fatal: (error: unknown) => void
  /** Messages on their way, as `address@effect`. */
  readonly #sending = new Set<string>()

  constructor(ctx: Context, agents: Agents, view: Pick<View, 'answerOf'>, fatal: (error: unknown) => void) {
    this.#ctx = ctx
    this.#agents = agents
    this.#view = view
    this.#fatal = fatal
  }

  /** Takes a message, a birth or a cancel of an agent to where it goes. */
  dispatch(agent: LiveAgent, effect: OpenEffect): void {
    const key = `${agent.name}@${effect.id}`
    // A timer may ring again while the receiver wakes.
    if (effect.class === 'call' && effect.sent === undefined && !effect.dropped) {
      if (this.#sending.has(key)) return
      this.#sending.add(key)
    }
    const taken = this.#take(agent, effect).finally(() => this.#sending.delete(key))
    taken.catch((error: unknown) => {
      // Whoever takes the agent up again finds the effect open.
      if (error instanceof KernelError && error.code === 'Closing') return
      // Nobody's refusal ends a node: whoever asked is told of it.
      const unsent = agent.state.effects.get(effect.id)?.sent === undefined
      if (error instanceof KernelError && error.class !== 'Bug' && unsent && !agent.stopping)
        return agent.outgoing.receive(effect, { ok: false, error: unavailable(error) }, false)
      this.#fatal(error)
    })
  }

  async #take(agent: LiveAgent, effect: OpenEffect): Promise<void> {
    if (effect.class === 'spawn') return this.#spawn(agent, effect)
    if (effect.dropped) return this.#cancel(agent, effect)
    if (effect.sent === undefined) return this.#send(agent, effect)
    if (effect.sent === 'lost') return
    this.#ctx.derived.apply()
    const row = this.#ctx.derived.findInvocation(effect.sent)
    if (!row || row.reply === null) return
    const given = this.#view.answerOf(row)
    if (given) this.answered({ caller: agent.name, effect: effect.id, ...given })
  }

  async #send(agent: LiveAgent, effect: OpenEffect): Promise<void> {
    const args = callArgs(effect.args)
    const address = calleeOf(agent.address.tenant, args.to) as Address
    const found = await this.#reach(agent, effect, address)
    // Whoever stops meanwhile is taken up again with the effect open.
    if (agent.stopping || !agent.state.effects.has(effect.id)) return
    // Another dispatch of the same message may have been quicker.
    const open = agent.state.effects.get(effect.id)
    if (!open || open.sent !== undefined) return
    const target = found instanceof KernelError ? undefined : found
    try {
      this.#meet(agent, effect, address, found, target, args)
    } finally {
      // Looking for it has kept it awake.
      target?.pump()
    }
  }

  /** Where there is no room for the receiver, its message waits for room: it is sent, and whoever sent it may sleep. */
  async #reach(
    agent: LiveAgent,
    effect: OpenEffect,
    address: Address,
  ): Promise<LiveAgent | KernelError | undefined> {
    for (;;) {
      const found = await this.#find(address)
        .then(async (known) => known ?? this.#firstUse(agent, effect, address))
        .catch((error: unknown) => {
          if (error instanceof KernelError && error.class === 'Busy') return error
          throw error
        })
      const noRoom = found instanceof KernelError && found.class === 'Busy'
      if (!noRoom || agent.stopping || !agent.state.effects.has(effect.id)) return found
      await sleep(ROOM_RETRY_MS)
    }
  }

  /** Sender and receiver are awake, or one of them is not there. */
  #meet(
    agent: LiveAgent,
    effect: OpenEffect,
    address: Address,
    found: LiveAgent | KernelError | undefined,
    target: LiveAgent | undefined,
    args: CallArgs,
  ): void {
    // What is wrong with an agent is told to nobody for whom it does not exist.
    const known = this.#exists(agent, address)
    if (!known && found)
      return agent.outgoing.receive(effect, refusedWith({ ok: false, code: 'NoSuchAgent' }), false)
    if (found instanceof KernelError && found.class !== 'Stopped')
      return agent.outgoing.receive(effect, { ok: false, error: unavailable(found) }, false)
    const earlier = target && this.#findEarlier(target, agent, effect)
    if (target && earlier) {
      if (earlier.same !== this.#sameOf(target, effect))
        return agent.outgoing.receive(effect, { ok: false, error: REUSED }, false)
      this.#sent(agent, effect, target, earlier.invocation, args, [])
      // It may have been answered already, to the call that came first.
      const open = agent.state.effects.get(effect.id)
      if (open?.sent) this.dispatch(agent, open)
      return
    }
    const error = target && this.#unfit(agent, effect, target, args)
    if (error) return agent.outgoing.receive(effect, { ok: false, error }, false)
    const sent = this.#arrive(agent, effect, address, target, args)
    if ('error' in sent) return agent.outgoing.receive(effect, { ok: false, error: sent.error }, false)
    this.#sent(agent, effect, target, sent.invocation, args, sent.debits, address)
  }

  #exists(agent: LiveAgent, address: Address): boolean {
    const { world, row } = agent.standing.actor()
    const other = world.agents.get(showAddress(address))
    return other !== undefined && (other.spawner === row || meets(world, row, other))
  }

  /** Whoever may make agents of an address may be the first to call it. */
  async #firstUse(agent: LiveAgent, effect: OpenEffect, address: Address): Promise<LiveAgent | undefined> {
    if (address.tenant !== agent.address.tenant) return undefined
    return this.#agents.firstUse(address, () => {
      if (agent.stopping || !agent.state.effects.has(effect.id)) return undefined
      const { world, row, name } = agent.standing.actor()
      const turns = effect.serves.flatMap((serve) => world.turns.get(serve) ?? [])
      const { type, key } = address
      const via = permit(world, row, { tool: 'agent.spawn', type, key }, effect.via, turns)
      if (isRefusal(via)) return undefined
      const taken = oneCall(via, world.nowMs)
      debit(via, decodeBudgets(taken.of))
      return { by: name, effect: effect.id, told: influenceOf(world, row), debit: taken }
    })
  }

  async #find(address: Address): Promise<LiveAgent | undefined | KernelError> {
    try {
      return await this.#agents.find(address)
    } catch (error) {
      // The node closes: whoever takes the sender up again sends it.
      if (error instanceof KernelError && error.code !== 'Closing') return error
      throw error
    }
  }

  /** The key by which a receiver knows a message again. */
  #keyOf(target: LiveAgent, agent: LiveAgent, effect: OpenEffect): string {
    const { key, method } = callArgs(effect.args)
    const { birth } = agent.identity
    if (key === undefined) return hmac(target.key.key, 'call', birth, effect.id).toString('hex')
    return hmac(target.key.key, 'keyed', birth, JSON.stringify([method, key])).toString('hex')
  }

  /** Tells a call from another one that was given the same key. */
  #sameOf(target: LiveAgent, effect: OpenEffect): string {
    const { args } = callArgs(effect.args)
    return hmac(target.key.key, 'same', JSON.stringify(args ?? null)).toString('hex')
  }

  #findEarlier(
    target: LiveAgent,
    agent: LiveAgent,
    effect: OpenEffect,
  ): { same: string; invocation: InvocationId } | undefined {
    const key = this.#keyOf(target, agent, effect)
    const recent = target.requestKeys.get(key)
    if (recent) return recent
    const row = this.#ctx.derived.findAgent(target.address)
    return row && this.#ctx.derived.findRequestKey(row.id, key)
  }

  /** What is wrong with a call apart from what cards say. Nobody is told of an agent that does not exist for it. */
  #unfit(
    agent: LiveAgent,
    effect: OpenEffect,
    target: LiveAgent,
    { method }: CallArgs,
  ): WireError | undefined {
    const known = Object.hasOwn(target.image.methods, method) ? target.image.methods[method] : undefined
    if (!known) return undefined
    const wiping = wipingError(target)
    if (wiping) return unavailable(wiping)
    const { payload } = target.limits
    if (Buffer.byteLength(JSON.stringify(effect.args ?? null)) > payload.value) return TOO_LARGE
    const refusal = this.#ctx.admission.refusal(target)
    // Whose queue or log is full is the callee's own affair.
    if (refusal) return BUSY
    if (!this.#waits(agent, effect) || known.shared === true) return undefined
    if (!this.#ctx.waits.closes(agent.name, target.name)) return undefined
    return {
      class: 'Unavailable',
      code: 'WouldDeadlock',
      message: `\`${target.name}\` waits for this agent, which would wait for it`,
    }
  }

  /** Whether the agent does nothing else until the call is answered. */
  #waits(agent: LiveAgent, effect: OpenEffect): boolean {
    if (effect.tool !== 'agent.invoke') return false
    const invocation = effect.invocation && agent.state.invocations.get(effect.invocation)
    return !!invocation && !invocation.shared
  }

  /** Decides, and writes what the receiver takes in. */
  #arrive(
    agent: LiveAgent,
    effect: OpenEffect,
    address: Address,
    target: LiveAgent | undefined,
    args: CallArgs,
  ):
    | { readonly invocation: InvocationId | undefined; readonly debits: readonly Taken[] }
    | { readonly error: WireError } {
    const { world, row } = agent.standing.actor()
    const to = showAddress(address)
    const methods = target?.image.methods
    const known = methods && Object.hasOwn(methods, args.method) ? methods[args.method] : undefined
    const id = newInvocationId(this.#ctx.clock.nowMs())
    const tool = effect.tool as 'agent.invoke' | 'agent.send'
    const turns = effect.serves.flatMap((serve) => world.turns.get(serve) ?? [])
    const own = world.agents.get(to)?.spawner === row
    const on = { tool, type: address.type, key: address.key, method: args.method }
    const via = own ? undefined : permit(world, row, on, effect.via, turns)
    if (via && isRefusal(via)) return { error: refusalError(via) }
    if (target && !known) {
      if (!own && !meets(world, row, target.standing.row))
        return { error: refusalError({ ok: false, code: 'NoSuchAgent' }) }
      return {
        error: {
          class: 'Unavailable',
          code: 'NoSuchMethod',
          message: `\`${address.type}\` has no method \`${args.method}\``,
        },
      }
    }
    const under = args.under === undefined ? undefined : agent.state.holding.handles[args.under]
    const outcome = send(world, {
      id,
      from: row.id,
      to,
      method: args.method,
      tool,
      knows: own,
      for: turns.map((turn) => turn.id),
      ...(effect.via !== undefined && { via: effect.via }),
      ...(under !== undefined && { under }),
      ...(args.admits !== undefined && { admits: admitsOf(args.admits) }),
    })
    if (!outcome.ok) return { error: refusalError(outcome) }
    const debits = via ? [oneCall(via, world.nowMs)] : []
    const turn = world.turns.get(id) as TurnRow
    if (!target || target.state.stopped || isStopped(world, turn.agent)) {
      world.turns.delete(id)
      return { invocation: undefined, debits }
    }
    this.#accept(agent, effect, target, id, turn, args, known?.shared === true, debits)
    return { invocation: id, debits: [] }
  }

  #accept(
    agent: LiveAgent,
    effect: OpenEffect,
    target: LiveAgent,
    id: InvocationId,
    turn: TurnRow,
    args: CallArgs,
    shared: boolean,
    debits: readonly Taken[],
  ): void {
    const key = this.#keyOf(target, agent, effect)
    const text = JSON.stringify(args.args ?? null)
    const event = `{"t":"invoke","id":"${id}","method":${JSON.stringify(args.method)},"args":${text}}`
    const waits = effect.tool === 'agent.invoke'
    const { caller } = turn
    if (caller?.kind !== 'agent') throw new Error('a message has a sender')
    const principals = principalsOf(agent.state, effect)
    const data: TurnData = {
      scope: scopeData(turn),
      ...(principals.length > 0 && { principals }),
      ...(waits && {
        caller: {
          agent: agent.name,
          effect: effect.id,
          floor: codec.encodeFloor(caller.floor),
          admits: codec.encodeAdmits(caller.admits),
        },
      }),
    }
    const meta = {
      what: 'invoke',
      invocation: id,
      method: args.method,
      principal: agent.name,
      deadline: this.#deadline(target, args),
      ...(shared && { shared }),
      key,
      same: this.#sameOf(target, effect),
      from: `${agent.name}@${effect.id}`,
      turn: 1,
      // Here, and not in the sender's own entry, which a crash may take.
      ...(debits.length > 0 && { debits }),
    }
    target.append('accepted', meta, [Buffer.from(event), Buffer.from(JSON.stringify(data))])
    this.#ctx.crashPoint('message.accepted')
    target.requestKeys.set(key, { same: meta.same, invocation: id })
  }

  #deadline(target: LiveAgent, { timeoutMs }: CallArgs): number {
    const { clock, control } = this.#ctx
    const most = control.findGeneration(target.address.tenant, target.address.type)?.timeoutMs ?? 0
    return clock.nowMs() + Math.min(most, timeoutMs ?? most)
  }

  /** The sender's entry: from here on it waits, or it has its receipt. */
  #sent(
    agent: LiveAgent,
    effect: OpenEffect,
    target: LiveAgent | undefined,
    invocation: InvocationId | undefined,
    args: CallArgs,
    debits: readonly Taken[],
    address?: Address,
  ): void {
    const callee = target?.name ?? showAddress(address as Address)
    if (effect.tool === 'agent.send') {
      const more = debits.length > 0 ? { debits } : {}
      return agent.outgoing.receive(effect, { ok: true, value: null }, false, more)
    }
    const serial = target && invocation && !target.state.invocations.get(invocation)?.shared
    const waits = serial === true && this.#waits(agent, effect)
    const due = target
      ? (target.state.invocations.get(invocation as InvocationId)?.deadline ?? this.#deadline(target, args))
      : this.#ctx.clock.nowMs() + (args.timeoutMs ?? this.#lostMs(agent))
    const meta = {
      effect: effect.id,
      callee,
      ...(invocation && { invocation }),
      due,
      ...(effect.due > 0 && { timed: true }),
      ...(waits && { waits }),
      ...(debits.length > 0 && { debits }),
    }
    agent.append('sent', meta, [])
    this.#ctx.crashPoint('message.sent')
    if (waits) this.#ctx.waits.add(agent.name, effect.id, callee)
    agent.pump()
  }

  #lostMs(agent: LiveAgent): number {
    return this.#ctx.control.findGeneration(agent.address.tenant, agent.address.type)?.timeoutMs ?? 0
  }

  /** An answer has been given: its caller takes it in, whether it sleeps or not. */
  answered(answer: Answer): void {
    this.#answer(answer).catch((error: unknown) => {
      // It finds the answer when it wakes, as after a restart.
      if (error instanceof KernelError && error.class === 'Busy') return this.#agents.owe(answer.caller)
      if (error instanceof KernelError) return
      this.#fatal(error)
    })
  }

  async #answer({ caller, effect: id, reply, influence, bare, from, stopped }: Answer): Promise<void> {
    const agent = await this.#agents.find(parseAddress(caller), true)
    const effect = agent && [...agent.state.effects.values()].find((e) => e.id === id)
    if (!agent || !effect || agent.stopping) return
    if (stopped !== undefined) {
      const { world, row } = agent.standing
      const shown = stopShown(world, row, world.agents.get(stopped) as AgentRow)
      // Whoever may not see the stop waits until its deadline.
      if (!shown) return
      for (const one of shown) join(row, one)
    }
    // Several calls with one key wait for one answer.
    for (const one of [...agent.state.effects.values()])
      if (one.id === id || (effect.sent !== undefined && effect.sent !== 'lost' && one.sent === effect.sent))
        agent.outgoing.receiveAnswer(
          one,
          receiptOf(reply),
          influence,
          bare ? { answer: from, bare: 1 } : { answer: from },
        )
  }

  /** The caller no longer waits: the callee is told, if that costs it nothing to know. */
  async #cancel(agent: LiveAgent, effect: OpenEffect): Promise<void> {
    const invocation = effect.sent
    const cancelled = () => agent.outgoing.receive(effect, { ok: false, error: CANCELLED }, false)
    if (invocation === undefined || invocation === 'lost') return cancelled()
    const { to } = callArgs(effect.args)
    // Before it is on record: where the node closes meanwhile, it is cancelled at its next start.
    const target = await this.#find(calleeOf(agent.address.tenant, to) as Address)
    if (agent.stopping || !agent.state.effects.has(effect.id)) return
    cancelled()
    if (!target || target instanceof KernelError || !target.state.invocations.has(invocation)) return
    const { world, row } = agent.standing
    const influence = influenceOf(world, row)
    if (costOf(world, floorOf(world, target.standing.row), influence)) return
    join(target.standing.row, influence)
    target.ending.end(invocation, 'Cancelled', 'Cancelled', CANCELLED_BY_CALLER)
  }

  async #spawn(agent: LiveAgent, effect: OpenEffect): Promise<void> {
    const { tenant } = agent.address
    const { type, key, cards, keep } = parseSpawnArgs(effect.args)
    const address: Address = { tenant, type, key: key ?? childKey(agent.address.key, effect.child ?? 0) }
    const name = showAddress(address)
    const generation = this.#ctx.control.findGeneration(tenant, type)
    if (!generation) {
      const error = {
        class: 'Refused',
        code: 'NoSuchAgent',
        by: 'card',
        message: `no agent type \`${type}\` is applied`,
      } as const
      return agent.outgoing.receive(effect, { ok: false, error }, false)
    }
    const image = await this.#ctx.images.get(generation.image)
    if (agent.stopping || !agent.state.effects.has(effect.id)) return
    const { world, row, settings } = agent.standing.actor()
    const known = world.agents.get(name)
    const names = cards.map((_card, i) => cardName(agent.identity.birth, `${effect.id}.${i}`))
    const child = { address: name, cards: names, invocation: effect.invocation, keep: keep === true }
    // Born before the node stopped, and its maker was not told.
    if (known?.births[0]?.id === names[0])
      return agent.outgoing.receive(effect, { ok: true, value: { address: name } }, false, { child })
    const turns = effect.serves.flatMap((serve) => world.turns.get(serve) ?? [])
    const from = parentOf(row, effect)
    if (!from) return agent.outgoing.receive(effect, refusedWith({ ok: false, code: 'AmbiguousCard' }), false)
    const short = budgetShort(from, FANOUT, world.nowMs)
    if (short)
      return agent.outgoing.receive(
        effect,
        refusedWith({ ok: false, code: 'Refused', by: 'limit', missing: short }),
        false,
      )
    const permitted = permit(world, row, { tool: 'agent.spawn', type, key: address.key }, effect.via, turns)
    const done = spawn(world, {
      agent: name,
      by: row.id,
      cards: names.map((card, i) => ({
        card,
        from: from.id,
        ...(narrowOf(cards[i] ?? {}, settings) as Narrow),
      })),
      for: turns.map((turn) => turn.id),
      ...(effect.via !== undefined && { via: effect.via }),
    })
    if (!done.ok) return agent.outgoing.receive(effect, refusedWith(done), false)
    if (isRefusal(permitted)) throw new Error('a spawn that was done is permitted')
    debit(from, FANOUT)
    const births = (world.agents.get(name) as AgentRow).births
    const debits = [oneCall(permitted, world.nowMs), { card: from.id, of: { fanout: '1' } }]
    const minted = births.map(mintedMeta)
    const bounds = births.map(mintedBounds)
    this.#agents.bear(address, image, generation.generation, {
      row: world.agents.get(name) as AgentRow,
      spawned: { by: agent.name, effect: effect.id },
      cards: minted,
      debits,
      payload: {
        minted: bounds,
        influence: codec.encodeInfluence((world.agents.get(name) as AgentRow).birth),
      },
    })
    this.#ctx.crashPoint('spawn.born')
    agent.outgoing.receive(effect, { ok: true, value: { address: name } }, false, { child })
    const over = child.invocation !== null && !agent.state.invocations.has(child.invocation)
    if (over && !child.keep) agent.ending.endLate(child.invocation as InvocationId)
  }
}

/** What a message or a birth takes of its card. */
function oneCall(card: CardRow, nowMs: number): Taken {
  return { card: card.id, of: encodeBudgets(counted(card, new Map([['calls', 1n]]), nowMs)) }
}

/** The card that a child's are taken from: the one named, else the only birth card. */
function parentOf(row: AgentRow, { via }: OpenEffect): CardRow | undefined {
  if (via === undefined) return row.births.length === 1 ? row.births[0] : undefined
  return [...row.held].find((card) => card.id === via)
}

function mintedMeta(card: CardRow): MintedMeta {
  return {
    id: card.id,
    ...(card.parent && { parent: card.parent.id }),
    limits: codec.encodeLimits(card.limits),
  }
}

function mintedBounds(card: CardRow): MintedBounds {
  return { now: codec.encodeBound(card.now), ever: codec.encodeBound(card.ever) }
}

function scopeData({ scope }: TurnRow): ScopeData {
  return scope.map((part) =>
    part.kind === 'bound'
      ? { bound: codec.encodeBound(part.bound) }
      : { cards: part.cards.map((card) => card.id) },
  )
}

function receiptOf(reply: Reply): Receipt {
  if (reply.ok) return reply
  const { class: cls, code, message, effect, by, missing } = reply.error
  const why = { ...(by && { by }), ...(missing !== undefined && { missing }) }
  return {
    ok: false,
    error: { class: cls as WireError['class'], code, message, ...(effect && { effect }), ...why },
  }
}

function refusedWith(refusal: Refusal): Receipt {
  return { ok: false, error: refusalError(refusal) }
}

const TOO_LARGE: WireError = {
  class: 'Malformed',
  code: 'TooLarge',
  message: 'more bytes of arguments than the agent takes',
}

const BUSY: WireError = {
  class: 'Unavailable',
  code: 'Busy',
  message: 'the agent takes nothing in now',
  retryAfterMs: 1000,
}

function unavailable({ class: cls, code, message, details }: KernelError): WireError {
  // Whose room or queue is full is nobody's affair in another agent.
  if (cls === 'Busy') return BUSY
  const { retryAfterMs } = details
  return { class: 'Unavailable', code, message, ...(typeof retryAfterMs === 'number' && { retryAfterMs }) }
}

const REUSED: WireError = {
  class: 'Refused',
  code: 'KeyReused',
  by: 'limit',
  message: 'this idempotency key was used with other arguments',
}
const CANCELLED: WireError = { class: 'Cancelled', code: 'Cancelled', message: 'cancelled by the program' }
