/** What an `apply` would change, and what its author may not have meant. Changes nothing. */
import {
  cellHas,
  type Grant,
  NODE_NAMES,
  newWorld,
  type RootCard,
  showFullBound,
  showLimits,
  showSinks,
  sinksLeq,
  sinksOfAll,
} from '@cardinal/cards'
import type { Tool } from '@cardinal/tools'
import { toolRows } from './tool-rows.ts'

/** A grant that a bound gains or loses. */
interface Changed {
  readonly bound: 'now' | 'ever'
  readonly grant: Grant
}

export interface CardPlan {
  readonly now: readonly Grant[]
  readonly ever: readonly Grant[]
  readonly limits: object
  readonly added: readonly Changed[]
  readonly removed: readonly Changed[]
  /** Of the version in force. */
  readonly limitsBefore?: object
  readonly warnings: readonly string[]
}

/** The card in full form, beside the one before it. */
export function planCard(card: RootCard, before: RootCard | undefined, tools: readonly Tool[]): CardPlan {
  const next = boundsOf(card)
  const last = boundsOf(before)
  return {
    ...next,
    limits: showLimits(card.limits),
    added: missing(next, last),
    removed: missing(last, next),
    warnings: [
      ...idle(card, tools),
      ...uncleared(card, tools),
      ...(before ? released(card, before, tools) : []),
    ],
    ...(before && { limitsBefore: showLimits(before.limits) }),
  }
}

interface Bounds {
  readonly now: readonly Grant[]
  readonly ever: readonly Grant[]
}

function boundsOf(card: RootCard | undefined): Bounds {
  return { now: showFullBound(card?.now ?? []), ever: showFullBound(card?.ever ?? []) }
}

/** What stands in `a` and not in `b`. */
function missing(a: Bounds, b: Bounds): Changed[] {
  return (['now', 'ever'] as const).flatMap((bound) => {
    const there = new Set(b[bound].map((grant) => JSON.stringify(grant)))
    return a[bound].filter((grant) => !there.has(JSON.stringify(grant))).map((grant) => ({ bound, grant }))
  })
}

/** Grants that allow nothing. */
function idle(card: RootCard, tools: readonly Tool[]): string[] {
  if (card.now.length === 0) return ['it may do nothing: `now` is empty']
  const places = [...toolRows(tools).values()].map(({ place }) => place)
  return card.now.flatMap((box) => {
    const [grant] = showFullBound([box])
    const name = String(grant?.tool)
    if (!places.some((place) => cellHas(box.tool, place))) return [`no tool is there that \`${name}\` names`]
    if (name.startsWith('agent.') && box.ask.size > 0)
      return [`\`${name}\` asks a person, which acts between agents cannot: it is always refused`]
    return []
  })
}

/** Grants that allow one call and, by what it answers, no second. */
function uncleared(card: RootCard, tools: readonly Tool[]): string[] {
  return card.now.flatMap((box) => {
    const { labels } = box
    if (labels === '*') return []
    return tools
      .filter((tool) => cellHas(box.tool, tool.name.split('.')) && tool.yields.some((l) => !labels.has(l)))
      .map(({ name, yields }) => {
        const over = yields.filter((l) => !labels.has(l))
        return `\`${name}\` yields ${over.join(', ')}, which its own grant does not clear: after its first answer it is refused. Add to \`labels\`, or leave it out`
      })
  })
}

/** A default flow follows the card: what was read under it may go wherever the new `ever` reaches. */
function released(card: RootCard, before: RootCard, tools: readonly Tool[]): string[] {
  const world = newWorld({ defaultsOf: () => undefined, limits: NODE_NAMES })
  for (const [name, tool] of toolRows(tools)) world.tools.set(name, tool)
  const [after, old] = [card, before].map(({ ever }) => sinksOfAll(world, [ever])) as [Sinks, Sinks]
  const gained = after.filter((sink) => !sinksLeq([sink], old))
  if (gained.length === 0) return []
  return [
    `what was read under a flow that is left out may from then on also go to ${showSinks(gained).join(', ')}`,
  ]
}

type Sinks = ReturnType<typeof sinksOfAll>
