/**
 * JSON Schemas of methods, checked inside the guest: a pattern that never ends spends the fuel of
 * the agent whose program wrote it, and nobody else's time. They are compiled once, into the image.
 */
import { dereference, type OutputUnit, type Schema, validate } from '@cfworker/json-schema'

const DRAFT = '2020-12'
const TYPES = ['array', 'boolean', 'integer', 'null', 'number', 'object', 'string']

/** Says what is wrong with a value, one line a mistake; nothing if it fits. */
export type Check = (value: unknown) => string[]

type Looked = Schema & { readonly __absolute_ref__?: string }

/** Compiles a schema. Throws a TypeError that names what is wrong with the schema itself. */
export function compile(schema: unknown): Check {
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema))
    throw new TypeError('a schema is an object')
  // A copy of its own: what is compiled notes things on it, and a program may freeze what it declares.
  const own = JSON.parse(JSON.stringify(schema)) as Schema
  const lookup = dereference(own)
  for (const [at, part] of Object.entries(lookup)) checkPart(part as Looked, lookup, at.split('#')[1] ?? '')
  return (value) => {
    const { valid, errors } = validate(value, own, DRAFT, lookup, false)
    return valid ? [] : errors.filter((e) => e.keyword !== 'properties').map(showError)
  }
}

function checkPart(part: Looked | boolean, lookup: Record<string, unknown>, at: string): void {
  if (typeof part === 'boolean') return
  const where = at === '' ? '' : ` at \`${at}\``
  for (const type of [part.type ?? []].flat())
    if (!TYPES.includes(String(type))) throw new TypeError(`\`${String(type)}\` is no type${where}`)
  for (const pattern of [part.pattern ?? [], Object.keys(part.patternProperties ?? {})].flat()) {
    try {
      new RegExp(pattern, 'u')
    } catch (error) {
      throw new TypeError(`\`${pattern}\` is no pattern${where}: ${(error as Error).message}`)
    }
  }
  const { $ref, __absolute_ref__: absolute } = part
  if ($ref === undefined) return
  const target = lookup[String(absolute)] ?? lookup[decodeURIComponent(String(absolute))]
  if (target === undefined) throw new TypeError(`\`${$ref}\` points nowhere${where}`)
  if (target === part) throw new TypeError(`\`${$ref}\` points at itself${where}`)
}

function showError(unit: OutputUnit): string {
  return `${unit.instanceLocation.replace('#', '$').replaceAll('/', '.')}: ${unit.error}`
}
