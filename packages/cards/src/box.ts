/** A box of authority: one cell in every dimension. `boxLeq`, `boxMeet` and `boxMisses` are exact. */
import { type ArgRule, argHas, argLeq, argMeet } from './args.ts'
import { type Cell, cellHas, cellLeq, cellMeet } from './cell.ts'
import { type Flow, flowLeq, flowMeet } from './flow.ts'

/** A finite set, or everything. The empty string in a set stands for absence. */
export type Names = ReadonlySet<string> | '*'
export type Args = ReadonlyMap<string, ArgRule> | '*'

export interface Box {
  readonly tool: Cell
  readonly resource: Cell
  readonly scheme: Names
  readonly host: Cell
  readonly port: Names
  readonly method: Names
  readonly path: Cell
  readonly args: Args
  readonly secret: Cell
  readonly labels: Names
  readonly flow: Flow
  readonly ask: ReadonlySet<string>
}

export type Dimension = keyof Box

/** What an effect asks for, in the same dimensions; what it does not name is absent. */
export interface Request {
  readonly tool: readonly string[]
  readonly resource?: readonly string[]
  readonly scheme?: string
  readonly host?: readonly string[]
  readonly port?: number
  readonly method?: string
  readonly path?: readonly string[]
  readonly args: ReadonlyMap<string, unknown>
  readonly secret?: readonly string[]
}

const CELLS = ['tool', 'resource', 'host', 'path', 'secret'] as const
const SETS = ['scheme', 'port', 'method'] as const

export function namesLeq(a: Names, b: Names): boolean {
  return b === '*' || (a !== '*' && [...a].every((x) => b.has(x)))
}

function namesMeet(a: Names, b: Names): Names {
  if (a === '*') return b
  if (b === '*') return a
  return new Set([...a].filter((x) => b.has(x)))
}

function argsLeq(a: Args, b: Args): boolean {
  if (b === '*') return true
  if (a === '*') return false
  for (const [name, rule] of a) {
    const wider = b.get(name)
    if (!wider || (rule.optional && !wider.optional) || !argLeq(rule.cell, wider.cell)) return false
  }
  return [...b].every(([name, rule]) => rule.optional || a.has(name))
}

function argsMeet(a: Args, b: Args): Args | undefined {
  if (a === '*') return b
  if (b === '*') return a
  const both = new Map<string, ArgRule>()
  for (const name of new Set([...a.keys(), ...b.keys()])) {
    const [x, y] = [a.get(name), b.get(name)]
    const optional = (x?.optional ?? true) && (y?.optional ?? true)
    const cell = x && y ? argMeet(x.cell, y.cell) : undefined
    if (cell) both.set(name, { cell, optional })
    else if (!optional) return undefined
  }
  return both
}

/** Whether everything that `a` allows, `b` allows too, whatever the default flows of roots reach. */
export function boxLeq(a: Box, b: Box): boolean {
  return (
    shapeLeq(a, b) &&
    namesLeq(a.labels, b.labels) &&
    flowLeq(a.flow, b.flow) &&
    [...b.ask].every((role) => a.ask.has(role))
  )
}

/** Whether every request that `a` holds lies in `b`; labels, flow and ask are not looked at. */
export function shapeLeq(a: Box, b: Box): boolean {
  return (
    CELLS.every((d) => cellLeq(a[d], b[d])) &&
    SETS.every((d) => namesLeq(a[d], b[d])) &&
    argsLeq(a.args, b.args)
  )
}

/** What both allow, or undefined if no request lies in both. */
export function boxMeet(a: Box, b: Box): Box | undefined {
  const cells: Partial<Record<(typeof CELLS)[number], Cell>> = {}
  for (const d of CELLS) {
    const cell = cellMeet(a[d], b[d])
    if (!cell) return undefined
    cells[d] = cell
  }
  const [scheme, port, method] = (['scheme', 'port', 'method'] as const).map((d) =>
    namesMeet(a[d], b[d]),
  ) as [Names, Names, Names]
  if ([scheme, port, method].some((s) => s !== '*' && s.size === 0)) return undefined
  const args = argsMeet(a.args, b.args)
  if (!args) return undefined
  return {
    ...(cells as Record<(typeof CELLS)[number], Cell>),
    scheme,
    port,
    method,
    args,
    labels: namesMeet(a.labels, b.labels),
    flow: flowMeet(a.flow, b.flow),
    ask: new Set([...a.ask, ...b.ask]),
  }
}

/** Whether the box holds the request. */
export function boxHas(box: Box, q: Request): boolean {
  return (
    cellHas(box.tool, q.tool) &&
    cellHas(box.host, q.host) &&
    cellHas(box.resource, q.resource) &&
    cellHas(box.path, q.path) &&
    cellHas(box.secret, q.secret) &&
    namesHas(box.method, q.method ?? '') &&
    namesHas(box.scheme, q.scheme ?? '') &&
    namesHas(box.port, q.port === undefined ? '' : String(q.port)) &&
    argsHave(box.args, q.args)
  )
}

/** The dimensions in which the request lies outside the box; none if the box holds it. */
export function boxMisses(box: Box, q: Request): Dimension[] {
  const missed: Dimension[] = []
  for (const d of CELLS) if (!cellHas(box[d], q[d])) missed.push(d)
  for (const d of ['scheme', 'method'] as const) if (!namesHas(box[d], q[d] ?? '')) missed.push(d)
  if (!namesHas(box.port, q.port === undefined ? '' : String(q.port))) missed.push('port')
  if (!argsHave(box.args, q.args)) missed.push('args')
  return missed
}

function namesHas(names: Names, name: string): boolean {
  return names === '*' || names.has(name)
}

function argsHave(args: Args, given: ReadonlyMap<string, unknown>): boolean {
  if (args === '*') return true
  for (const [name, value] of given) {
    const rule = args.get(name)
    if (!rule || !argHas(rule.cell, value)) return false
  }
  if (args.size === given.size) return true
  for (const [name, rule] of args) if (!rule.optional && !given.has(name)) return false
  return true
}
