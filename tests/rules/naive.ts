/**
 * What a grant in full form holds, read from its text alone: written without the card language, so that
 * both would have to be wrong in the same way.
 */

export interface FullGrant {
  readonly tool: string
  readonly resource?: string
  readonly host?: string
  readonly method?: string | string[]
  readonly path?: string
  readonly args?: '*' | Record<string, unknown>
  readonly labels: '*' | string[]
  readonly flow: string[]
  readonly ask: string[]
}

export type Q = Record<string, unknown>

function below(pattern: string, text: unknown, separator: string): boolean {
  if (pattern === '*') return true
  if (typeof text !== 'string') return false
  if (!pattern.endsWith(`${separator}*`)) return pattern === text
  const stem = pattern.slice(0, -1)
  return text.startsWith(stem) && text.length > stem.length
}

function host(pattern: string | undefined, text: unknown): boolean {
  if (pattern === '*') return true
  if (pattern === undefined || typeof text !== 'string') return pattern === text
  return pattern.startsWith('*.')
    ? text.endsWith(pattern.slice(1)) && text.length >= pattern.length
    : pattern === text
}

function optional(pattern: string | undefined, text: unknown): boolean {
  return pattern === undefined ? text === undefined : below(pattern, text, '/')
}

function argument(rule: unknown, value: unknown): boolean {
  if (rule === '*') return true
  if (Array.isArray(rule)) return rule.includes(value)
  const { in: list, min, max } = rule as { in?: unknown[]; min?: number; max?: number }
  if (list) return list.includes(value)
  if (min === undefined && max === undefined) return true
  return typeof value === 'number' && value >= (min ?? value) && value <= (max ?? value)
}

function args(rules: '*' | Record<string, unknown>, given: Record<string, unknown>): boolean {
  if (rules === '*') return true
  if (!Object.keys(given).every((name) => name in rules && argument(rules[name], given[name]))) return false
  return Object.entries(rules).every(
    ([name, rule]) => name in given || (rule as { optional?: boolean }).optional === true,
  )
}

export function holds(grant: FullGrant, q: Q): boolean {
  return (
    below(grant.tool, q.tool, '.') &&
    optional(grant.resource, q.resource) &&
    host(grant.host, q.host) &&
    (grant.method === '*' ||
      (grant.method === undefined ? q.method === undefined : grant.method.includes(q.method as string))) &&
    optional(grant.path, q.path) &&
    args(grant.args ?? {}, (q.args as Record<string, unknown>) ?? {})
  )
}

/** Whether two places of one kind have something in common: one holds the other, or its own text. */
function crosses(a: string | undefined, b: string | undefined, separator: string): boolean {
  if (a === '*' || b === '*' || a === b) return true
  if (a === undefined || b === undefined) return false
  const within = (outer: string, inner: string) =>
    outer.endsWith(`${separator}*`) && inner.startsWith(outer.slice(0, -1))
  return within(a, b) || within(b, a)
}

function hostsCross(a: string | undefined, b: string | undefined): boolean {
  if (a === '*' || b === '*' || a === b) return true
  if (a === undefined || b === undefined) return false
  const within = (outer: string, inner: string) => outer.startsWith('*.') && inner.endsWith(outer.slice(1))
  return within(a, b) || within(b, a)
}

interface Span {
  readonly min?: number
  readonly max?: number
}
type Rule = '*' | unknown[] | (Span & { readonly in?: unknown[]; readonly optional?: boolean })

function rulesCross(a: Rule, b: Rule): boolean {
  if (a === '*' || b === '*') return true
  const list = (rule: Exclude<Rule, '*'>) => (Array.isArray(rule) ? rule : rule.in)
  const [one, other] = list(a) ? [a, b] : [b, a]
  const values = list(one)
  if (values) return values.some((value) => argument(other, value))
  const [x, y] = [a, b] as [Span, Span]
  const low = Math.max(x.min ?? Number.NEGATIVE_INFINITY, y.min ?? Number.NEGATIVE_INFINITY)
  return low <= Math.min(x.max ?? Number.POSITIVE_INFINITY, y.max ?? Number.POSITIVE_INFINITY)
}

function argsCross(a: FullGrant['args'] = {}, b: FullGrant['args'] = {}): boolean {
  if (a === '*' || b === '*') return true
  const needed = (rules: Record<string, unknown>, others: Record<string, unknown>) =>
    Object.entries(rules).every(
      ([name, rule]) =>
        (name in others && rulesCross(rule as Rule, others[name] as Rule)) ||
        (rule as { optional?: boolean }).optional === true,
    )
  return needed(a, b) && needed(b, a)
}

/** Whether there is a request that both grants hold. */
export function overlap(a: Partial<FullGrant>, b: Partial<FullGrant>): boolean {
  const methods = [a.method, b.method].map((m) => (m === undefined ? undefined : [m].flat()))
  const [x, y] = methods
  const methodsCross =
    a.method === '*' || b.method === '*' || (x === y && !x) || (x?.some((m) => y?.includes(m)) ?? false)
  return (
    crosses(a.tool, b.tool, '.') &&
    crosses(a.resource, b.resource, '/') &&
    hostsCross(a.host, b.host) &&
    methodsCross &&
    crosses(a.path, b.path, '/') &&
    argsCross(a.args, b.args)
  )
}

/** Whether a sink, one exact place, lies in a cell of sinks. */
export function inSink(cell: string, sink: string): boolean {
  if (cell === '*' || cell === sink) return true
  const [branch, name] = cell.split(':')
  if (name === '*')
    return branch === 'host' ? !sink.includes(':') && sink !== 'log' : sink.startsWith(`${branch}:`)
  return cell.startsWith('*.') && !sink.includes(':') && sink.endsWith(cell.slice(1))
}
