/**
 * `cardinal cards sim`: the kernel's own rules over a history of operations, one JSON object a line.
 *
 * No guests, no clock, the host's view. Auditors feed it, and tests compare it with an independent model.
 */
import { parseExactJson } from '../exact-json.ts'
import { showLimits } from '../limits.ts'
import { placeOfTool } from '../names.ts'
import { input, reply, send, timer } from '../rules/acts-between.ts'
import { confine, fork, reroot, root } from '../rules/acts-of-host.ts'
import { accept, drop, offer, preview, revoke, spawn } from '../rules/acts-on-cards.ts'
import { flowSinksOf, keptSinks } from '../rules/ceiling.ts'
import { approve, begin, cut, decide, receipt } from '../rules/effects.ts'
import type { Verdict } from '../rules/judge.ts'
import { isLive, isStopped } from '../rules/live.ts'
import type { Narrow } from '../rules/mint.ts'
import { no, type Outcome } from '../rules/outcome.ts'
import { BUILT_IN, type Method, newDerived, newWorld, type World } from '../rules/state.ts'
import { showSinks } from '../sink.ts'
import { BadOp, Fields, isObject } from './fields.ts'
import { showFullBound } from './full-form.ts'
import {
  BadGrant,
  grantsOf,
  parseAdmits,
  parseRequest,
  parseSinkAt,
  parseSinks,
  parseSpend,
} from './parse.ts'

type Shown = Outcome<Record<string, unknown>> & { readonly cut?: readonly string[] }
type Op = (world: World, f: Fields) => Shown

/**
 * One simulated node.
 *
 * @example
 * const sim = new Sim()
 * sim.run('{"op":"tick","ms":5}') // '{"ok":true,"now":5}'
 */
export class Sim {
  #world = newWorld()

  /** Runs one line and returns the line that answers it. Never throws for what a line says. */
  run(line: string): string {
    return JSON.stringify(this.#answer(line))
  }

  #answer(line: string): Shown {
    try {
      const given = parseLine(line)
      const fields = new Fields(given)
      const name = fields.text('op')
      if (name === 'reset') {
        fields.done()
        this.#world = newWorld()
        return { ok: true }
      }
      const op = Object.hasOwn(OPS, name) ? OPS[name] : undefined
      if (!op) throw new BadOp(`there is no operation \`${name}\``)
      const shown = op(this.#world, fields)
      const ended = cut(this.#world)
      return ended.length > 0 ? { ...shown, cut: ended } : shown
    } catch (error) {
      if (error instanceof BadOp) return no('BadOp', error.message)
      if (error instanceof BadGrant) return no('BadGrant', error.message)
      throw error
    }
  }
}

function parseLine(line: string): unknown {
  try {
    return parseExactJson(line)
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof RangeError) throw new BadOp(error.message)
    throw error
  }
}

/** Left-out fields stay left out: a card's parser tells an absent bound from an empty one. */
function present<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, v]) => v !== undefined)) as never
}

function narrowOf(f: Fields): Narrow {
  return present({ now: f.any('now'), ever: f.any('ever'), limits: f.any('limits'), clip: f.flag('clip') })
}

function actOf(f: Fields) {
  return present({ via: f.optionalText('via'), for: f.optionalTexts('for') })
}

/** Reads all fields before anything is done. */
function read<T>(f: Fields, fields: T): T {
  f.done()
  return fields
}

