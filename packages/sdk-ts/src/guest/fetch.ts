/** `fetch` over the effect `http.fetch`: the standard shapes in and out, one effect a request. */
import { viaOf } from '../cards.ts'
import { running, runUnder } from '../current.ts'
import { effect, silenced } from '../runtime.ts'
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

type Init = RequestInit & { via?: Card }

function fetch(input: unknown, init: Init = {}): Promise<unknown> {
  return silenced(send(input, init))
}

async function send(input: unknown, init: Init): Promise<unknown> {
  const invocation = running()
  const request = new Request(input, init)
  const signal = request.signal as unknown as AbortSignal | undefined
  signal?.throwIfAborted()
  const headers: [string, string][] = []
  request.headers.forEach((value: string, name: string) => {
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
