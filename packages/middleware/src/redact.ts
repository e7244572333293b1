/** Takes out of arguments and results what a pattern finds, or what stands at a path. */
import { RE2JS } from 're2js'
import type { Known, MiddlewareDeclaration, Redaction } from './declaration.ts'
import { mapLeaves, type Path, parsePath } from './json.ts'
import type { Middleware } from './middleware.ts'

/** Patterns of RE2 take linear time, whatever text they meet. */
const KNOWN: Record<Known, string> = {
  email: '[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)+',
  iban: '\\b[A-Z]{2}[0-9]{2}( ?[A-Z0-9]{4}){2,7}( ?[A-Z0-9]{1,3})?\\b',
  card: '\\b[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,7}\\b',
  phone: '\\+[0-9][0-9 ()/-]{6,18}[0-9]',
}

interface Rule {
  readonly path: Path
  change(leaf: unknown): unknown
}

/** What is wrong with a redaction; undefined if nothing is. */
export function wrongRedaction({ path, pattern, known }: Redaction): string | undefined {
  if (path === undefined && pattern === undefined && known === undefined)
    return 'a redaction has a `path`, a `pattern` or a `known` kind'
  if (path !== undefined && !parsePath(path)) return `\`${path}\` is no path, as items.*.email`
  if (pattern !== undefined && known !== undefined) return 'one of `pattern` and `known`'
  try {
    if (pattern !== undefined) RE2JS.compile(pattern)
  } catch (error) {
    return `\`${pattern}\` is no pattern of RE2: ${(error as Error).message}`
  }
  return undefined
}

export function redact(
  given: NonNullable<MiddlewareDeclaration['redact']>,
): Omit<Middleware, 'name' | 'digest'> {
  const args = given.args?.map(ruleOf)
  const answer = given.answer?.map(ruleOf)
  return {
    ...(args && {
      request: (call) => {
        const after = applied(args, call.args)
        return JSON.stringify(after) === JSON.stringify(call.args)
          ? { do: 'pass' }
          : { do: 'rewrite', args: after }
      },
    }),
    ...(answer && { response: (_call, value) => ({ value: applied(answer, value) }) }),
  }
}

function applied(rules: readonly Rule[], value: unknown): unknown {
  return rules.reduce((now, { path, change }) => mapLeaves(now, path, change), value)
}

function ruleOf({ path = '**', pattern, known, with: shown = '[redacted]' }: Redaction): Rule {
  const source = known ? KNOWN[known] : pattern
  const parsed = parsePath(path) as Path
  if (source === undefined) return { path: parsed, change: () => shown }
  const compiled = RE2JS.compile(source)
  const by = shown.replaceAll('$', '$$$$')
  return {
    path: parsed,
    change: (leaf) => (typeof leaf === 'string' ? compiled.matcher(leaf).replaceAll(by) : leaf),
  }
}
