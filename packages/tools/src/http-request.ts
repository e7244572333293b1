/** From a guest's `http.fetch` arguments to one canonical request, or the reason why there is none. */
import type { Request } from '@cardinal/cards'
import { type Injection, isTaken, parseSlot, placeOfSecret } from './secret-slot.ts'
import type { BadArguments, EffectClass, ToolSettings, Translated } from './tool.ts'

export interface HttpPlan {
  readonly method: string
  readonly url: string
  readonly headers: readonly (readonly [string, string])[]
  readonly body?: Uint8Array
  readonly idempotencyHeader?: string
  /** Which secret comes in at the last step, and where. */
  readonly injection?: Injection
  /** What to do with an answer that points elsewhere: only reads follow it. */
  readonly redirect: 'follow' | 'manual' | 'error'
}

const MAX_BODY = 4 << 20
const MAX_URL = 8192
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
const SEGMENT = /^[A-Za-z0-9_~@.{}%:;,=!$&'()+-]*$/
/** Headers that need no grant: they say what the body is and what is wanted back. */
const PLAIN_HEADERS = new Set([
  'accept',
  'accept-language',
  'content-type',
  'if-none-match',
  'if-modified-since',
  'range',
  'user-agent',
])
/** Headers that frame or route a request; they belong to the executor alone. */
const OWN_HEADERS =
  /^(host|content-length|transfer-encoding|connection|keep-alive|upgrade|te|trailer|expect|proxy-.*|sec-.*|http2-settings)$/
/** Whether a header belongs to the executor. */
export function isOwnHeader(name: string): boolean {
  return OWN_HEADERS.test(name.toLowerCase())
}

const READS = new Set(['GET', 'HEAD'])

interface Given {
  method?: unknown
  url?: unknown
  headers?: unknown
  text?: unknown
  base64?: unknown
  redirect?: unknown
  /** Which handle stands in which slot. */
  secrets?: unknown
}

/** Parses and canonicalises; every later hop of the same effect goes through here too. */
export function translateHttp(args: unknown, settings: ToolSettings): Translated | BadArguments {
  if (typeof args !== 'object' || args === null) return { bad: 'no arguments' }
  const given = args as Given
  const method = typeof given.method === 'string' ? given.method.toUpperCase() : 'GET'
  if (!TOKEN.test(method) || method === 'CONNECT' || method === 'TRACE')
    return { bad: 'a method that cannot be sent' }
  const url = parseUrl(given.url)
  if (typeof url === 'string') return { bad: url }
  const headers = parseHeaders(given.headers)
  if (typeof headers === 'string') return { bad: headers }
  const body = parseBody(given)
  if (typeof body === 'string') return { bad: body }
  const rule = settings.idempotency.find((r) => r.host === url.hostname && r.method.includes(method))
  const effectClass: EffectClass = READS.has(method) ? 'read' : rule ? 'idempotent' : 'once'
  const sent = rule ? headers.filter(([name]) => name !== rule.header.toLowerCase()) : headers
  const redirect = given.redirect ?? 'follow'
  if (redirect !== 'follow' && redirect !== 'manual' && redirect !== 'error')
    return { bad: 'a redirect mode that is none' }
  const requestArgs = argsOf(url, sent, body, settings.repeats === true)
  if (typeof requestArgs === 'string') return { bad: requestArgs }
  const bare: HttpPlan = {
    method,
    url: url.href,
    headers: sent,
    redirect,
    ...(body && { body: body.bytes }),
    ...(effectClass === 'idempotent' && rule && { idempotencyHeader: rule.header }),
  }
  const injection = injectionOf(given.secrets, bare, settings)
  if (injection && 'bad' in injection) return injection
  const cost = { calls: 1, bytesOut: body?.bytes.length ?? 0 }
  const asked = requestOf(url, method, requestArgs)
  if (!injection) return { request: asked, cost, effectClass, plan: bare }
  const request = { ...asked, secret: placeOfSecret(injection.ref) }
  return { request, cost, effectClass, plan: { ...bare, injection } satisfies HttpPlan }
}

/** One secret a request: each is decided by itself, and a request is decided once. */
function injectionOf(
  given: unknown,
  plan: HttpPlan,
  { secrets, key }: ToolSettings,
): Injection | BadArguments | undefined {
  if (given === undefined) return undefined
  if (typeof given !== 'object' || given === null) return { bad: 'secrets that are no slots with handles' }
  const slots = Object.entries(given)
  if (slots.length !== 1) return { bad: 'not exactly one secret' }
  const [slot = '', handle] = slots[0] ?? []
  const binding = typeof handle === 'string' && Object.hasOwn(secrets, handle) ? secrets[handle] : undefined
  if (!binding) return { bad: 'a secret that this agent has no handle of', code: 'NoSuchSecret' }
  const misplaced = {
    bad: `secret \`${String(handle)}\` in a place or for a host that it is not for`,
    code: 'SecretSlot',
  }
  if (binding.tool !== 'http.fetch') return misplaced
  const at = parseSlot(slot)
  const own = parseSlot(binding.slot)
  const fits = binding.host === new URL(plan.url).hostname && at?.part === own?.part && at?.name === own?.name
  if (!fits) return misplaced
  // Piece by piece, nothing of an answer could be recognised.
  if (plan.headers.some(([name]) => name === 'range' || name === 'if-range'))
    return { bad: 'a range of an answer to a request with a secret', code: 'SecretSlot' }
  if (isTaken(slot, outgoingOf(plan)))
    return { bad: `something else where secret \`${String(handle)}\` stands`, code: 'SecretSlot' }
  return { binding, ref: binding.ref.replaceAll('{key}', key) }
}

/** A request as it leaves, but for its secret and the key that makes it repeatable. */
export function outgoingOf({ url, headers, body }: HttpPlan) {
  return { url, headers: Object.fromEntries(headers), body: body ? Buffer.from(body) : null }
}

function requestOf(url: URL, method: string, args: ReadonlyMap<string, unknown>): Request {
  const scheme = url.protocol.slice(0, -1)
  return {
    tool: ['http', 'fetch'],
    scheme,
    host: url.hostname.split('.').reverse(),
    port: url.port === '' ? (scheme === 'https' ? 443 : 80) : Number(url.port),
    method,
    path: url.pathname.slice(1).split('/'),
    args,
  }
}

function parseUrl(given: unknown): URL | string {
  if (typeof given !== 'string' || given.length > MAX_URL) return 'no URL'
  let url: URL
  try {
    url = new URL(given)
  } catch {
    return 'a URL that does not parse'
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    return `a URL of scheme \`${url.protocol.slice(0, -1)}\``
  if (url.username || url.password) return 'a URL with user information'
  if (url.hostname.endsWith('.') || url.hostname === '') return 'a URL whose host ends in a dot'
  // One meaning a path: what two servers might read differently is refused here.
  const segments = url.pathname.slice(1).split('/')
  const odd = segments.some(
    (s, i) => !SEGMENT.test(s) || /%(2f|5c|00|2e)/i.test(s) || (s === '' && i < segments.length - 1),
  )
  if (odd) return 'a URL whose path could be read in two ways'
  url.hash = ''
  return url
}

function parseHeaders(given: unknown): [string, string][] | string {
  if (given === undefined) return []
  if (!Array.isArray(given) || given.length > 64) return 'headers that are no list of pairs'
  const headers: [string, string][] = []
  for (const pair of given) {
    const [name, value] = Array.isArray(pair) ? pair : []
    if (typeof name !== 'string' || typeof value !== 'string') return 'headers that are no list of pairs'
    if (!TOKEN.test(name) || !VALUE.test(value)) return 'a header that cannot be sent'
    if (isOwnHeader(name)) return `the header \`${name.toLowerCase()}\`, which only the executor sets`
    headers.push([name.toLowerCase(), value])
  }
  return headers
}

interface Body {
  readonly bytes: Uint8Array
  readonly shown: string
}

function parseBody({ text, base64 }: Given): Body | undefined | string {
  if (text === undefined && base64 === undefined) return undefined
  const shown = text ?? base64
  if (typeof shown !== 'string') return 'a body that is no text'
  const bytes = Buffer.from(shown, text !== undefined ? 'utf8' : 'base64')
  return bytes.length > MAX_BODY ? `a body of more than ${MAX_BODY} bytes` : { bytes, shown }
}

/** What a grant can bound beside the place: query keys, headers beyond the plain ones, the body. */
function argsOf(
  url: URL,
  headers: readonly (readonly [string, string])[],
  body: Body | undefined,
  repeats: boolean,
): Map<string, unknown> | string {
  const args = new Map<string, unknown>()
  const add = (name: string, value: string) => {
    if (args.has(name)) return false
    args.set(name, value)
    return true
  }
  for (const [name, value] of url.searchParams)
    if (!add(`query.${name}`, value) && !repeats) return `the query key \`${name}\` twice`
  for (const [name, value] of headers) {
    if (!PLAIN_HEADERS.has(name) && !add(`header.${name}`, value)) return `the header \`${name}\` twice`
  }
  if (body) args.set('body', body.shown)
  return args
}
