/**
 * Finding a secret again in what a service answered, however the service wrote it: as it is, with
 * characters escaped as URLs, JSON, HTML or source code escape them (each for itself, in any mix), as
 * hexadecimal digits, as base64 at any offset, in UTF-16; and any of these within another.
 *
 * Works on bytes as one character each: a pattern then cannot be cut by an encoding that it does not know.
 */

import { isWithin } from './layers.ts'

/** A shorter one is found where it is not, and guessed. */
export const MIN_MASKABLE_BYTES = 12
/** A longer one is looked for by three pieces of it; where one of them is found, nothing is shown. */
const MAX_WHOLE_BYTES = 256
const PIECE_BYTES = 64

const SPECIAL = /[\\^$.*+?()[\]{}|/-]/g

export interface Masker {
  /** The same bytes with every occurrence replaced; undefined if there is none. */
  mask(bytes: Buffer): Buffer | undefined
  /** The same for text. */
  maskText(text: string): string | undefined
  /** No form of the secret is longer, in characters. */
  readonly reach: number
}

/** Of one byte: escaped a few times over. */
const MAX_FORM = 24

/** @example maskerOf(Buffer.from('s3cret-value'), 'ledger').maskText('key=s3cret-value') // 'key=[secret ledger]' */
export function maskerOf(secret: Buffer, name: string): Masker {
  const pattern = new RegExp(piecesOf(secret).flatMap(formsOf).join('|'), 'g')
  const shown = `[secret ${name}]`
  const whole = secret.length <= MAX_WHOLE_BYTES
  const mask = (bytes: Buffer) => {
    const before = bytes.toString('latin1')
    const after = before.replace(pattern, shown)
    // In two layers of writing it is found and not told apart from what is around it.
    if (isWithin(after, pattern)) return Buffer.from(shown)
    if (after === before) return undefined
    return Buffer.from(whole ? after : shown, 'latin1')
  }
  const reach = MAX_FORM * Math.min(secret.length, MAX_WHOLE_BYTES)
  return { mask, maskText: (text) => mask(Buffer.from(text))?.toString(), reach }
}

function piecesOf(secret: Buffer): Buffer[] {
  if (secret.length <= MAX_WHOLE_BYTES) return [secret]
  const middle = (secret.length - PIECE_BYTES) >> 1
  return [0, middle, secret.length - PIECE_BYTES].map((at) => secret.subarray(at, at + PIECE_BYTES))
}

function formsOf(piece: Buffer): string[] {
  const wide = Buffer.from(piece.toString('utf8'), 'utf16le')
  return [escaped(piece), hexadecimal(piece), ...base64(piece), escaped(wide), ...base64(wide)]
}

function literal(byte: number): string {
  return String.fromCharCode(byte).replace(SPECIAL, '\\$&')
}

function anyCase(digits: string): string {
  return [...digits].map((c) => (/[a-f]/.test(c) ? `[${c}${c.toUpperCase()}]` : c)).join('')
}

const SHORT_ESCAPES: Record<string, string> = {
  '\n': 'n',
  '\r': 'r',
  '\t': 't',
  '"': '"',
  "'": "'",
  '/': '\\/',
}
const ENTITIES: Record<string, string> = { '&': 'amp', '<': 'lt', '>': 'gt', '"': 'quot', "'": 'apos' }

/**
 * Every byte as it is or in any escape, which may itself be escaped again a few times. No repetition is
 * without bound, and no backslash can be read as part of two things: an answer of nothing but backslashes is
 * looked through in time.
 */
