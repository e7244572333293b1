/** Schemas of an OpenAPI document, as far as the arguments and answers of tools are described by such. */
import { MAX_ANSWER_DEPTH } from '@cardinal/tools'

export type Json = Record<string, unknown>

export const SCALARS: ReadonlySet<string> = new Set(['string', 'number', 'integer', 'boolean'])
/** Characters of a description that are kept. */
export const MAX_ABOUT = 1000
/** Schemas that are looked at for one operation: some of GitHub's take two thousand. */
const MAX_LOOKS = 50_000

/** What is described is so large that nobody could check it. */
export class TooLarge extends Error {}

/** Reads the schemas of one operation, of what goes `in` or comes `out`. What holds itself allows everything. */
export class Schemas {
  readonly #direction: 'in' | 'out'
  /** What is being looked at, for each way of looking: what holds itself is not looked at again. */
  readonly #looking = { answer: new Set<unknown>(), parts: new Set<unknown>(), kinds: new Set<unknown>() }
  #left = MAX_LOOKS

  constructor(direction: 'in' | 'out') {
    this.#direction = direction
  }

  /** One argument; nothing where its kind is not said, or is more than one. */
  property(given: unknown): Json | undefined {
    const schema = this.merged(given)
    const kinds = this.#kindsOf(schema)
    const types = kinds.filter((kind) => kind !== 'null')
    const type = oneOf(types)
    if (type === undefined) return undefined
    const said = saidOf(schema)
    if (!SCALARS.has(type)) return { type, ...said, ...this.#members(schema, 1) }
    const mayBeNull = kinds.length > types.length
    return {
      ...(mayBeNull ? { anyOf: [{ type }, { type: 'null' }] } : { type }),
      ...said,
      ...boundsOf(schema, type),
    }
  }

  /** The part of a schema that nodes check; what is not understood allows everything. */
  answer(given: unknown, depth = 1): Json {
    return this.#within('answer', given, {}, (known) => {
      const schema = this.merged(known)
      const types = this.#kindsOf(schema)
      if (types.length === 0) return {}
      const several = schema.oneOf ?? schema.anyOf
      if (several !== undefined && schema.type === undefined) {
        const anyOf = listOf<unknown>(several).map((one) => this.#below(one, depth))
        return anyOf.length > 0 && anyOf.every((one) => Object.keys(one).length > 0) ? { anyOf } : {}
      }
      const scalars = types.filter((one) => one !== 'null')
      const [scalar] = scalars
      const isScalarType = scalars.length === 1 && SCALARS.has(scalar as string)
      const list = listOf<unknown>(schema.enum).filter((one) => isScalar(one) || one === null)
      const open = types.includes('null') && !list.includes(null)
      return {
        type: types.length === 1 ? types[0] : types,
        ...(isScalarType && boundsOf({ ...schema, enum: undefined }, scalar as string)),
        ...(list.length > 0 && { enum: open ? [...list, null] : list }),
        ...this.#members(schema, depth),
      }
    })
  }

