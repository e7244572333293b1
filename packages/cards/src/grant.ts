/** Grants as people write them, and boxes: parse, show, and the grant that a request would need. */
import { type ArgRule, parseArgRule, ruleFor, showArgRule } from './args.ts'
import type { Args, Box, Names, Request } from './box.ts'
import { ABSENT, type Cell, widest } from './cell.ts'
import { decimalOf } from './decimal.ts'
import { badGrant } from './errors.ts'
import { ANYWHERE, defaultFlow, type Flow, flowMeet, showFlow } from './flow.ts'
import {
  parseHostCell,
  parsePathCell,
  parseResourceCell,
  parseToolCell,
  showHost,
  showPath,
  showResource,
  showTool,
} from './names.ts'
import { parseSink } from './sink.ts'

/** One box of authority as written in a manifest. */
export interface Grant {
  tool: string
  resource?: string
  scheme?: string[]
  host?: string
  port?: number[]
  method?: string[]
  path?: string
  args?: Record<string, unknown> | '*'
  secret?: string
  labels?: string[] | '*'
  flow?: string[] | '*'
  ask?: string[]
}

/** What a tool fills in for a dimension that a grant leaves out; never everything. `required` must be written. */
export interface GrantDefaults {
  readonly scheme?: readonly string[]
  readonly port?: readonly number[]
  readonly method?: readonly string[]
  readonly args?: Readonly<Record<string, unknown>>
  readonly required?: readonly ('resource' | 'host' | 'path' | 'method' | 'secret')[]
  /** Arguments that are always there: a grant that does not name them would match nothing. */
  readonly requiredArgs?: readonly string[]
  /** What it does cannot be undone: by default it asks a person. */
  readonly irreversible?: boolean
}

export type DefaultsOf = (tool: string) => GrantDefaults | undefined

const FIELDS = new Set([
  'tool',
  'resource',
  'scheme',
  'host',
  'port',
  'method',
  'path',
  'args',
  'secret',
  'labels',
  'flow',
  'ask',
])

export function parseGrants(given: unknown, path: string, defaultsOf: DefaultsOf, flow?: Flow): Box[] {
  if (!Array.isArray(given)) throw badGrant(path, 'a list of grants')
  return given.map((grant, i) => parseGrant(grant, `${path}[${i}]`, defaultsOf, flow))
}

/** A grant as it was written: its box, and which of labels, flow and ask it named itself. */
export interface Written {
  readonly box: Box
  readonly names: { readonly labels: boolean; readonly flow: boolean; readonly ask: boolean }
}

/** Parses grants and notes what each of them names itself: what it leaves out, a child has from its parent. */
export function parseWritten(given: unknown, path: string, defaultsOf: DefaultsOf, flow?: Flow): Written[] {
  return parseGrants(given, path, defaultsOf, flow).map((box, i) => {
    const grant = (given as Record<string, unknown>[])[i] as Record<string, unknown>
    const names = {
      labels: grant.labels !== undefined,
      flow: grant.flow !== undefined,
      ask: grant.ask !== undefined,
    }
    return { box, names }
  })
}

/**
 * Parses one grant; what it leaves out takes its tool's narrow default, else means: absent in the
 * request. Labels and flow that are left out are `*` and `flow`.
 */
export function parseGrant(given: unknown, path: string, defaultsOf: DefaultsOf, flow: Flow = ANYWHERE): Box {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw badGrant(path, 'a grant is a mapping with `tool`')
  const grant = given as Record<string, unknown>
  for (const key of Object.keys(grant)) {
    if (!FIELDS.has(key))
      throw badGrant(`${path}.${key}`, `unknown field \`${key}\`; a grant has ${[...FIELDS].join(', ')}`)
  }
  if (typeof grant.tool !== 'string')
    throw badGrant(`${path}.tool`, 'the name of a tool, as `http.fetch`, `ledger.*` or `*`')
  const defaults = defaultsOf(grant.tool) ?? {}
  for (const name of defaults.required ?? []) {
    if (grant[name] === undefined)
      throw badGrant(path, `\`${grant.tool}\` needs \`${name}\`; for every ${name} write \`${name}: "*"\``)
  }
  requireArgs(grant, defaults.requiredArgs ?? [], path)
  const text = (
    name: 'resource' | 'host' | 'path' | 'secret',
    parse: (text: string, path: string) => Cell,
  ) => {
    const value = grant[name]
    if (value === undefined) return ABSENT
    if (typeof value !== 'string') throw badGrant(`${path}.${name}`, 'a text')
    return parse(value, `${path}.${name}`)
  }
  const ports = grant.port ?? defaults.port
  return {
    tool: parseToolCell(grant.tool, `${path}.tool`),
    resource: text('resource', parseResourceCell),
    scheme: parseNames(grant.scheme ?? defaults.scheme, `${path}.scheme`, /^[a-z][a-z0-9+.-]*$/),
    host: text('host', parseHostCell),
    port: parsePorts(ports, `${path}.port`),
    method: parseNames(grant.method ?? defaults.method, `${path}.method`, /^[A-Za-z0-9_-]+$/),
    path: text('path', parsePathCell),
    args: parseArgs(grant.args, defaults.args, `${path}.args`),
    secret: text('secret', parseResourceCell),
    labels: grant.labels === undefined ? '*' : parseList(grant.labels, `${path}.labels`),
    flow: grant.flow === undefined ? flow : parseFlow(grant.flow, `${path}.flow`),
    ask: parseAsk(grant.ask, `${path}.ask`),
  }
}

