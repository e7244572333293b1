/** Schemas of an OpenAPI document, as far as the arguments and answers of tools are described by such. */
import { MAX_ANSWER_DEPTH } from '@cardinal/tools'

export type Json = Record<string, unknown>

export const SCALARS: ReadonlySet<string> = new Set(['string', 'number', 'integer', 'boolean'])
/** Characters of a description that are kept. */
export const MAX_ABOUT = 1000

/** One argument; nothing where its kind is not said, or is more than one. */
export function propertyOf(given: unknown): Json | undefined {
  const schema = merged(given)
  const kinds = kindsOf(schema)
  const types = kinds.filter((kind) => kind !== 'null')
  const type = oneOf(types)
  if (type === undefined) return undefined
  const { description, default: filled } = schema
  const said = typeof description === 'string' ? { description: description.trim().slice(0, MAX_ABOUT) } : {}
  const mayBeNull = kinds.length > types.length
  if (!SCALARS.has(type)) return { type, ...said, ...nestedOf(schema, 1) }
  const kept =
    isScalar(filled) && typeof filled === (type === 'integer' ? 'number' : type) ? { default: filled } : {}
  return {
    ...(mayBeNull && Object.keys(kept).length === 0 ? { anyOf: [{ type }, { type: 'null' }] } : { type }),
    ...said,
    ...boundsOf(schema, type),
    ...kept,
  }
}

/** The one kind that has all of these: a text, where one of several plain kinds is that. */
function oneOf(types: readonly string[]): string | undefined {
  if (types.length < 2) return types[0]
  if (!types.every((type) => SCALARS.has(type))) return undefined
  if (types.includes('string')) return 'string'
  return types.includes('boolean') ? undefined : 'number'
}

function kindsOf(schema: Json): string[] {
  const { type, enum: list, properties, items } = schema
  const said = [type].flat().filter((one): one is string => typeof one === 'string')
  if (said.length > 0) return said
  if (isObject(properties)) return ['object']
  if (isObject(items)) return ['array']
  const found = Array.isArray(list)
    ? [...new Set(list.map((one) => (one === null ? 'null' : typeof one)))]
    : []
  if (found.length > 0) return found
  // One of several, all of one kind.
  const several = listOf(schema.oneOf ?? schema.anyOf).map(merged)
  const kinds = several.map(kindsOf)
  return several.length > 0 && kinds.every((one) => one.length > 0) ? [...new Set(kinds.flat())] : []
}

function boundsOf(schema: Json, type: string): Json {
  const keys =
    type === 'string' ? ['minLength', 'maxLength'] : type === 'boolean' ? [] : ['minimum', 'maximum']
  const bounds = keys.flatMap((key) => (Number.isFinite(schema[key]) ? [[key, schema[key]]] : []))
  const list = listOf<unknown>(schema.enum).filter((one) => one !== null)
  const fits = list.length > 0 && list.every((one) => isScalar(one))
  return { ...Object.fromEntries(bounds), ...(fits && { enum: list }) }
}

/** What is said of members, down to where the node looks. */
function nestedOf(given: unknown, depth: number): Json {
  const schema = merged(given)
  const { properties, required, items, additionalProperties, minItems, maxItems } = schema
  const below = (one: unknown) => (depth + 4 < MAX_ANSWER_DEPTH ? answerSchema(one, depth + 1) : {})
  return {
    ...(isObject(properties) && {
      properties: Object.fromEntries(Object.entries(properties).map(([name, one]) => [name, below(one)])),
    }),
    ...(isObject(properties) &&
      Array.isArray(required) && {
        required: required.filter((name) => typeof name === 'string'),
      }),
    ...(additionalProperties === false && isObject(properties) && { additionalProperties: false }),
    ...(isObject(items) && { items: below(items) }),
    ...(Number.isInteger(minItems) && { minItems }),
    ...(Number.isInteger(maxItems) && { maxItems }),
  }
}

const looking = new Set<unknown>()

/** The part of a schema that nodes check; what is not understood, or holds itself, allows everything. */
export function answerSchema(given: unknown, depth: number): Json {
  if (!isObject(given) || looking.has(given)) return {}
  looking.add(given)
  try {
    const schema = merged(given)
    const types = kindsOf(schema)
    if (types.length === 0) return {}
    const several = schema.oneOf ?? schema.anyOf
    if (several !== undefined && schema.type === undefined) {
      const anyOf = listOf(several).map((one) =>
        depth + 4 < MAX_ANSWER_DEPTH ? answerSchema(one, depth + 1) : {},
      )
      return anyOf.length > 0 && anyOf.every((one) => Object.keys(one).length > 0) ? { anyOf } : {}
    }
    const type = types.length === 1 ? types[0] : types
    const list = listOf<unknown>(schema.enum).filter((one) => isScalar(one) || one === null)
    const open = types.includes('null') || schema['x-nullable'] === true
    const scalar = types.filter((one) => one !== 'null')
    return {
      type,
      ...(scalar.length === 1 &&
        SCALARS.has(scalar[0] as string) &&
        boundsOf({ ...schema, enum: undefined }, scalar[0] as string)),
      ...(list.length > 0 && { enum: open && !list.includes(null) ? [...list, null] : list }),
      ...nestedOf(schema, depth),
    }
  } finally {
    looking.delete(given)
  }
}

/** A schema with all that it consists of in one. */
export function merged(given: unknown): Json {
  if (!isObject(given)) return {}
  const parts = listOf(given.allOf)
  if (parts.length === 0) return given
  const { allOf: _parts, ...own } = given
  const all = [own, ...parts.map(merged)]
  const properties = all.map((part) => part.properties).filter(isObject)
  const required = all.flatMap((part) => listOf<unknown>(part.required))
  return {
    // What is said farther out counts more.
    ...Object.assign({}, ...all.toReversed()),
    ...(properties.length > 0 && { properties: Object.assign({}, ...properties.toReversed()) }),
    ...(required.length > 0 && { required: [...new Set(required)] }),
  }
}

export function listOf<T = Json>(given: unknown): T[] {
  return Array.isArray(given) ? (given as T[]) : []
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isScalar(value: unknown): value is string | number | boolean {
  return ['string', 'number', 'boolean'].includes(typeof value)
}
