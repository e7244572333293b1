/**
 * Grants on one line, as people say them: the tool, then what is bounded.
 *
 *     http.fetch host=*.acme.example path=/v1/* method=GET,HEAD flow=log,caller:*
 *     bank.pay args={"to":["DE89370400440532013000"],"amount":{"decimal":2,"max":"500.00"}} ask=approver
 *
 * A list is parted by commas; a value that holds a space or a comma, and the rules of arguments, are JSON.
 */
import { CardError } from './errors.ts'
import { parseExactJson } from './exact-json.ts'
import type { Grant } from './grant.ts'

const LISTS = ['scheme', 'port', 'method', 'labels', 'flow', 'ask'] as const
const TEXTS = ['resource', 'host', 'path', 'secret'] as const
/** Two of these in one word would be read as two words. */
const BARE = /^[^\s,"[\]{}]+$/

function isList(name: string): name is (typeof LISTS)[number] {
  return LISTS.some((list) => list === name)
}

interface Word {
  readonly text: string
  /** Characters before it. */
  readonly at: number
}

function fail(at: number, message: string): CardError {
  return new CardError('BadGrant', `column ${at + 1}`, message)
}

/** Words are parted by spaces; a value that begins as JSON ends where that JSON ends. */
function wordsOf(line: string): Word[] {
  const words: Word[] = []
  let at = 0
  while (at < line.length) {
    if (/\s/.test(line[at] as string)) {
      at++
      continue
    }
    const end = endOfWord(line, at)
    words.push({ text: line.slice(at, end), at })
    at = end
  }
  return words
}

function endOfWord(line: string, from: number): number {
  let depth = 0
  let quoted = false
  for (let at = from; at < line.length; at++) {
    const c = line[at] as string
    if (quoted) {
      if (c === '\\') at++
      else if (c === '"') quoted = false
    } else if (c === '"') quoted = true
    else if (c === '{' || c === '[') depth++
    else if (c === '}' || c === ']') depth--
    else if (depth <= 0 && /\s/.test(c)) return at
  }
  return line.length
}

/**
 * Reads one line into the JSON form of a grant, which `parseGrant` then checks. Throws `BadGrant` whose path
 * is the column.
 *
 * @example
 * parseGrantText('http.fetch host=a.example path=/v1/*') // { tool: 'http.fetch', host: 'a.example', path: '/v1/*' }
 */
export function parseGrantText(line: string): Grant {
  const [tool, ...rest] = wordsOf(line)
  if (!tool || tool.text.includes('=')) throw fail(tool?.at ?? 0, 'a grant begins with its tool')
  const grant: Record<string, unknown> = { tool: tool.text }
  for (const { text, at } of rest) {
    const eq = text.indexOf('=')
    const name = eq < 0 ? text : text.slice(0, eq)
    if (eq <= 0) throw fail(at, `\`${text}\` is no \`name=value\``)
    if (Object.hasOwn(grant, name)) throw fail(at, `\`${name}\` stands there twice`)
    if (name !== 'args' && !isList(name) && !TEXTS.some((known) => known === name))
      throw fail(at, `unknown field \`${name}\`; a grant has ${[...TEXTS, ...LISTS, 'args'].join(', ')}`)
    grant[name] = readValue(name, text.slice(eq + 1), at + eq + 1)
  }
  return grant as unknown as Grant
}

function readValue(name: string, text: string, at: number): unknown {
  if (/^["[{]/.test(text)) {
    try {
      return parseExactJson(text)
    } catch (error) {
      throw fail(at, `not JSON: ${(error as Error).message}`)
    }
  }
  if (text === '') throw fail(at, `\`${name}\` has no value`)
  if (text === '*' || name === 'args' || !isList(name)) return text
  const parts = text.split(',')
  if (parts.some((part) => part === '')) throw fail(at, 'a list has an empty part')
  return name === 'port' ? parts.map(Number) : parts
}

/** The line of a grant; `parseGrantText` reads it back. */
export function showGrantText(grant: Grant): string {
  const words: string[] = [grant.tool]
  for (const [name, value] of Object.entries(grant)) {
    if (name === 'tool' || value === undefined) continue
    words.push(`${name}=${showValue(name, value)}`)
  }
  return words.join(' ')
}

function showValue(name: string, value: unknown): string {
  if (typeof value === 'string' && BARE.test(value)) return value
  const bare = isList(name) && Array.isArray(value) && value.length > 0
  if (bare && value.every((part) => BARE.test(String(part)))) {
    const line = value.join(',')
    // A list of one `*` is not the same as `*`.
    if (line !== '*') return line
  }
  return JSON.stringify(value)
}

/** A card as written, with its one-line grants in JSON form; the rest is as it was. */
export function expandGrantTexts(card: unknown, path: string): unknown {
  if (typeof card !== 'object' || card === null || Array.isArray(card)) return card
  const expanded: Record<string, unknown> = { ...card }
  for (const bound of ['now', 'ever']) {
    const grants = expanded[bound]
    if (!Array.isArray(grants)) continue
    expanded[bound] = grants.map((grant: unknown, i) =>
      typeof grant === 'string' ? expand(grant, `${path}.${bound}[${i}]`) : grant,
    )
  }
  return expanded
}

function expand(line: string, path: string): Grant {
  try {
    return parseGrantText(line)
  } catch (error) {
    if (!(error instanceof CardError)) throw error
    throw new CardError('BadGrant', path, `${error.path}: ${error.message}`)
  }
}
