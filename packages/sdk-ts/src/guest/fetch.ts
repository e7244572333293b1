/** `fetch` over the effect `http.fetch`: the standard shapes in and out, one effect a request. */
import { viaOf } from '../cards.ts'
import { running, runUnder } from '../current.ts'
import { effect, silenced } from '../runtime.ts'
import { type Secret, secretName } from '../secret.ts'
import type { Card } from '../types.ts'
import type { AbortSignal } from './abort.ts'
import { Headers, hasBody, Request, Response, responseOf, textOf } from './body.ts'

interface Answer {
  readonly status: number
  readonly statusText: string
  readonly url: string
  readonly redirected: boolean
  readonly headers: [string, string][]
  readonly text?: string
  readonly base64?: string
}

type Init = RequestInit & { via?: Card; secrets?: Record<string, Secret> }

function fetch(input: unknown, init: Init = {}): Promise<unknown> {
  return silenced(send(input, init))
}

/** Takes handles out of what the standard shapes would make texts of. */
function takeSecrets({ headers, secrets, ...rest }: Init): { init: Init; secrets: Record<string, string> } {
  const taken: Record<string, string> = {}
  for (const [slot, handle] of Object.entries(secrets ?? {})) {
    const name = secretName(handle)
    if (name === undefined) throw new TypeError(`\`${slot}\` is not what \`secret()\` gave`)
    taken[slot] = name
  }
  const pairs = Array.isArray(headers)
    ? headers
    : headers && Object.getPrototypeOf(headers) === Object.prototype
      ? Object.entries(headers)
      : undefined
  if (!pairs) return { init: { ...rest, ...(headers && { headers }) }, secrets: taken }
  const plain = pairs.filter(([header, value]) => {
    const name = secretName(value)
    if (name !== undefined) taken[`header.${String(header).toLowerCase()}`] = name
    return name === undefined
  })
  return { init: { ...rest, headers: plain as [string, string][] }, secrets: taken }
}

async function send(input: unknown, given: Init): Promise<unknown> {
  const invocation = running()
  const { init, secrets } = takeSecrets(given)
  const request = new Request(input, init)
  const signal = request.signal as unknown as AbortSignal | undefined
  signal?.throwIfAborted()
  const headers: [string, string][] = []
  request.headers.forEach((value: string, name: string) => {
    if (/^\[secret .*\]$/.test(value))
      throw new TypeError(
        'a secret stands in a plain object of headers that `fetch` is given, and in no other',
      )
    headers.push([name, value])
  })
  const { method, redirect } = request
  const bodiless = method === 'GET' || method === 'HEAD' || !hasBody(request)
  const text = bodiless ? undefined : textOf(request)
  const body = bodiless ? {} : text === undefined ? { base64: base64Of(await request.bytes()) } : { text }
  const args = {
    method,
    url: new URL(request.url).href,
    headers,
    ...(redirect !== 'follow' && { redirect }),
    ...(Object.keys(secrets).length > 0 && { secrets }),
    ...body,
  }
  // Reading the body took a while, and what was given up meanwhile must not be sent.
  signal?.throwIfAborted()
  const started = runUnder(invocation, () => effect('http.fetch', args, viaOf(init.via)))
  signal?.addEventListener('abort', () => void started.cancel(String(signal.reason)))
  try {
    return toResponse((await started) as unknown as Answer)
  } catch (error) {
    // What a program gave up itself rejects with the reason that it gave, as everywhere.
    throw signal?.aborted ? signal.reason : error
  }
}

function base64Of(bytes: Uint8Array): string {
  return (bytes as Uint8Array & { toBase64(): string }).toBase64()
}

const BODILESS = [204, 205, 304]

function toResponse(answer: Answer): unknown {
  const decode = (Uint8Array as unknown as { fromBase64(text: string): Uint8Array }).fromBase64
  const body = answer.base64 === undefined ? (answer.text ?? '') : decode(answer.base64)
  const response = responseOf(BODILESS.includes(answer.status) ? null : body, answer)
  return Object.defineProperties(response, {
    url: { value: answer.url },
    redirected: { value: answer.redirected },
  })
}

for (const [name, value] of Object.entries({ Headers, Request, Response, fetch })) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false })
}