const OPS: Record<string, Op> = {
  tool(world, f) {
    const { tool, sinks, yields } = read(f, {
      tool: f.text('tool'),
      sinks: f.optionalTexts('sinks') ?? [],
      yields: f.optionalTexts('yields') ?? [],
    })
    const place = placeOfTool(tool)
    if (!place || BUILT_IN.some((name) => name === tool)) throw new BadOp(`\`${tool}\` is no name for a tool`)
    const cells = sinks.map((sink) => (sink === '{host}' ? 'host' : parseSinkAt(sink, 'sinks')))
    world.tools.set(tool, { place, sinks: cells, yields })
    world.derived = newDerived()
    return { ok: true }
  },
  type(world, f) {
    const { type, methods } = read(f, { type: f.text('type'), methods: f.object('methods') })
    if (!/^[^/]+\/[^/]+$/.test(type)) throw new BadOp('`type` is `tenant/type`')
    const parsed = Object.entries(methods).map(([name, given]): [string, Method] => [
      name,
      methodOf(name, given),
    ])
    world.methods.set(type, new Map(parsed))
    return { ok: true }
  },
  root(world, f) {
    return root(world, read(f, { agent: f.text('agent'), card: f.text('card'), ...narrowOfRoot(f) }))
  },
  reroot(world, f) {
    return reroot(world, read(f, { agent: f.text('agent'), ...narrowOfRoot(f) }))
  },
  spawn(world, f) {
    const given = f.some('cards')
    if (!Array.isArray(given)) throw new BadOp('`cards` is a list')
    const cards = given.map((one) => {
      const fields = new Fields(one)
      return read(fields, { card: fields.text('card'), from: fields.text('from'), ...narrowOf(fields) })
    })
    return spawn(world, read(f, { agent: f.text('agent'), by: f.text('by'), cards, ...actOf(f) }))
  },
  offer(world, f) {
    const names = { card: f.text('card'), by: f.text('by'), from: f.text('from'), to: f.text('to') }
    const lapses = present({ lapses: f.optionalWhole('lapses') })
    return offer(world, read(f, { ...names, ...lapses, ...actOf(f), ...narrowOf(f) }))
  },
  preview(world, f) {
    const { agent, card, admits } = read(f, {
      agent: f.text('agent'),
      card: f.text('card'),
      admits: f.any('admits'),
    })
    const seen = preview(world, agent, card, admits === undefined ? undefined : parseAdmits(admits, 'admits'))
    if (!seen.ok) return seen
    return { ok: true, now: showFullBound(seen.card.now), ever: showFullBound(seen.card.ever) }
  },
  accept(world, f) {
    const { agent, card, allowLoss } = read(f, {
      agent: f.text('agent'),
      card: f.text('card'),
      allowLoss: f.flag('allowLoss'),
    })
    return accept(world, agent, card, allowLoss)
  },
  drop(world, f) {
    const { agent, card } = read(f, { agent: f.text('agent'), card: f.text('card') })
    return drop(world, agent, card)
  },
  revoke(world, f) {
    const { card, by } = read(f, { card: f.text('card'), by: f.optionalText('by') })
    return revoke(world, card, by)
  },
  confine(world, f) {
    const { target, ceiling, flow } = read(f, {
      target: f.text('target'),
      ceiling: f.any('ceiling'),
      flow: f.optionalTexts('flow'),
    })
    if (!/^[^/]+(\/[^/]+){0,2}$/.test(target))
      throw new BadOp('`target` is a tenant, `tenant/type` or an agent')
    const bound = ceiling === undefined ? undefined : grantsOf(ceiling, 'ceiling')
    return confine(world, target, bound, flow && parseSinks(flow, 'flow'))
  },
  tick(world, f) {
    const { ms } = read(f, { ms: f.whole('ms') })
    if (!Number.isSafeInteger(world.nowMs + ms)) throw new BadOp('`ms` leads beyond what numbers count')
    world.nowMs += ms
    return { ok: true, now: world.nowMs }
  },
  input(world, f) {
    const { scope, ...of } = read(f, {
      id: f.text('id'),
      to: f.text('to'),
      method: f.text('method'),
      principal: f.text('principal'),
      labels: f.optionalTexts('labels') ?? ['untrusted'],
      scope: f.any('scope'),
    })
    return input(world, { ...of, ...(scope !== undefined && { scope: () => grantsOf(scope, 'scope') }) })
  },
  send(world, f) {
    const admits = f.any('admits')
    const of = read(f, {
      id: f.text('id'),
      from: f.text('from'),
      to: f.text('to'),
      method: f.text('method'),
      ...actOf(f),
      ...present({ under: f.optionalText('under') }),
    })
    return send(world, { ...of, ...(admits !== undefined && { admits: parseAdmits(admits, 'admits') }) })
  },
  reply(world, f) {
    return reply(world, read(f, f.text('id')))
  },
  timer(world, f) {
    const { id, agent, serves } = read(f, {
      id: f.text('id'),
      agent: f.text('agent'),
      serves: f.optionalTexts('for') ?? [],
    })
    return timer(world, id, agent, serves)
  },
  decide(world, f) {
    const { agent, q, act, approved } = read(f, {
      agent: f.text('agent'),
      q: f.some('q'),
      act: actOf(f),
      approved: f.optionalTexts('approved') ?? [],
    })
    if (!world.agents.has(agent)) return no('NoSuchAgent')
    const decided = decide(world, { agent, request: parseRequest(q), ...act }, new Set(approved))
    return decided.ok ? showVerdict(decided.verdict) : decided
  },
  do(world, f) {
    const { id, agent, q, act, stream } = read(f, {
      id: f.text('id'),
      agent: f.text('agent'),
      q: f.some('q'),
      act: actOf(f),
      stream: f.flag('stream'),
    })
    if (world.effectIds.has(id)) return no('IdTaken')
    if (!world.agents.has(agent)) return no('NoSuchAgent')
    const begun = begin(world, id, { agent, request: parseRequest(q), stream, ...act })
    return begun.ok ? showVerdict(begun.verdict) : begun
  },
  approve(world, f) {
    const { id, role } = read(f, { id: f.text('id'), role: f.text('role') })
    const decided = approve(world, id, role)
    return decided.ok ? showVerdict(decided.verdict) : decided
  },
  receipt(world, f) {
    const { spend, outcome, ...of } = read(f, {
      id: f.text('id'),
      outcome: f.optionalOneOf('outcome', ['done', 'failed', 'unknown']) ?? 'done',
      spend: f.any('spend'),
      more: f.flag('more'),
    })
    return receipt(world, { ...of, outcome, ...(spend !== undefined && { spend: parseSpend(spend) }) })
  },
  fork(world, f) {
    const { agent, as, cards } = read(f, {
      agent: f.text('agent'),
      as: f.text('as'),
      cards: f.object('cards'),
    })
    if (!Object.values(cards).every((id) => typeof id === 'string'))
      throw new BadOp('`cards` maps each card to the id of its twin')
    return fork(world, agent, as, cards as Record<string, string>)
  },
  show(world, f) {
    const agent = world.agents.get(read(f, f.text('agent')))
    if (!agent) return no('NoSuchAgent')
    return {
      ok: true,
      stopped: isStopped(world, agent),
      flow: showSinks(flowSinksOf(world, agent)),
      labels: [...agent.influence.labels].sort(),
      held: [...agent.held].map((card) => card.id).sort(),
      open: [...world.effects.values()]
        .filter((e) => e.agent === agent && e.open)
        .map((e) => e.id)
        .sort(),
      keeps: showSinks(keptSinks(world, agent)),
    }
  },
  get(world, f) {
    const card = world.cards.get(read(f, f.text('card')))
    if (!card) return no('NoSuchCard')
    return {
      ok: true,
      live: isLive(world, card),
      parent: card.parent?.id ?? null,
      owner: card.owner.id,
      now: showFullBound(card.now),
      ever: showFullBound(card.ever),
      limits: showLimits(card.limits),
    }
  },
}

function narrowOfRoot(f: Fields): Narrow {
  return present({ now: f.some('now'), ever: f.any('ever'), limits: f.any('limits') })
}

function methodOf(name: string, given: unknown): Method {
  if (!isObject(given)) throw new BadOp(`method \`${name}\` is an object`)
  const fields = new Fields(given)
  const authority = fields.optionalOneOf('authority', ['caller', 'own']) ?? 'caller'
  const admits = fields.any('admits')
  fields.done()
  return { authority, admits: parseAdmits(admits === undefined ? {} : admits, 'admits') }
}

function showVerdict(verdict: Verdict): Shown {
  const via = 'card' in verdict && verdict.card ? { via: verdict.card.id } : {}
  if (verdict.verdict === 'allow') return { ok: true, verdict: 'allow', ...via }
  if (verdict.verdict === 'ask') return { ok: true, verdict: 'ask', ...via, ask: verdict.ask }
  const { by, code, missing } = verdict
  return {
    ok: true,
    verdict: 'refuse',
    ...via,
    by,
    ...(code && { code }),
    ...(missing && { missing: showSinks(missing) }),
  }
}
