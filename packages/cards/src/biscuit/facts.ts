/** What a verifier of a token says of a request: its own facts, and no others. */

import { domainOf, valueText } from '../args.ts'
import type { Request } from '../box.ts'
import { decimalOf } from '../decimal.ts'
import { NumberText } from '../exact-json.ts'
import { placeOfHost, placeOfPath } from '../names.ts'
import {
  ABSENT_TEXT,
  ARG_COLUMNS,
  argFact,
  dotted,
  hosted,
  PRESENT,
  REQUEST_COLUMNS,
  rooted,
  slashed,
  splitDecimal,
} from './compile.ts'

export interface Asking {
  readonly request: Request
  readonly mode: 'now' | 'ever'
  readonly labels: readonly string[]
  readonly approved: readonly string[]
  readonly nowMs: number
}

/** More digits after the point than any interval has: the value is no plain decimal. */
const NO_DECIMAL = 99n

function quote(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n').replaceAll('\t', '\\t').replaceAll('\r', '\\r')}"`
}

function setOf(texts: readonly string[]): string {
  return `{${[...new Set([PRESENT, ...texts])].map(quote).join(', ')}}`
}

function argRow(value: unknown): Record<(typeof ARG_COLUMNS)[number], string> {
  const decimal = value === undefined ? undefined : decimalOf(value)
  const { whole, fraction } = decimal
    ? splitDecimal(decimal.digits, decimal.scale)
    : { whole: 0n, fraction: 0n }
  const text = typeof value === 'string' ? value : undefined
  const kind =
    value === undefined
      ? 'absent'
      : text !== undefined
        ? 'string'
        : value instanceof NumberText
          ? 'number'
          : 'other'
  const place = (at: readonly string[] | undefined, show: (at: readonly string[]) => string) =>
    quote(at ? show(at) : ABSENT_TEXT)
  return {
    kind: quote(kind),
    text: quote(value === undefined ? ABSENT_TEXT : valueText(value)),
    digits: String(decimal ? BigInt(decimal.scale) : NO_DECIMAL),
    whole: String(whole),
    fraction: String(fraction),
    length: String(text === undefined ? 0 : [...text].length),
    path: place(text === undefined ? undefined : placeOfPath(text), rooted),
    host: place(text === undefined ? undefined : placeOfHost(text), hosted),
    domain: place(text === undefined ? undefined : domainOf(text), hosted),
  }
}

/**
 * The facts of a request, as Datalog text for any Biscuit implementation: `names` are the arguments that
 * the token speaks of, `argsNamed` finds them. The policy to use with them is `allow if true`.
 */
export function factsOf(
  { request: q, mode, labels, approved, nowMs }: Asking,
  names: readonly string[],
): string {
  const columns: Record<(typeof REQUEST_COLUMNS)[number], string> = {
    tool: quote(dotted(q.tool)),
    resource: quote(q.resource ? slashed(q.resource) : ABSENT_TEXT),
    scheme: quote(q.scheme ?? ABSENT_TEXT),
    host: quote(q.host ? hosted(q.host) : ABSENT_TEXT),
    port: quote(q.port === undefined ? ABSENT_TEXT : String(q.port)),
    method: quote(q.method ?? ABSENT_TEXT),
    path: quote(q.path ? rooted(q.path) : ABSENT_TEXT),
    secret: quote(q.secret ? slashed(q.secret) : ABSENT_TEXT),
    names: setOf([...q.args.keys()]),
    labels: setOf(labels),
    approved: setOf(approved),
    time: String(nowMs),
  }
  const request = `request(${REQUEST_COLUMNS.map((column) => columns[column]).join(', ')});`
  const args = [...new Set([...names, ...q.args.keys()])].map((name) => {
    const row = argRow(q.args.get(name))
    return `${argFact(name)}(${ARG_COLUMNS.map((column) => row[column]).join(', ')});`
  })
  return [`mode("${mode}");`, request, ...args].join('\n')
}