  /** A schema with all that it consists of in one. */
  merged(given: unknown): Json {
    return this.#within('parts', given, {}, (known) => {
      const parts = listOf<unknown>(known.allOf)
      if (parts.length === 0) return known
      const { allOf: _parts, ...own } = known
      const all = [own, ...parts.map((part) => this.merged(part))]
      const properties = all.map((part) => part.properties).filter(isObject)
      const required = all.flatMap((part) => listOf<unknown>(part.required))
      return {
        // What is said farther out counts more.
        ...Object.assign({}, ...all.toReversed()),
        ...(properties.length > 0 && { properties: Object.assign({}, ...properties.toReversed()) }),
        ...(required.length > 0 && { required: [...new Set(required)] }),
      }
    })
  }

  /** Whether it is only ever sent the other way. */
  isForOthers(given: unknown): boolean {
    const { readOnly, writeOnly } = this.merged(given)
    return this.#direction === 'in' ? readOnly === true : writeOnly === true
  }

  #below(given: unknown, depth: number): Json {
    return depth + 4 < MAX_ANSWER_DEPTH ? this.answer(given, depth + 1) : {}
  }

  #kindsOf(schema: Json): string[] {
    const { type, enum: list, properties, items } = schema
    const said = [type].flat().filter((one): one is string => typeof one === 'string')
    if (said.length > 0) return said
    if (isObject(properties)) return ['object']
    if (isObject(items)) return ['array']
    const values = listOf<unknown>(list)
    if (values.length > 0) return [...new Set(values.map((one) => (one === null ? 'null' : typeof one)))]
    // One of several, all of one kind.
    const kinds = listOf<unknown>(schema.oneOf ?? schema.anyOf).map((one) =>
      this.#within<string[]>('kinds', one, [], (known) => this.#kindsOf(this.merged(known))),
    )
    return kinds.every((one) => one.length > 0) ? [...new Set(kinds.flat())] : []
  }

  /** What is said of members, down to where the node looks. */
  #members(schema: Json, depth: number): Json {
    const { properties, required, items, additionalProperties, minItems, maxItems } = schema
    const named = isObject(properties)
      ? Object.entries(properties).filter(([, one]) => !this.isForOthers(one))
      : undefined
    const names = new Set(named?.map(([name]) => name))
    const hidden = isObject(properties) ? Object.keys(properties).filter((name) => !names.has(name)) : []
    return {
      ...(named && {
        properties: Object.fromEntries(named.map(([name, one]) => [name, this.#below(one, depth)])),
      }),
      ...(named &&
        Array.isArray(required) && {
          required: required.filter((name) => typeof name === 'string' && !hidden.includes(name)),
        }),
      ...(additionalProperties === false && named && hidden.length === 0 && { additionalProperties: false }),
      ...(isObject(items) && { items: this.#below(items, depth) }),
      ...(Number.isInteger(minItems) && { minItems }),
      ...(Number.isInteger(maxItems) && { maxItems }),
    }
  }

  #within<T>(way: 'answer' | 'parts' | 'kinds', given: unknown, none: T, look: (schema: Json) => T): T {
    if (--this.#left < 0) throw new TooLarge(`more than ${MAX_LOOKS} schemas`)
    const looking = this.#looking[way]
    if (!isObject(given) || looking.has(given)) return none
    looking.add(given)
    try {
      return look(given)
    } finally {
      looking.delete(given)
    }
  }
}

/** What a document calls a default is what its service takes where nothing is sent: it is told, and not sent. */
function saidOf({ description, default: filled }: Json): Json {
  const told = [
    ...(typeof description === 'string' ? [description.trim().slice(0, MAX_ABOUT)] : []),
    ...(isScalar(filled) ? [`${JSON.stringify(filled)} if left out`] : []),
  ]
  return told.length > 0 ? { description: told.join('; ') } : {}
}

/** The one kind that has all of these: a text, where one of several plain kinds is that. */
function oneOf(types: readonly string[]): string | undefined {
  if (types.length < 2) return types[0]
  if (!types.every((type) => SCALARS.has(type))) return undefined
  if (types.includes('string')) return 'string'
  return types.includes('boolean') ? undefined : 'number'
}

function boundsOf(schema: Json, type: string): Json {
  const keys =
    type === 'string' ? ['minLength', 'maxLength'] : type === 'boolean' ? [] : ['minimum', 'maximum']
  const bounds = keys.flatMap((key) => (Number.isFinite(schema[key]) ? [[key, schema[key]]] : []))
  const kind = type === 'integer' ? 'number' : type
  const list = listOf<unknown>(schema.enum).filter((one) => one !== null)
  const fits = list.length > 0 && list.every((one) => typeof one === kind)
  return { ...Object.fromEntries(bounds), ...(fits && { enum: list }) }
}

export function listOf<T = Json>(given: unknown): T[] {
  return Array.isArray(given) ? (given as T[]) : []
}

/** Those of a list that are objects. */
export function objectsOf(given: unknown): Json[] {
  return listOf<unknown>(given).filter(isObject)
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isScalar(value: unknown): value is string | number | boolean {
  return ['string', 'number', 'boolean'].includes(typeof value)
}
