/** What `in` and `out` of a method make of a value: JSON Schema or any Standard Schema, under the guest's own fuel. */
import { type Check, compile } from './guest/schema.ts'
import type { Method } from './types.ts'

/** Gives back the value to go on with: what a Standard Schema made of it, or itself. */
type Checker = (value: unknown) => unknown

export interface Checks {
  readonly in?: Checker
  readonly out?: Checker
}

export class BadArguments extends Error {}
export class BadResult extends Error {}

const badArguments = (lines: string) => new BadArguments(`arguments: ${lines}`)
const badResult = (lines: string) => new BadResult(`result: ${lines}`)

/** Compiles what a method declares; a TypeError names what is wrong with it. */
export function checksOf(name: string, method: Method): Checks {
  return {
    ...(method.in !== undefined && { in: checker(method.in, `${name}.in`, badArguments) }),
    ...(method.out !== undefined && { out: checker(method.out, `${name}.out`, badResult) }),
  }
}

interface Standard {
  readonly validate: (value: unknown) => unknown
  readonly jsonSchema?: {
    readonly input?: (options: { target: string }) => unknown
    readonly output?: (options: { target: string }) => unknown
  }
}

function standardOf(schema: unknown): Standard | undefined {
  const standard = (schema as { '~standard'?: Standard } | undefined)?.['~standard']
  return typeof standard?.validate === 'function' ? standard : undefined
}

/** What a schema makes of a value, or the error that says why it does not fit. */
function checker(schema: unknown, where: string, error: (lines: string) => Error): Checker {
  const standard = standardOf(schema)
  if (standard) return async (value) => standardResult(await standard.validate(value), error)
  let check: Check
  try {
    check = compile(schema)
  } catch (e) {
    throw new TypeError(`the schema \`methods.${where}\`: ${String((e as Error)?.message ?? e)}`)
  }
  return (value) => {
    // As the other side will read it, which is what a JSON Schema speaks of.
    const text = JSON.stringify(value)
    const lines = check(text === undefined ? null : JSON.parse(text))
    if (lines.length > 0) throw error(lines.join('; '))
    return value
  }
}

interface StandardResult {
  readonly value?: unknown
  readonly issues?: readonly { readonly message: string; readonly path?: readonly unknown[] }[]
}

function standardResult(given: unknown, error: (lines: string) => Error): unknown {
  const result = given as StandardResult
  if (!result.issues) return result.value
  const lines = result.issues.map(
    (i) =>
      `${['$', ...(i.path ?? []).map((p) => String((p as { key?: unknown })?.key ?? p))].join('.')}: ${i.message}`,
  )
  throw error(lines.join('; '))
}

/** A Standard Schema that cannot be written as JSON Schema is still enforced, inside the guest. */
export function jsonSchema(schema: unknown, side: 'input' | 'output'): unknown {
  const standard = standardOf(schema)
  if (!standard) return schema
  try {
    return standard.jsonSchema?.[side]?.({ target: 'draft-2020-12' }) ?? {}
  } catch {
    return {}
  }
}
