/**
 * Rows of the rules as plain JSON, for whoever keeps them: bounds, flows, influence, floors.
 *
 * What is decoded is what was encoded: `decode(encode(x))` decides alike in everything.
 */
import type { Bound } from '../bound.ts'
import type { Cell } from '../cell.ts'
import type { Flow, FlowCeiling } from '../flow.ts'
import { showFlow } from '../flow.ts'
import { type Grant, parseGrants, showGrant } from '../grant.ts'
import { type CardLimits, decodeBudgets, encodeBudgets } from '../limits.ts'
import { parseSink, showSinks } from '../sink.ts'
import { type Admits, type Floor, type Influence, UNTOUCHED } from './state.ts'

export interface FlowData {
  readonly sinks: readonly string[]
  readonly roots?: readonly string[]
}

export interface InfluenceData {
  readonly sinks: readonly string[]
  readonly moving?: readonly (readonly FlowData[])[]
  readonly labels?: readonly string[]
}

export interface FloorData {
  readonly sinks: readonly string[]
  readonly clears: readonly string[] | '*'
}

export type AdmitsData = '*' | { readonly labels: readonly string[]; readonly flow?: readonly string[] }

export interface LimitsData {
  readonly depth: number
  readonly expires?: number
  readonly budgets?: Readonly<Record<string, string>>
}

/** A bound with every dimension written out, its boxes in their order. */
export function encodeBound(bound: Bound): Grant[] {
  return bound.map((box) => ({
    ...showGrant(box),
    labels: box.labels === '*' ? '*' : [...box.labels].sort(),
    flow: showFlow(box.flow),
    ask: [...box.ask].sort(),
  }))
}

/** Throws `CardError` for what is no bound; what `encodeBound` made always is one. */
export function decodeBound(data: readonly unknown[]): Bound {
  return parseGrants(data, 'bound', () => undefined)
}

export function encodeFlow({ sinks, roots }: Flow): FlowData {
  return { sinks: showSinks(sinks), ...(roots.length > 0 && { roots }) }
}

export function decodeFlow({ sinks, roots }: FlowData): Flow {
  return { sinks: cells(sinks), roots: roots ?? [] }
}

function cells(sinks: readonly string[]): Cell[] {
  return sinks.map((sink) => parseSink(sink, 'sinks'))
}

export function encodeInfluence({ flow, labels }: Influence): InfluenceData {
  return {
    sinks: showSinks(flow.sinks),
    ...(flow.moving.length > 0 && { moving: flow.moving.map((clause) => clause.map(encodeFlow)) }),
    ...(labels.size > 0 && { labels: [...labels].sort() }),
  }
}

export function decodeInfluence(data: InfluenceData | undefined): Influence {
  if (!data) return UNTOUCHED
  const flow: FlowCeiling = {
    sinks: cells(data.sinks),
    moving: (data.moving ?? []).map((clause) => clause.map(decodeFlow)),
  }
  return { flow, labels: new Set(data.labels) }
}

export function encodeFloor({ sinks, clears }: Floor): FloorData {
  return { sinks: showSinks(sinks), clears: clears === '*' ? '*' : [...clears].sort() }
}

export function decodeFloor({ sinks, clears }: FloorData): Floor {
  return { sinks: cells(sinks), clears: clears === '*' ? '*' : new Set(clears) }
}

export function encodeAdmits(admits: Admits): AdmitsData {
  if (admits === '*') return '*'
  return { labels: [...admits.labels].sort(), ...(admits.flow && { flow: showSinks(admits.flow) }) }
}

export function decodeAdmits(data: AdmitsData): Admits {
  if (data === '*') return '*'
  return { labels: new Set(data.labels), flow: data.flow && cells(data.flow) }
}

export function encodeLimits({ depth, expires, budgets }: CardLimits): LimitsData {
  return {
    depth,
    ...(expires !== undefined && { expires }),
    ...(budgets.size > 0 && { budgets: encodeBudgets(budgets) }),
  }
}

export function decodeLimits({ depth, expires, budgets }: LimitsData): CardLimits {
  return { depth, ...(expires !== undefined && { expires }), budgets: decodeBudgets(budgets ?? {}) }
}
