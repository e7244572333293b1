/** Agents that talk (R7, R19, R20): inputs from outside, sends, replies and timers. */

import type { Bound } from '../bound.ts'
import { OPEN } from '../flow.ts'
import { callerSink, showSinks, sinksLeq } from '../sink.ts'
import { actor, isRefusal, ONE_CALL, parseAddress, permit, turnsOf } from './act.ts'
import { counted, debit } from './budget.ts'
import { flowSinksOf, influenceOf } from './ceiling.ts'
import { heldCard, isLive, isStopped, isStoppedTo, stoppingRevocations } from './live.ts'
import { DONE, no, type Outcome } from './outcome.ts'
import {
  type Admits,
  type Agent,
  type Influence,
  type Method,
  NO_ADMITS,
  type Revocation,
  type ScopePart,
  type Turn,
  UNTOUCHED,
  type World,
} from './state.ts'
import { costOf, floorAtCall, floorOf, join, meets } from './taint.ts'

const UNDECLARED: Method = { authority: 'caller', admits: NO_ADMITS }

function methodOf(world: World, agent: Agent, name: string): Method {
  const methods = world.methods.get(agent.id) ?? world.methods.get(`${agent.tenant}/${agent.type}`)
  return methods?.get(name) ?? UNDECLARED
}

export interface InputOf {
  readonly id: string
  readonly to: string
  readonly method: string
  readonly principal: string
  readonly labels: readonly string[]
  /** The bound of the principal's role binding; asked for once all else is right. */
  readonly scope?: () => Bound
}

/** A call from outside, with the labels of its route. */
export function input(world: World, of: InputOf): Outcome {
  const to = world.agents.get(of.to)
  if (!to) return no('NoSuchAgent')
  if (world.turns.has(of.id)) return no('IdTaken')
  if (isStopped(world, to)) return no('Stopped')
  const scope = of.scope?.()
  join(to, { flow: OPEN, labels: new Set(of.labels) })
  const own = methodOf(world, to, of.method).authority === 'own'
  addTurn(world, {
    id: of.id,
    agent: to,
    scope: own || !scope ? [] : [{ kind: 'bound', bound: scope }],
    caller: { kind: 'principal', name: of.principal },
  })
  return DONE
}

function addTurn(world: World, turn: Omit<Turn, 'replied'>): void {
  world.turns.set(turn.id, { ...turn, replied: false })
}

export interface SendOf {
  readonly id: string
  readonly from: string
  readonly to: string
  readonly method: string
  /** Left out: `agent.send`. */
  readonly tool?: 'agent.send' | 'agent.invoke'
  readonly via?: string
  readonly under?: string
  readonly for?: readonly string[]
  /** What the caller lets the reply add to it. */
  readonly admits?: Admits
  /** The sender made the receiver, and was told so: that it is there is no news. Not so in `cards sim`. */
  readonly knows?: boolean
}

