/** What it costs an agent to learn something, and learning it: influence joins, and never recovers (R5, R7). */
import type { Bound } from '../bound.ts'
import { type Cell, cellsBeyond, cellsMeet } from '../cell.ts'
import { ceilingMeet, ceilingSinks, ceilingWithin } from '../flow.ts'
import {
  birthTerm,
  ceilingTerms,
  confinedTo,
  flowOf,
  keptSinks,
  meetOrNothing,
  nowTerms,
  reachOf,
  sinksWithin,
} from './ceiling.ts'
import {
  type Admits,
  type Agent,
  type Card,
  type Floor,
  type Influence,
  NO_ADMITS,
  type World,
} from './state.ts'

/**
 * What nobody may lower unasked: the agent as it was born, so that a refusal tells the sender nothing
 * about what the receiver has read since.
 */
export function floorOf(world: World, agent: Agent): Floor {
  const terms = [birthTerm(agent), ...confinedTo(world, agent)]
  const flow = ceilingSinks(flowOf(world, agent, agent.birth), reachOf(world))
  const nows = agent.births.flatMap(grantsNow)
  return { sinks: sinksWithin(world, terms, flow), clears: cleared([...grantsOf(terms), ...nows]) }
}

/** What a caller loses by an answer, as it stands when it calls: the call has told as much. */
export function floorAtCall(world: World, agent: Agent): Floor {
  const clears = cleared([...grantsOf(ceilingTerms(world, agent)), ...agent.births.flatMap(grantsNow)])
  return {
    sinks: keptSinks(world, agent),
    clears: clears === '*' ? '*' : new Set([...clears, ...agent.influence.labels]),
  }
}

/** The grants of what all bounds allow; of each of them, if there are too many to meet. */
function grantsOf(terms: readonly Bound[]): Bound {
  return meetOrNothing(terms) ?? terms.flat()
}

function grantsNow(card: Card): Bound {
  return grantsOf(nowTerms(card))
}

/** The labels that every grant clears. */
function cleared(grants: Bound): ReadonlySet<string> | '*' {
  let all: ReadonlySet<string> | '*' = '*'
  for (const box of grants) {
    if (box.labels === '*') continue
    const labels: ReadonlySet<string> = box.labels
    all = all === '*' ? labels : new Set([...all].filter((label: string) => labels.has(label)))
  }
  return all
}

export interface Loss {
  readonly sinks: readonly Cell[]
  readonly labels: readonly string[]
}

/** What learning something would cost; undefined if nothing. */
export function costOf(
  world: World,
  floor: Floor,
  { flow, labels }: Influence,
  admits: Admits = NO_ADMITS,
): Loss | undefined {
  if (admits === '*') return undefined
  const { clears } = floor
  const kept = admits.flow ? cellsMeet(floor.sinks, admits.flow) : floor.sinks
  const sinks = cellsBeyond(kept, ceilingSinks(flow, reachOf(world)))
  const uncleared =
    clears === '*' ? [] : [...labels].filter((label) => !clears.has(label) && !admits.labels.has(label))
  return sinks.length > 0 || uncleared.length > 0 ? { sinks, labels: uncleared.sort() } : undefined
}

/** An influence that adds nothing leaves the row as it is, which whoever keeps it can tell by its identity. */
export function join(agent: Agent, { flow, labels }: Influence): void {
  const { influence } = agent
  const known = [...labels].every((label) => influence.labels.has(label))
  if (known && ceilingWithin(influence.flow, flow)) return
  agent.influence = {
    flow: ceilingMeet(influence.flow, flow),
    labels: known ? influence.labels : new Set([...influence.labels, ...labels]),
  }
}

/**
 * Whether an agent exists for another: one that a guest made, or had made by being the first to call it,
 * does so only for those whom the state of that guest at its birth costs nothing. They take that on.
 */
export function meets(world: World, asker: Agent, other: Agent): boolean {
  if (asker.tenant !== other.tenant) return false
  if (costOf(world, floorOf(world, asker), other.birth)) return false
  join(asker, other.birth)
  return true
}
