/**
 * What a declared tool must be answered: `out` of its manifest. A small part of JSON Schema, checked here
 * and not by a library, because an answer is anybody's: what it costs to check is bounded, whatever it is.
 */

/** The part that a manifest may write. */
export interface AnswerSchema {
  readonly type?: AnswerType | readonly AnswerType[] | undefined
  readonly properties?: Readonly<Record<string, AnswerSchema>> | undefined
  readonly required?: readonly string[] | undefined
  readonly additionalProperties?: boolean | AnswerSchema | undefined
  readonly items?: AnswerSchema | undefined
  readonly anyOf?: readonly AnswerSchema[] | undefined
  readonly enum?: readonly unknown[] | undefined
  readonly const?: unknown
  readonly minLength?: number | undefined
  readonly maxLength?: number | undefined
  readonly minimum?: number | undefined
  readonly maximum?: number | undefined
  readonly minItems?: number | undefined
  readonly maxItems?: number | undefined
}

type AnswerType = 'object' | 'array' | 'string' | 'number' | 'integer' | 'boolean' | 'null'

/** Values and names compared in one answer: at worst some tenth of a second of the node's thread. */
const MAX_STEPS = 100_000
/** Of a schema; an answer is looked at no deeper. */
export const MAX_ANSWER_DEPTH = 32

/** Where an answer differs from the schema, and in which keyword, or nothing. Names no value of the answer. */
export function wrongAnswer(schema: AnswerSchema, answer: unknown): string | undefined {
  const found = new Check().look(schema, answer)
  return found && `$${found.at.map(showStep).join('')} (${found.keyword})`
}

interface Wrong {
  readonly at: readonly (string | number)[]
  readonly keyword: string
}

class Check {
  #left = MAX_STEPS

  look(schema: AnswerSchema, value: unknown): Wrong | undefined {
    // Lists of the schema are looked through for each value.
    this.#left -= 1 + (schema.enum?.length ?? 0) + (schema.required?.length ?? 0)
    if (this.#left < 0) return wrong('too large to be checked')
    return (
      this.#type(schema, value) ??
      this.#alternatives(schema, value) ??
      scalar(schema, value) ??
      (Array.isArray(value) ? this.#items(schema, value) : undefined) ??
      (isObject(value) ? this.#properties(schema, value) : undefined)
    )
  }

  #type({ type }: AnswerSchema, value: unknown): Wrong | undefined {
    if (type === undefined || [type].flat().some((one) => isOf(one as AnswerType, value))) return undefined
    return wrong('type')
  }

  #alternatives({ anyOf }: AnswerSchema, value: unknown): Wrong | undefined {
    if (anyOf === undefined || anyOf.some((one) => this.look(one, value) === undefined)) return undefined
    return wrong(this.#left < 0 ? 'too large to be checked' : 'anyOf')
  }

  #items(
    { items, minItems = 0, maxItems = Infinity }: AnswerSchema,
    value: readonly unknown[],
  ): Wrong | undefined {
    if (value.length < minItems) return wrong('minItems')
    if (value.length > maxItems) return wrong('maxItems')
    if (items === undefined) return undefined
    for (const [i, item] of value.entries()) {
      const found = this.look(items, item)
      if (found) return below(i, found)
    }
    return undefined
  }

  #properties(schema: AnswerSchema, value: Readonly<Record<string, unknown>>): Wrong | undefined {
    const { properties = {}, required = [], additionalProperties = true } = schema
    const missing = required.find((name) => !Object.hasOwn(value, name))
    if (missing !== undefined) return wrong('required')
    for (const name of Object.keys(value)) {
      const known = Object.hasOwn(properties, name) ? properties[name] : additionalProperties
      if (known === true || known === undefined) continue
      const found = known === false ? wrong('additionalProperties') : this.look(known, value[name])
      if (found) return below(name, found)
    }
    return undefined
  }
}

function wrong(keyword: string): Wrong {
  return { at: [], keyword }
}

function below(step: string | number, { at, keyword }: Wrong): Wrong {
  return { at: [step, ...at], keyword }
}

/** A name is the answerer's: it is shown escaped, and only so much of it. */
function showStep(step: string | number): string {
  if (typeof step === 'number') return `[${step}]`
  return /^[A-Za-z_][A-Za-z0-9_-]{0,63}$/.test(step) ? `.${step}` : `[${JSON.stringify(step.slice(0, 32))}]`
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isOf(type: AnswerType, value: unknown): boolean {
  if (type === 'object') return isObject(value)
  if (type === 'array') return Array.isArray(value)
  if (type === 'null') return value === null
  if (type === 'integer') return Number.isInteger(value)
  return typeof value === type
}

function scalar(schema: AnswerSchema, value: unknown): Wrong | undefined {
  if (schema.enum && !schema.enum.some((one) => one === value)) return wrong('enum')
  if (schema.const !== undefined && schema.const !== value) return wrong('const')
  if (typeof value === 'string') {
    const { minLength = 0, maxLength = Number.POSITIVE_INFINITY } = schema
    // A code point takes one or two units: only between those is counting needed.
    const length = value.length >= minLength * 2 && value.length <= maxLength ? undefined : [...value].length
    if (length !== undefined && length < minLength) return wrong('minLength')
    if (length !== undefined && length > maxLength) return wrong('maxLength')
  }
  if (typeof value === 'number') {
    if (value < (schema.minimum ?? Number.NEGATIVE_INFINITY)) return wrong('minimum')
    if (value > (schema.maximum ?? Number.POSITIVE_INFINITY)) return wrong('maximum')
  }
  return undefined
}
