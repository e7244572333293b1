/**
 * JSON whose numbers keep their text, and whose objects name nothing twice.
 *
 * A grant bounds `0.1` and `9007199254740993` as they are written; a float knows neither. A key given
 * twice means one thing to this reader and another to the next, so it is an error.
 */

/** A number of a JSON text, as it was written. */
export class NumberText {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
  toJSON(): unknown {
    return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(this.text)
  }
}

/**
 * A string that is no number, whatever it looks like. Tools pass plain strings, which a grant may bound
 * as decimals, because on most wires numbers are text; who reads JSON itself knows the difference.
 */
export class JsonText {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
  toJSON(): string {
    return this.text
  }
}

/** Parses one JSON text. Throws `SyntaxError` with what is wrong; numbers come as `NumberText`. */
export function parseExactJson(text: string): unknown {
  const value: unknown = JSON.parse(text, keepText)
  requireUniqueKeys(text)
  return value
}

/** The number that a text stands for, where a float holds exactly that and it is written plainly. */
export function exactNumber(text: string): number | undefined {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)$/.test(text)) return undefined
  const value = Number(text)
  return plain(String(value)) === plain(text) ? value : undefined
}

/** Digits without a plus, and without zeros that say nothing. */
function plain(text: string): string {
  const [, sign, whole, part] = /^([+-]?)(\d*)\.?(\d*)$/.exec(text) ?? []
  if (whole === undefined || part === undefined) return text
  const digits = `${whole.replace(/^0+/, '') || '0'}.${part.replace(/0+$/, '')}`
  return sign === '-' ? `-${digits}` : digits
}

/**
 * As `parseExactJson`, with numbers as such where a float holds them exactly. Others stay as text, which
 * a grant bounds as it was written and whatever wants a plain number refuses.
 */
export function parsePlainJson(text: string): unknown {
  const value: unknown = JSON.parse(text, plainOrText)
  requireUniqueKeys(text)
  return value
}

/** Digits that a float may not hold, or would write with an exponent. */
const INEXACT = /[\d.]{16}|0\.0{6}/

/** JSON that we wrote ourselves, where a bound may hold a number that no float does. */
export function parseRecordJson(text: string): unknown {
  return INEXACT.test(text) ? JSON.parse(text, plainOrText) : JSON.parse(text)
}

const plainOrText = ((_key: string, part: unknown, context: { source?: string }) =>
  typeof part === 'number'
    ? (exactNumber(context.source as string) ?? new NumberText(context.source as string))
    : part) as (key: string, part: unknown) => unknown

const keepText = ((_key: string, part: unknown, context: { source?: string }) =>
  typeof part === 'number' ? new NumberText(context.source as string) : part) as (
  key: string,
  part: unknown,
) => unknown

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]/g

/** `text` is valid JSON here, so strings, brackets and colons are all that has to be told apart. */
function requireUniqueKeys(text: string): void {
  const open: (Set<string> | undefined)[] = []
  let last = ''
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '{') open.push(new Set())
    else if (token === '[') open.push(undefined)
    else if (token === '}' || token === ']') open.pop()
    else if (token === ':') {
      const keys = open.at(-1) as Set<string>
      const key = JSON.parse(last) as string
      if (keys.has(key)) throw new SyntaxError(`the key \`${key}\` stands there twice`)
      keys.add(key)
    }
    last = token
  }
}
