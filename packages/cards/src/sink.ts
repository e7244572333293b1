/**
 * Sinks: the places that what was read can be carried to. Cells of one tree, in which hosts, models,
 * callers and the log are the first branches.
 */
import { type Cell, cellLeq, exact, TOP, under } from './cell.ts'
import { badGrant } from './errors.ts'
import { parseHostCell, showHost } from './names.ts'

const LOG: Cell = exact(['log'])
const CALLERS: Cell = under(['caller'])
/** Where data may always flow by default: to the record, and to whoever asked. */
export const HOME: readonly Cell[] = [LOG, CALLERS]

const BRANCH = /^(model|caller):(.+)$/s

/** `*`, `host:*`, a host cell, `model:x`, `model:*`, `caller:x`, `caller:*` or `log`. */
export function parseSink(text: string, path: string): Cell {
  if (text === '*') return TOP
  if (text === 'log') return LOG
  if (text === 'host:*') return under(['host'])
  const [, branch, name] = BRANCH.exec(text) ?? []
  if (branch && name) return name === '*' ? under([branch]) : exact([branch, name])
  try {
    return sinkOfHost(parseHostCell(text, path)) ?? fail(text, path)
  } catch {
    return fail(text, path)
  }
}

function fail(text: string, path: string): never {
  throw badGrant(
    path,
    `\`${text}\` is no sink: a host, \`host:*\`, \`model:x\`, \`caller:x\`, \`log\` or \`*\``,
  )
}

export function callerSink(principal: string): Cell {
  return exact(['caller', principal])
}

/** The sinks that a host cell stands for; none if it holds no host. */
export function sinkOfHost(host: Cell): Cell | undefined {
  if (host.kind === 'absent') return undefined
  if (host.kind === 'top') return under(['host'])
  return { kind: host.kind, at: ['host', ...host.at] }
}

/** The sinks that a resource stands for where it names a model. */
export function sinkOfModel(resource: Cell): Cell | undefined {
  if (resource.kind === 'absent') return undefined
  return resource.kind === 'exact' ? exact(['model', resource.at.join('/')]) : under(['model'])
}

function showSink(cell: Cell): string {
  if (cell.kind === 'top') return '*'
  if (cell.kind === 'absent') throw new Error('no sink is absent')
  const [branch, ...at] = cell.at
  if (branch === 'log') return 'log'
  if (branch === 'host' && at.length > 0) return showHost({ kind: cell.kind, at })
  return `${branch}:${cell.kind === 'under' ? '*' : at[0]}`
}

/** Sinks by their names, sorted. */
export function showSinks(cells: readonly Cell[]): string[] {
  return cells.map(showSink).sort()
}

export function sinksLeq(a: readonly Cell[], b: readonly Cell[]): boolean {
  return a.every((x) => b.some((y) => cellLeq(x, y)))
}