function escaped(bytes: Buffer): string {
  const one = (byte: number, afterRun: boolean) => {
    const text = String.fromCharCode(byte)
    const hex = anyCase(byte.toString(16).padStart(2, '0'))
    const point = anyCase(byte.toString(16))
    // The run before it has taken its backslash.
    const slashes = afterRun ? '\\\\{0,8}' : '\\\\{1,8}'
    const ways = [
      `%(?:25){0,4}${hex}`,
      `${slashes}(?:x${hex}|u00${hex}|u\\{0{0,6}${point}\\})`,
      `&(?:amp;){0,4}#(?:0{0,6}${byte}|[xX]0{0,6}${point});`,
    ]
    if (SHORT_ESCAPES[text]) ways.push(`${slashes}${SHORT_ESCAPES[text]}`)
    if (ENTITIES[text]) ways.push(`&(?:amp;){0,4}${ENTITIES[text]};`)
    if (text === ' ') ways.push('\\+')
    // Last: a secret that itself holds `%` must still be found as it is. Nothing may match in two ways.
    if (!afterRun || SHORT_ESCAPES[text] !== text) ways.push(literal(byte))
    return `(?:${ways.join('|')})`
  }
  const runs = runsOf(bytes)
  return runs
    .map((run, i) =>
      typeof run === 'number'
        ? one(run, typeof runs[i - 1] === 'object')
        : backslashes(run.count, i === 0, i === runs.length - 1),
    )
    .join('')
}

/** Bytes, and runs of backslashes: each for itself, they could be read in more ways than can be tried. */
function runsOf(bytes: Buffer): (number | { readonly count: number })[] {
  const runs: (number | { count: number })[] = []
  for (const byte of bytes) {
    const last = runs.at(-1)
    if (byte !== BACKSLASH) runs.push(byte)
    else if (typeof last === 'object') last.count++
    else runs.push({ count: 1 })
  }
  return runs
}

const BACKSLASH = 92

/**
 * So many backslashes as they are or escaped up to three times over, and all that stand there: what follows
 * begins with none. Before the first of a secret there may be any number of others.
 */
function backslashes(count: number, first: boolean, last: boolean): string {
  const most = first && !last ? '' : `,${count * 8}`
  const ways = [
    `\\\\{${count}${most}}${last ? '' : '(?!\\\\)'}`,
    `(?:\\\\{1,8}(?:x5[cC]|u005[cC]|u\\{0{0,6}5[cC]\\})){${count}}`,
    `(?:%(?:25){0,4}5[cC]){${count}}`,
    `(?:&(?:amp;){0,4}#(?:0{0,6}92|[xX]0{0,6}5[cC]);){${count}}`,
  ]
  return `(?:${ways.join('|')})`
}

function hexadecimal(bytes: Buffer): string {
  return [...bytes]
    .map((byte) => anyCase(byte.toString(16).padStart(2, '0')))
    .join('(?:[ :_,-]|0x|\\\\x|, ?0x)?')
}

/**
 * What the secret is in base64 whatever stands before and behind it: the digits that depend on it alone,
 * for each of the three offsets. Line breaks, as they are or escaped, may stand anywhere.
 */
function base64(bytes: Buffer): string[] {
  return [0, 1, 2].map((offset) => {
    const padded = Buffer.concat([Buffer.alloc(offset), bytes])
    const digits = padded.toString('base64').replace(/=+$/, '')
    const from = [0, 2, 3][offset] as number
    // The last digit may hold bits of what follows.
    const until = (padded.length * 8) % 6 === 0 ? digits.length : digits.length - 1
    const whole = [...digits.slice(from, until)].map(digit64).join(BETWEEN)
    // The digits beside these hold a few bits of it, too.
    return `${from > 0 ? ANY : ''}${whole}${until < digits.length ? ANY : ''}`
  })
}

const BETWEEN = '(?:\\s|\\\\{1,8}[rn]|%0[dDaA])*'
const ANY = '[A-Za-z0-9+/_-]?'

function digit64(digit: string): string {
  if (digit === '+') return '(?:[+-]|%(?:25){0,4}2[bB]|\\\\u002[bB])'
  if (digit === '/') return '(?:[/_]|%(?:25){0,4}2[fF]|\\\\{1,8}/|\\\\u002[fF])'
  return digit
}
