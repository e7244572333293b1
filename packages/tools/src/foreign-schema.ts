/**
 * JSON Schemas of others, as far as the host checks them: the part that costs bounded time whatever is looked
 * at. Patterns, references and formats are the other side's to check.
 */
import { type AnswerSchema, MAX_ANSWER_DEPTH } from './answer-schema.ts'

const TYPES = new Set(['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'])

/** The checked part of a schema; whatever is not understood allows everything. */
export function checkedPart(given: unknown, depth = 0): AnswerSchema {
  if (typeof given !== 'object' || given === null || Array.isArray(given) || depth >= MAX_ANSWER_DEPTH)
    return {}
  const schema = given as Record<string, unknown>
  const below = (one: unknown) => checkedPart(one, depth + 1)
  const types = [schema.type].flat().filter((type) => typeof type === 'string' && TYPES.has(type))
  const { properties, required, additionalProperties, items, anyOf, enum: list } = schema
  return {
    ...(types.length > 0 && { type: types as NonNullable<AnswerSchema['type']> }),
    ...(isObject(properties) && {
      properties: Object.fromEntries(Object.entries(properties).map(([name, one]) => [name, below(one)])),
    }),
    ...(Array.isArray(required) && { required: required.filter((name) => typeof name === 'string') }),
    ...(additionalProperties === false &&
      !('patternProperties' in schema) && { additionalProperties: false }),
    ...(isObject(items) && { items: below(items) }),
    ...(Array.isArray(anyOf) && anyOf.length > 0 && { anyOf: anyOf.map(below) }),
    ...(Array.isArray(list) && list.every(isScalar) && { enum: list }),
    ...(isScalar(schema.const) && { const: schema.const }),
    ...numbers(schema),
  }
}

const NUMBERS = ['minLength', 'maxLength', 'minimum', 'maximum', 'minItems', 'maxItems'] as const

function numbers(schema: Record<string, unknown>): Partial<Record<(typeof NUMBERS)[number], number>> {
  return Object.fromEntries(
    NUMBERS.flatMap((name) => (typeof schema[name] === 'number' ? [[name, schema[name]]] : [])),
  )
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isScalar(value: unknown): value is string | number | boolean | null {
  return value === null || ['string', 'number', 'boolean'].includes(typeof value)
}
