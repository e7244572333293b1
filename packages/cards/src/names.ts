/** Reading and writing the names of places: dotted tools, slashed paths, reversed hosts. */
import { type Cell, exact, TOP, under } from './cell.ts'
import { badGrant } from './errors.ts'

const SEGMENT = /^[A-Za-z0-9_~@.{}%-]+$/
const HOST_LABEL = /^[a-z0-9_-]+$/

function checkSegments(segments: readonly string[], path: string, text: string): void {
  for (const segment of segments) {
    if (SEGMENT.test(segment) && !/^\.+$/.test(segment)) continue
    const why = segment.includes('*')
      ? '`*` may stand only alone or at the end'
      : segment === ''
        ? 'it has an empty segment'
        : `\`${segment}\` is no segment`
    throw badGrant(path, `\`${text}\` is not a place: ${why}`)
  }
}

function parseSegments(text: string, separator: string, path: string): Cell {
  if (text === '*') return TOP
  const segments = text.split(separator)
  const subtree = segments.at(-1) === '*'
  const at = subtree ? segments.slice(0, -1) : segments
  checkSegments(at, path, text)
  return subtree ? under(at) : exact(at)
}

/** `ledger.query`, `ledger.*` or `*`. */
export function parseToolCell(text: string, path: string): Cell {
  return parseSegments(text, '.', path)
}

/** `a/b`, `a/*` or `*`. */
export function parseResourceCell(text: string, path: string): Cell {
  return parseSegments(text, '/', path)
}

/**
 * `/`, `/a/b`, `/a/*` (below `/a`, without it) or `*`. `a/b` is the same place as `/a/b`, shown as it
 * was written.
 */
export function parsePathCell(text: string, path: string): Cell {
  if (text === '*') return TOP
  if (!text.startsWith('/')) return { ...parseResourceCell(text, path), relative: true } as Cell
  if (text === '/') return exact([''])
  if (text === '/*') return under([])
  return parseResourceCell(text.slice(1), path)
}

/** `-` (none), `a.example`, `*.a.example` (strict subdomains) or `*`. Labels are kept reversed. */
export function parseHostCell(text: string, path: string): Cell {
  if (text === '*') return TOP
  if (text === '-') return { kind: 'absent' }
  const subtree = text.startsWith('*.')
  const labels = (subtree ? text.slice(2) : text).split('.')
  if (!labels.every((label) => HOST_LABEL.test(label))) {
    const hint = text !== text.toLowerCase() ? ': write it in lower case' : ''
    throw badGrant(path, `\`${text}\` is not a host${hint}`)
  }
  if (subtree && /^\d+$/.test(labels.at(-1) as string))
    throw badGrant(path, `\`${text}\`: an address has no subdomains`)
  const at = labels.reverse()
  return subtree ? under(at) : exact(at)
}

/** The place that a request's text names, or undefined if it is not the canonical name of one. */
function placeOf(text: string, parse: (text: string, path: string) => Cell): readonly string[] | undefined {
  try {
    const cell = parse(text, '')
    return cell.kind === 'exact' ? cell.at : undefined
  } catch {
    return undefined
  }
}

export function placeOfTool(text: string): readonly string[] | undefined {
  return placeOf(text, parseToolCell)
}
export function placeOfResource(text: string): readonly string[] | undefined {
  return placeOf(text, parseResourceCell)
}
export function placeOfPath(text: string): readonly string[] | undefined {
  return placeOf(text, parsePathCell)
}

/** A path that whoever receives it may decode into another place is none. */
export function placeOfPlainPath(text: string): readonly string[] | undefined {
  return /%(2e|2f|5c|00|25)/i.test(text) ? undefined : placeOfPath(text)
}
export function placeOfHost(text: string): readonly string[] | undefined {
  return placeOf(text, parseHostCell)
}

function showSegments(cell: Cell, separator: string): string {
  if (cell.kind === 'top') return '*'
  if (cell.kind === 'absent') return '-'
  return [...cell.at, ...(cell.kind === 'under' ? ['*'] : [])].join(separator)
}

export function showTool(cell: Cell): string {
  return showSegments(cell, '.')
}
export function showResource(cell: Cell): string {
  return showSegments(cell, '/')
}
export function showPath(cell: Cell): string {
  if (cell.kind === 'top' || cell.kind === 'absent' || cell.relative) return showResource(cell)
  return `/${showResource(cell)}`
}
export function showHost(cell: Cell): string {
  if (cell.kind === 'top') return '*'
  if (cell.kind === 'absent') return '-'
  return [...(cell.kind === 'under' ? ['*'] : []), ...[...cell.at].reverse()].join('.')
}