function requireArgs(grant: Record<string, unknown>, names: readonly string[], path: string): void {
  if (grant.args === '*') return
  const given = typeof grant.args === 'object' && grant.args !== null ? grant.args : {}
  const missing = names.filter((name) => !Object.hasOwn(given, name))
  if (missing.length === 0) return
  const line = [
    ...Object.keys(given).map((name) => `${name}: …`),
    ...missing.map((name) => `${name}: "*"`),
  ].join(', ')
  throw badGrant(
    `${path}.args`,
    `\`${String(grant.tool)}\` always has the argument${missing.length > 1 ? 's' : ''} ${missing.map((m) => `\`${m}\``).join(', ')}; for any value write \`args: { ${line} }\``,
  )
}

function strings(value: unknown, path: string, what: string): string[] {
  if (!Array.isArray(value) || value.some((v) => typeof v !== 'string')) throw badGrant(path, what)
  return value as string[]
}

function parseNames(value: unknown, path: string, shape: RegExp): Names {
  if (value === undefined) return new Set([''])
  if (value === '*') return '*'
  const names = strings(value, path, 'a list of names, or `"*"`')
  if (names.length === 0) throw badGrant(path, 'an empty list allows nothing')
  const bad = names.find((n) => !shape.test(n))
  if (bad !== undefined) throw badGrant(path, `\`${bad}\` is not allowed here`)
  return new Set(names)
}

function parsePorts(value: unknown, path: string): Names {
  if (value === undefined) return new Set([''])
  if (value === '*') return '*'
  const ports = Array.isArray(value) ? value.map(portOf) : []
  if (ports.length === 0 || ports.some((p) => p === undefined))
    throw badGrant(path, 'a list of ports from 1 to 65535, or `"*"`')
  return new Set(ports.map(String))
}

function portOf(value: unknown): number | undefined {
  const decimal = typeof value === 'string' ? undefined : decimalOf(value)
  const port = decimal?.scale === 0 ? Number(decimal.digits) : Number.NaN
  return port >= 1 && port <= 65_535 ? port : undefined
}

function parseList(value: unknown, path: string): Names {
  return value === '*' ? '*' : new Set(strings(value, path, 'a list of names, or `"*"`'))
}

function parseFlow(value: unknown, path: string): Flow {
  if (value === '*') return ANYWHERE
  const names = strings(value, path, 'a list of sinks, or `"*"`')
  const sinks = widest(names.filter((n) => !n.startsWith('@')).map((n) => parseSink(n, path)))
  return names
    .filter((n) => n.startsWith('@'))
    .reduce<Flow>((flow, n) => flowMeet(flow, defaultFlow(n.slice(1))), { sinks, roots: [] })
}

function parseAsk(value: unknown, path: string): ReadonlySet<string> {
  return value === undefined ? new Set() : new Set(strings(value, path, 'a list of roles'))
}

function parseArgs(value: unknown, defaults: GrantDefaults['args'], path: string): Args {
  if (value === '*') return '*'
  if (value !== undefined && (typeof value !== 'object' || value === null || Array.isArray(value))) {
    throw badGrant(path, 'a mapping of argument to rule, or `"*"`')
  }
  const rules = new Map<string, ArgRule>()
  for (const [name, rule] of Object.entries({ ...defaults, ...(value as object | undefined) })) {
    rules.set(name, parseArgRule(rule, `${path}.${name}`))
  }
  return rules
}

function showNames(names: Names): string[] | '*' {
  return names === '*' ? '*' : [...names].sort()
}

/** The full form of a box: every dimension that is not absent, keys in one order. */
export function showGrant(box: Box): Grant {
  const named = (names: Names) => names === '*' || !names.has('') || names.size > 1
  const args =
    box.args === '*'
      ? '*'
      : Object.fromEntries(
          [...box.args].sort(([a], [b]) => (a < b ? -1 : 1)).map(([n, r]) => [n, showArgRule(r)]),
        )
  return {
    tool: showTool(box.tool),
    ...(box.resource.kind !== 'absent' && { resource: showResource(box.resource) }),
    ...(named(box.scheme) && { scheme: showNames(box.scheme) as string[] }),
    ...(box.host.kind !== 'absent' && { host: showHost(box.host) }),
    ...(named(box.port) && {
      port: (box.port === '*' ? '*' : [...box.port].map(Number).sort((a, b) => a - b)) as number[],
    }),
    ...(named(box.method) && { method: showNames(box.method) as string[] }),
    ...(box.path.kind !== 'absent' && { path: showPath(box.path) }),
    ...((args === '*' || Object.keys(args).length > 0) && { args: args as Record<string, unknown> | '*' }),
    ...(box.secret.kind !== 'absent' && { secret: showResource(box.secret) }),
    ...(box.labels !== '*' && { labels: showNames(box.labels) }),
    ...(box.flow !== ANYWHERE && { flow: showFlow(box.flow) }),
    ...(box.ask.size > 0 && { ask: [...box.ask].sort() }),
  }
}

const LONG = 64

/** The narrowest grant that holds the request: what somebody would have to add. */
export function grantFor(q: Request): Grant {
  const args = [...q.args].map(([name, value]) => [name, ruleFor(value, LONG)])
  return {
    tool: q.tool.join('.'),
    ...(q.resource && { resource: q.resource.join('/') }),
    ...(q.scheme && { scheme: [q.scheme] }),
    ...(q.host && { host: [...q.host].reverse().join('.') }),
    ...(q.port !== undefined && { port: [q.port] }),
    ...(q.method && { method: [q.method] }),
    ...(q.path && { path: `/${q.path.join('/')}` }),
    ...(args.length > 0 && { args: Object.fromEntries(args) }),
    ...(q.secret && { secret: q.secret.join('/') }),
  }
}
