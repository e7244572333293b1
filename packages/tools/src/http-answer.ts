/**
 * What a guest sees of an HTTP answer: bounded, without what belongs to the connection, and without any
 * secret that went out with the request.
 */
import type { Masker } from '@cardinal/secrets'
import type { Dispatcher } from 'undici'
import type { HttpPlan } from './http-request.ts'

const MAX_RESPONSE = 4 << 20
const CONTROL = /[\ufffd\u0000-\u0008\u000b\u000c\u000e-\u001f]/
/** Headers that belong to the connection, not to the guest. */
const HIDDEN = new Set(['connection', 'keep-alive', 'transfer-encoding', 'set-cookie', 'set-cookie2'])
/** What would tell how long a secret is that was masked, or which it was. */
const TELLING = new Set(['content-length', 'content-md5', 'digest', 'content-digest', 'repr-digest', 'etag'])

export class TooLarge extends Error {}

/** An answer that cannot be searched for the secret that went out with its request. */
export class Unsearchable extends Error {}

export interface HttpAnswer {
  readonly status: number
  readonly statusText: string
  readonly url: string
  readonly headers: readonly (readonly [string, string])[]
  readonly text?: string
  readonly base64?: string
}

/** The answer, and whether it held the secret. */
export async function readAnswer(
  answer: Dispatcher.ResponseData,
  plan: HttpPlan,
  search: Search | undefined,
): Promise<{ readonly seen: HttpAnswer; readonly masked: boolean }> {
  const bytes = await readBody(answer)
  const seen = (headers: [string, string][], body: Buffer): HttpAnswer => ({
    status: answer.statusCode,
    statusText: '',
    url: plan.url,
    headers,
    ...bodyOf(body),
  })
  const headers = shownHeaders(answer)
  if (!search) return { seen: seen(headers, bytes), masked: false }
  if (search.statusOnly) return { seen: { ...seen([], Buffer.alloc(0)), url: '' }, masked: false }
  return maskAnswer(answer, headers, bytes, search, seen)
}

/** What an answer is searched for, since a request of its effect carried a secret. */
export interface Search {
  readonly maskers: readonly Masker[]
  readonly statusOnly: boolean
}

/** What all of them make of a value; undefined if none finds anything. */
export function maskAll<T>(
  maskers: readonly Masker[],
  given: T,
  mask: (masker: Masker, now: T) => T | undefined,
): T | undefined {
  let now: T | undefined
  for (const masker of maskers) now = mask(masker, now ?? given) ?? now
  return now
}

function maskAnswer(
  answer: Dispatcher.ResponseData,
  headers: [string, string][],
  bytes: Buffer,
  { maskers }: Search,
  seen: (headers: [string, string][], body: Buffer) => HttpAnswer,
): { readonly seen: HttpAnswer; readonly masked: boolean } {
  // It was asked for as it is: what is compressed all the same cannot be looked into.
  const { 'content-encoding': encoding, 'content-range': range } = answer.headers
  const plain = (encoding === undefined || encoding === 'identity') && range === undefined
  if (maskers.length === 0 || !plain || answer.statusCode === 206)
    throw new Unsearchable('an answer that cannot be searched for the secret that it was sent')
  const body = maskAll(maskers, bytes, (masker, now) => masker.mask(now))
  let masked = body !== undefined
  const shown = headers.flatMap(([name, value]): [string, string][] => {
    const text = (given: string) => maskAll(maskers, given, (masker, now) => masker.maskText(now))
    const [maskedName, maskedValue] = [text(name), text(value)]
    if (maskedName !== undefined || maskedValue !== undefined) masked = true
    return maskedName === undefined ? [[name, maskedValue ?? value]] : []
  })
  // Of what has no body they would tell what stood in it.
  const kept = masked || bytes.length === 0 ? shown.filter(([name]) => !TELLING.has(name)) : shown
  return { seen: seen(kept, body ?? bytes), masked }
}

async function readBody(answer: Dispatcher.ResponseData): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of answer.body) {
    size += (chunk as Buffer).length
    if (size > MAX_RESPONSE) throw new TooLarge(`an answer of more than ${MAX_RESPONSE} bytes`)
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks)
}

function shownHeaders(answer: Dispatcher.ResponseData): [string, string][] {
  return Object.entries(answer.headers).flatMap(([name, value]) =>
    value === undefined || HIDDEN.has(name)
      ? []
      : (Array.isArray(value) ? value : [value]).map((v): [string, string] => [name, v]),
  )
}

/** Text where the bytes are text, so that a guest need not decode what was never binary. */
function bodyOf(bytes: Buffer): { text: string } | { base64: string } {
  const text = bytes.toString('utf8')
  // Control characters take six bytes each in JSON: such a body is binary.
  return Buffer.byteLength(text) === bytes.length && !CONTROL.test(text)
    ? { text }
    : { base64: bytes.toString('base64') }
}
