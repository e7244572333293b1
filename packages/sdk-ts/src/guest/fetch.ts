/** `fetch` over the effect `http.fetch`: the standard shapes in and out, one effect a request. */
import { Headers, Request, Response } from 'whatwg-fetch'
import { effect } from '../runtime.ts'
import type { AbortSignal } from './abort.ts'
import { encodeParts, hasParts, toBlob } from './blob.ts'

interface Answer {
  readonly status: number
  readonly statusText: string
  readonly url: string
  readonly redirected: boolean
  readonly headers: [string, string][]
  readonly text?: string
  readonly base64?: string
}

type Init = RequestInit & { via?: { id: string } }

async function fetch(input: unknown, init: Init = {}): Promise<unknown> {
  const parts = hasParts(init.body) ? await encodeParts(init.body) : undefined
  const request = new Request(input as RequestInfo, { ...init, ...(parts && { body: null }) } as RequestInit)
  const signal = init.signal as unknown as AbortSignal | undefined
  signal?.throwIfAborted()
  const headers: [string, string][] = []
  request.headers.forEach((value: string, name: string) => {
    headers.push([name, value])
  })
  if (parts?.type && !request.headers.has('content-type')) headers.push(['content-type', parts.type])
  const bodiless = request.method === 'GET' || request.method === 'HEAD'
  const body = bodiless ? {} : parts ? encodeBytes(parts.bytes) : await encodeBody(init.body, request)
  const args = { method: request.method, url: new URL(request.url).href, headers, ...body }
  const started = effect('http.fetch', args, init.via?.id)
  signal?.addEventListener('abort', () => void started.cancel(String(signal.reason)))
  const answer = (await started) as unknown as Answer
  return toResponse(answer)
}

async function encodeBody(given: unknown, request: Request): Promise<{ text?: string; base64?: string }> {
  if (given === undefined || given === null) return {}
  if (typeof given === 'string' || given instanceof URLSearchParams) return { text: String(given) }
  return encodeBytes(new Uint8Array(await request.arrayBuffer()))
}

function encodeBytes(bytes: Uint8Array): { base64: string } {
  return { base64: (bytes as Uint8Array & { toBase64(): string }).toBase64() }
}

const BODILESS = [204, 205, 304]

function toResponse(answer: Answer): unknown {
  const decode = (Uint8Array as unknown as { fromBase64(text: string): Uint8Array }).fromBase64
  const body = answer.base64 === undefined ? (answer.text ?? '') : decode(answer.base64)
  const response = new Response(BODILESS.includes(answer.status) ? null : (body as BodyInit), {
    status: answer.status,
    statusText: answer.statusText,
    headers: answer.headers,
  })
  return Object.defineProperties(response, {
    url: { value: answer.url },
    redirected: { value: answer.redirected },
  })
}

// The polyfill reads text as bytes only where a browser's FileReader is; here it is encoded.
for (const { prototype } of [Response, Request]) {
  const { arrayBuffer } = prototype
  const methods = {
    async arrayBuffer(this: Body & { _bodyArrayBuffer?: ArrayBuffer }): Promise<ArrayBuffer> {
      if (this._bodyArrayBuffer) return arrayBuffer.call(this)
      return new TextEncoder().encode(await this.text()).buffer as ArrayBuffer
    },
    async bytes(this: Body): Promise<Uint8Array> {
      return new Uint8Array(await this.arrayBuffer())
    },
    async blob(this: Body & { headers: Headers }): Promise<unknown> {
      return toBlob(await this.arrayBuffer(), this.headers.get('content-type') ?? '')
    },
  }
  for (const [name, value] of Object.entries(methods))
    Object.defineProperty(prototype, name, { value, writable: true, configurable: true })
}

for (const [name, value] of Object.entries({ Headers, Request, Response, fetch })) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false })
}
