/**
 * The schemas of declared tools: the part of JSON Schema that the host can check itself.
 *
 * No patterns and no references: a pattern could hold the node's thread for hours, and what a card
 * bounds must be plain. `null` for a default counts as absent, and defaults are filled in, before
 * anything is decided.
 */

import { type AnswerSchema, wrongAnswer } from './answer-schema.ts'

interface PropertySchema {
  /** An `object` or an `array` goes into a JSON body as it is, and is checked as answers are. */
  readonly type: 'string' | 'number' | 'integer' | 'boolean' | 'object' | 'array'
  readonly description?: string | undefined
  readonly enum?: readonly (string | number | boolean)[] | undefined
  readonly minLength?: number | undefined
  readonly maxLength?: number | undefined
  readonly minimum?: number | undefined
  readonly maximum?: number | undefined
  /** Filled in where the argument is left out; `null`: left out then, and `null` is taken for that. */
  readonly default?: string | number | boolean | null | undefined
  readonly properties?: Readonly<Record<string, AnswerSchema>> | undefined
  readonly required?: readonly string[] | undefined
  readonly additionalProperties?: boolean | AnswerSchema | undefined
  readonly items?: AnswerSchema | undefined
  readonly minItems?: number | undefined
  readonly maxItems?: number | undefined
}

/** Whether it is more than one value, which can stand in a body alone. */
export function isNested({ type }: PropertySchema): boolean {
  return type === 'object' || type === 'array'
}

export interface ArgsSchema {
  readonly type: 'object'
  readonly properties: Readonly<Record<string, PropertySchema>>
  readonly required?: readonly string[] | undefined
}

/** The arguments that the schema describes, or what is wrong with them. */
export function checkArgs(
  schema: ArgsSchema,
  given: unknown,
): Map<string, unknown> | { readonly bad: string } {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    return { bad: 'no object of arguments' }
  const args = new Map<string, unknown>()
  const known = new Set(Object.keys(schema.properties))
  const unknown = Object.keys(given).find((name) => !known.has(name))
  if (unknown !== undefined) return { bad: `an unknown argument \`${unknown}\`` }
  for (const [name, property] of Object.entries(schema.properties)) {
    const value = Object.hasOwn(given, name) ? (given as Record<string, unknown>)[name] : undefined
    const absent = value === undefined || (value === null && property.default !== undefined)
    const filled = absent ? property.default : value
    if (filled === undefined || filled === null) {
      if (!absent || schema.required?.includes(name)) return { bad: `no \`${name}\`` }
      continue
    }
    const wrong = wrongWith(property, filled)
    if (wrong) return { bad: `\`${name}\`, which ${wrong}` }
    args.set(name, filled)
  }
  return args
}

/** Half of a character has no bytes that others would read as the same. */
function isWellFormed(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed()
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).every(([name, one]) => name.isWellFormed() && isWellFormed(one))
}

function wrongWith(property: PropertySchema, value: unknown): string | undefined {
  const { type, minLength, maxLength, minimum, maximum } = property
  if (isNested(property)) {
    const at = wrongAnswer(property as AnswerSchema, value)
    if (at !== undefined) return `is not as described, at ${at}`
    return isWellFormed(value) ? undefined : 'holds no well-formed text'
  }
  const is =
    type === 'integer' ? Number.isSafeInteger(value) : typeof value === (type === 'number' ? 'number' : type)
  if (!is) return `is no ${type}`
  if (property.enum && !property.enum.some((one) => one === value)) return 'is none of the values allowed'
  if (typeof value === 'string') {
    if (!isWellFormed(value)) return 'is no well-formed text'
    const length = [...value].length
    if (length < (minLength ?? 0)) return `is shorter than ${minLength}`
    if (length > (maxLength ?? Number.POSITIVE_INFINITY)) return `is longer than ${maxLength}`
  }
  if (typeof value === 'number') {
    if (value < (minimum ?? Number.NEGATIVE_INFINITY)) return `is below ${minimum}`
    if (value > (maximum ?? Number.POSITIVE_INFINITY)) return `is above ${maximum}`
  }
  return undefined
}