/** A message or call to another agent. It carries what the sender has read, and may not lower a receiver that did not say so. */
export function send(world: World, of: SendOf): Outcome {
  const from = actor(world, of.from)
  if (isRefusal(from)) return from
  if (world.turns.has(of.id)) return no('IdTaken')
  const address = parseAddress(of.to)
  if (!address) return no('BadOp', 'an agent is `tenant/type/key`')
  const turns = turnsOf(world, from, of.for)
  if (isRefusal(turns)) return turns
  const under = of.under === undefined ? undefined : heldCard(from, of.under)
  if (of.under !== undefined) {
    if (!under) return no('NoSuchCard')
    if (!isLive(world, under)) return no('NotLive')
  }
  const to = world.agents.get(of.to)
  const via =
    to?.spawner === from
      ? undefined
      : permit(
          world,
          from,
          { tool: of.tool ?? 'agent.send', type: address.type, key: address.key, method: of.method },
          of.via,
          turns,
        )
  if (via && isRefusal(via)) return via
  if (!to || !(of.knows || meets(world, from, to))) return no('NoSuchAgent')
  const method = methodOf(world, to, of.method)
  const influence = influenceOf(world, from)
  const loss = costOf(world, floorOf(world, to), influence, method.admits)
  if (loss) return no('WouldTaint', { sinks: showSinks(loss.sinks), labels: loss.labels })
  const stopped = isStopped(world, to)
  if (stopped && showsStop(world, from, to)) return no('Stopped')
  if (via) debit(via, counted(via, ONE_CALL, world.nowMs))
  const floor = floorAtCall(world, from)
  // A stop that may not be seen looks like silence: the message is taken, and nobody reads it.
  if (!stopped) join(to, influence)
  const scope: ScopePart[] = [
    { kind: 'cards', cards: under ? [under] : from.births },
    ...turns.flatMap((turn) => turn.scope),
  ]
  addTurn(world, {
    id: of.id,
    agent: to,
    scope: method.authority === 'own' ? [] : scope,
    caller: { kind: 'agent', agent: from, floor, admits: of.admits ?? NO_ADMITS },
  })
  return DONE
}

function showsStop(world: World, from: Agent, to: Agent): boolean {
  const shown = stopShown(world, from, to)
  for (const influence of shown ?? []) join(from, influence)
  return shown !== undefined
}

/**
 * Whether an agent may see that another is stopped: the host or the clock suffice, or those revocations
 * do that cost it nothing. What it takes on by seeing it; undefined if it may not.
 */
export function stopShown(world: World, to: Agent, stopped: Agent): readonly Influence[] | undefined {
  if (isStoppedTo(world, stopped, () => false)) return []
  const floor = floorOf(world, to)
  const free = (revocation: Revocation) => !costOf(world, floor, revocation.influence)
  if (!isStoppedTo(world, stopped, free)) return undefined
  return stoppingRevocations(stopped)
    .filter(free)
    .map(({ influence }) => influence)
}

/** The answer of a turn, once, with what its agent has read by now; its caller takes that on. */
export function reply(world: World, id: string): Outcome {
  const answered = answer(world, id)
  if (!answered.ok) return answered
  const caller = world.turns.get(id)?.caller
  if (caller?.kind === 'agent') join(caller.agent, answered.influence)
  return DONE
}

/**
 * As `reply`, where the answer is on its way: its caller takes on `influence` when it arrives. One that
 * was `declassified` carries nothing of what its agent has read.
 */
export function answer(world: World, id: string, declassified = false): Outcome<{ influence: Influence }> {
  const turn = world.turns.get(id)
  if (!turn?.caller) return no('NoSuchCall')
  const { agent, caller } = turn
  if (isStopped(world, agent)) return no('Stopped')
  if (turn.replied) return no('NoSuchCall')
  const influence = declassified ? UNTOUCHED : influenceOf(world, agent)
  if (declassified) {
    // Whoever may say so by its right costs nobody anything.
  } else if (caller.kind === 'principal') {
    const sink = callerSink(caller.name)
    if (!sinksLeq([sink], flowSinksOf(world, agent))) return no('Refused', showSinks([sink]), 'flow')
  } else {
    const loss = costOf(world, caller.floor, influence, caller.admits)
    if (loss) return no('WouldTaint', { sinks: showSinks(loss.sinks), labels: loss.labels })
  }
  turn.replied = true
  return { ok: true, influence }
}

/** A turn of the agent's own that serves the turns it was set in. */
export function timer(world: World, id: string, agentId: string, serves: readonly string[]): Outcome {
  const agent = actor(world, agentId)
  if (isRefusal(agent)) return agent
  if (world.turns.has(id)) return no('IdTaken')
  const turns = turnsOf(world, agent, serves)
  if (isRefusal(turns)) return turns
  addTurn(world, { id, agent, scope: turns.flatMap((turn) => turn.scope), caller: undefined })
  return DONE
}
