/**
 * Request and Response with every kind of body. The polyfill below them leans on a browser's
 * FileReader for bytes and reads bytes as Latin-1 text; here one function turns any body into bytes,
 * and text is UTF-8.
 */
import { Headers, Request as PlainRequest, Response as PlainResponse } from 'whatwg-fetch'
import { Blob, formAsBlob } from './blob.ts'

/** What the polyfill keeps of a body. */
interface Kept {
  _bodyInit?: unknown
  _bodyArrayBuffer?: ArrayBuffer
  _noBody?: boolean
  bodyUsed: boolean
  headers: Headers
}

export type RedirectMode = 'follow' | 'manual' | 'error'

/** The body of a request or response, whole and once. */
async function take(from: Kept): Promise<Uint8Array> {
  if (from._noBody) return new Uint8Array(0)
  if (from.bodyUsed) throw new TypeError('the body was read already')
  from.bodyUsed = true
  if (from._bodyArrayBuffer) return new Uint8Array(from._bodyArrayBuffer)
  const given = from._bodyInit
  if (given instanceof Blob) return new Uint8Array(await given.arrayBuffer())
  if (given instanceof ReadableStream) return join(given)
  return new TextEncoder().encode(given === undefined || given === null ? '' : String(given))
}

async function join(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  const reader = stream.getReader()
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    chunks.push(next.value)
    size += next.value.length
  }
  const whole = new Uint8Array(size)
  let at = 0
  for (const chunk of chunks) {
    whole.set(chunk, at)
    at += chunk.length
  }
  return whole
}

const methods = {
  bytes(this: Kept): Promise<Uint8Array> {
    return take(this)
  },
  async arrayBuffer(this: Kept): Promise<ArrayBuffer> {
    return (await take(this)).slice().buffer as ArrayBuffer
  },
  async text(this: Kept): Promise<string> {
    if (typeof this._bodyInit !== 'string') return new TextDecoder().decode(await take(this))
    if (this.bodyUsed) throw new TypeError('the body was read already')
    this.bodyUsed = !this._noBody
    return this._bodyInit
  },
  async blob(this: Kept): Promise<unknown> {
    return new Blob([await take(this)], { type: this.headers.get('content-type') ?? '' })
  },
}
for (const { prototype } of [PlainRequest, PlainResponse]) {
  for (const [name, value] of Object.entries(methods))
    Object.defineProperty(prototype, name, { value, writable: true, configurable: true })
  Object.defineProperty(prototype, 'body', { get: bodyStream, configurable: true })
}
Object.defineProperty(Headers.prototype, 'getSetCookie', {
  value: () => [],
  writable: true,
  configurable: true,
})

const streams = new WeakMap<object, ReadableStream>()
function bodyStream(this: Kept): ReadableStream | null {
  if (this._noBody || this._bodyInit === null || this._bodyInit === undefined) return null
  const known = streams.get(this)
  if (known) return known
  // Taken at the first read: who only looks whether there is a body still has it.
  const source = {
    pull: async (controller: ReadableStreamDefaultController) => {
      controller.enqueue(await take(this))
      controller.close()
    },
  }
  const made = new ReadableStream(source, new CountQueuingStrategy({ highWaterMark: 0 }))
  streams.set(this, made)
  return made
}

/** A body as the polyfill can keep it: a form as the blob that is sent for it, any view as its bytes. */
function kept(body: unknown): unknown {
  if (!ArrayBuffer.isView(body)) return formAsBlob(body)
  return new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice()
}

/** A blob says its own type; for what it does not know, the polyfill has written that it is text. */
function typed(on: Kept, body: unknown, given: HeadersInit | undefined): void {
  if (typeof body === 'string' || new Headers(given).has('content-type')) return
  if (body instanceof Blob && body.type !== '') on.headers.set('content-type', body.type)
  else if (body instanceof Blob || body instanceof ReadableStream) on.headers.delete('content-type')
}

type Init = Omit<RequestInit, 'body'> & { body?: unknown }

export class Request extends PlainRequest {
  declare readonly redirect: RedirectMode

  constructor(input: unknown, init: Init = {}) {
    const body = kept(init.body)
    super(input as RequestInfo, { ...init, body } as RequestInit)
    typed(
      this as unknown as Kept,
      body,
      init.headers ?? (input instanceof Request ? input.headers : undefined),
    )
    const redirect = init.redirect ?? (input instanceof Request ? input.redirect : 'follow')
    Object.defineProperty(this, 'redirect', { value: redirect, enumerable: true })
  }
  override clone(): Request {
    const { method, headers, signal, redirect } = this
    const body = (this as unknown as Kept)._bodyInit
    return new Request(this.url, { method, headers, signal, redirect, body })
  }
}

export class Response extends PlainResponse {
  constructor(given?: unknown, init: ResponseInit = {}) {
    const body = kept(given)
    super(body as BodyInit, init)
    typed(this as unknown as Kept, body, init.headers)
  }
  override clone(): Response {
    return responseOf((this as unknown as Kept)._bodyInit, this)
  }
  static override json(data: unknown, init: ResponseInit = {}): Response {
    const headers = new Headers(init.headers)
    if (!headers.has('content-type')) headers.set('content-type', 'application/json')
    return new Response(JSON.stringify(data), { ...init, headers })
  }
}

const LEAST_STATUS = 200
const MOST_STATUS = 599

interface Head {
  readonly status: number
  readonly statusText: string
  readonly headers: HeadersInit
}

/** A response of any status: the constructor takes 200 to 599 alone, and servers send others too. */
export function responseOf(body: unknown, { status, statusText, headers }: Head): Response {
  const odd = status < LEAST_STATUS || status > MOST_STATUS
  const response = new Response(body, { status: odd ? MOST_STATUS : status, statusText, headers })
  return odd ? Object.defineProperty(response, 'status', { value: status }) : response
}

/** The body of a request as it was given: text stays text, so that a grant can bound it. */
export function textOf(request: Request): string | undefined {
  const given = (request as unknown as Kept)._bodyInit
  return typeof given === 'string' || given instanceof URLSearchParams ? String(given) : undefined
}

export function hasBody(request: Request): boolean {
  const { _noBody, _bodyInit } = request as unknown as Kept
  return !_noBody && _bodyInit !== undefined && _bodyInit !== null
}

export { Headers }
