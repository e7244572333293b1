/**
 * Flow: the sinks to which what is obtained through a grant may go.
 *
 * A flow is a set of sinks, and, for each root whose default it was given by, only what that default
 * reaches. The default is kept by reference, so that a root's next generation moves it everywhere.
 */
import { type Cell, cellsMeet, TOP, widest } from './cell.ts'
import { showSinks, sinksLeq } from './sink.ts'

export interface Flow {
  readonly sinks: readonly Cell[]
  /** Addresses of root agents, sorted. */
  readonly roots: readonly string[]
}

/** What the default flow of a root reaches at this moment. */
export type Reach = (root: string) => readonly Cell[]

export const ANYWHERE: Flow = { sinks: [TOP], roots: [] }

/** The default flow of a root. */
export function defaultFlow(root: string): Flow {
  return { sinks: [TOP], roots: [root] }
}

/** Whether `a` lies in `b` whatever the defaults of roots reach. */
export function flowLeq(a: Flow, b: Flow): boolean {
  return b.roots.every((root) => a.roots.includes(root)) && sinksLeq(a.sinks, b.sinks)
}

export function flowMeet(a: Flow, b: Flow): Flow {
  if (flowLeq(a, b)) return a
  if (flowLeq(b, a)) return b
  return { sinks: cellsMeet(a.sinks, b.sinks), roots: [...new Set([...a.roots, ...b.roots])].sort() }
}

/** The sinks of a flow at this moment. */
export function flowSinks(flow: Flow, reach: Reach): readonly Cell[] {
  return flow.roots.reduce((met, root) => cellsMeet(met, reach(root)), flow.sinks)
}

/** `@address` stands for: and only what the default of that root reaches. */
export function showFlow(flow: Flow): string[] {
  return [...showSinks(flow.sinks), ...flow.roots.map((root) => `@${root}`)].sort()
}

/**
 * A ceiling on flow: what every one of its clauses allows, each a union of flows. It only ever sinks.
 * Clauses that name no root are kept as one set of sinks.
 */
export interface FlowCeiling {
  readonly sinks: readonly Cell[]
  readonly moving: readonly (readonly Flow[])[]
}

export const OPEN: FlowCeiling = { sinks: [TOP], moving: [] }

/** Lowers a ceiling by a clause: from now on, only what one of these flows allows. */
export function lower(ceiling: FlowCeiling, clause: readonly Flow[]): FlowCeiling {
  if (clause.every((flow) => flow.roots.length === 0)) {
    const sinks = cellsMeet(ceiling.sinks, widest(clause.flatMap((flow) => flow.sinks)))
    return sinks === ceiling.sinks ? ceiling : { ...ceiling, sinks }
  }
  const widestFlows = clause.filter(
    (flow, i) =>
      !clause.some((other, j) => j !== i && flowLeq(flow, other) && (j < i || !flowLeq(other, flow))),
  )
  const known = ceiling.moving.some((other) => clauseLeq(other, widestFlows))
  return known ? ceiling : { ...ceiling, moving: [...ceiling.moving, widestFlows] }
}

function clauseLeq(a: readonly Flow[], b: readonly Flow[]): boolean {
  return a.every((x) => b.some((y) => flowLeq(x, y)))
}

/** Whether meeting `a` with `b` would leave `a` as it is. */
export function ceilingWithin(a: FlowCeiling, b: FlowCeiling): boolean {
  return (
    sinksLeq(a.sinks, b.sinks) &&
    b.moving.every((clause) => a.moving.some((other) => clauseLeq(other, clause)))
  )
}

export function ceilingMeet(a: FlowCeiling, b: FlowCeiling): FlowCeiling {
  const sunk: FlowCeiling = { ...a, sinks: cellsMeet(a.sinks, b.sinks) }
  return b.moving.reduce(lower, sunk)
}

/** The sinks that a ceiling still reaches at this moment. */
export function ceilingSinks(ceiling: FlowCeiling, reach: Reach): readonly Cell[] {
  return ceiling.moving.reduce(
    (met, clause) => cellsMeet(met, widest(clause.flatMap((flow) => flowSinks(flow, reach)))),
    ceiling.sinks,
  )
}
