/**
 * What a declared tool must be answered: `out` of its manifest, JSON Schema without patterns and
 * references, so that no answer can hold the node's thread.
 */
import { dereference, type Schema, validate } from '@cfworker/json-schema'

const DRAFT = '2020-12'

/** Says where an answer differs from the schema and how, or nothing. Names no value of the answer. */
export type AnswerCheck = (answer: unknown) => string | undefined

export function compileAnswer(schema: object): AnswerCheck {
  // A copy of its own: what is compiled notes things on it.
  const own = JSON.parse(JSON.stringify(schema)) as Schema
  const lookup = dereference(own)
  return (answer) => {
    const { valid, errors } = validate(answer, own, DRAFT, lookup, true)
    if (valid) return undefined
    const [first] = errors.filter(({ keyword }) => keyword !== 'properties' && keyword !== 'items')
    const at = first?.instanceLocation.replace('#', '$').replaceAll('/', '.') ?? '$'
    return `${at} (${first?.keyword ?? 'schema'})`
  }
}
