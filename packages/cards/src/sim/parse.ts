/** What the operations of a history have in common: requests, admits, sinks and grants. */
import type { Bound } from '../bound.ts'
import type { Cell } from '../cell.ts'
import { CardError } from '../errors.ts'
import { JsonText } from '../exact-json.ts'
import { parseGrants } from '../grant.ts'
import { parseAmounts } from '../limits.ts'
import { placeOfHost, placeOfPath, placeOfResource, placeOfTool } from '../names.ts'
import type { Admits, EffectRequest } from '../rules/state.ts'
import { parseSink } from '../sink.ts'
import { BadOp, Fields, isObject } from './fields.ts'

/** A value that is no grant or no request. */
export class BadGrant extends Error {}

/** Runs a parser of the card language; what it refuses is `BadGrant`. */
export function grantsOf(given: unknown, path: string): Bound {
  return orBadGrant(() => parseGrants(given, path, () => undefined))
}

function orBadGrant<T>(parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (error instanceof CardError || error instanceof BadOp)
      throw new BadGrant(
        'path' in error && error.path !== '' ? `${error.path}: ${error.message}` : error.message,
      )
    throw error
  }
}

const PLACES = {
  tool: placeOfTool,
  resource: placeOfResource,
  host: placeOfHost,
  path: placeOfPath,
  secret: placeOfResource,
} as const

export function parseRequest(given: unknown): EffectRequest {
  return orBadGrant(() => {
    const fields = new Fields(given)
    const q: Record<string, unknown> = { args: argsOf(fields.any('args')) }
    for (const [name, placeOf] of Object.entries(PLACES)) {
      const text = name === 'tool' ? fields.text(name) : fields.optionalText(name)
      if (text === undefined) continue
      const place = placeOf(text)
      if (!place) throw new BadOp(`\`${name}\` is not one exact place`)
      q[name] = place
    }
    const method = fields.optionalText('method')
    if (method !== undefined) q.method = method
    const spend = parseAmounts(fields.any('spend') ?? {}, 'spend')
    if (fields.any('op') !== undefined) throw new BadOp('unknown field `op`')
    fields.done()
    return { q: q as unknown as EffectRequest['q'], tool: (q.tool as string[]).join('.'), spend }
  })
}

function argsOf(given: unknown): Map<string, unknown> {
  if (given === undefined) return new Map()
  if (!isObject(given)) throw new BadOp('`args` is an object')
  return new Map(
    Object.entries(given).map(([name, value]) => [
      name,
      typeof value === 'string' ? new JsonText(value) : value,
    ]),
  )
}

export function parseSinks(given: readonly string[], path: string): Cell[] {
  return given.map((sink) => parseSinkAt(sink, path))
}

export function parseSinkAt(given: string, path: string): Cell {
  try {
    return parseSink(given, path)
  } catch (error) {
    if (error instanceof CardError) throw new BadOp(`${path}: ${error.message}`)
    throw error
  }
}

export function parseAdmits(given: unknown, path: string): Admits {
  if (given === '*') return '*'
  if (!isObject(given)) throw new BadOp(`\`${path}\` is \`"*"\` or an object with labels and flow`)
  const fields = new Fields(given)
  const labels = new Set(fields.optionalTexts('labels') ?? [])
  const flow = fields.optionalTexts('flow')
  fields.done()
  return { labels, flow: flow && parseSinks(flow, `${path}.flow`) }
}

export function parseSpend(given: unknown): ReadonlyMap<string, bigint> {
  try {
    return parseAmounts(given, 'spend')
  } catch (error) {
    if (error instanceof CardError) throw new BadOp(`${error.path}: ${error.message}`)
    throw error
  }
}
