/** Asks a person, always or from some amount on. The kernel keeps what is asked, for as long as it takes.
 * The further places of a role that several people must take are `role#2` and so on. */

import { compareAmounts } from './amount.ts'
import type { Approval } from './declaration.ts'
import { at, parsePath } from './json.ts'
import type { Middleware } from './middleware.ts'

export function approval(declared: Approval): Omit<Middleware, 'name' | 'digest'> {
  const { people = 1, expiresMs, when } = declared
  const more = Array.from({ length: people - 1 }, (_, i) => `${declared.roles[0]}#${i + 2}`)
  const roles = [...declared.roles, ...more]
  return {
    request: (call) => {
      if (when && !applies(when, call.args)) return { do: 'pass' }
      return { do: 'ask', roles, ...(expiresMs !== undefined && { expiresMs: call.nowMs + expiresMs }) }
    },
  }
}

/** An argument that cannot be compared is asked about: it might be more. */
function applies({ arg, atLeast, in: list }: NonNullable<Approval['when']>, args: unknown): boolean {
  const value = at(args, parsePath(arg) ?? [])
  if (list?.some((one) => one === value)) return true
  if (atLeast === undefined) return false
  const order = compareAmounts(value, atLeast)
  return order === undefined || order >= 0
}
