/**
 * The way out of a sandbox: a forward proxy that decides each request by the tool's own card and takes it to the
 * door. TLS ends here, by an authority that only sandboxes trust: what cannot be read is not let out.
 */
import fs from 'node:fs'
import http from 'node:http'
import type net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { pipeline, Transform } from 'node:stream'
import tls from 'node:tls'
import type { Bound, Request } from '@cardinal/cards'
import { type Dispatcher, request as send } from 'undici'
import { EgressDenied } from './address.ts'
import { EgressCa } from './egress-ca.ts'
import type { EgressDoor } from './egress-door.ts'
import { isWithinEgress } from './egress-grants.ts'
import { isOwnHeader, translateHttp } from './http-request.ts'

/** Told of each request before it leaves, or is refused; what it is told is on record once this resolves. */
export type NoteEgress = (request: Request, verdict: 'allow' | 'refuse') => Promise<void>

/** A way out that is open. */
export interface WayOut {
  /** A folder that holds the socket and what is to be trusted. */
  readonly folder: string
  close(): void
}

/** What stands in the folder of a way out. */
export const SOCKET = 'door.sock'
export const TRUSTED = 'ca.pem'
/** Bytes of one request or answer. */
const MAX_BYTES = 256 << 20
const MAX_HEADERS = 64 << 10
/** Requests of one way out in a second, and at once. */
const PER_SECOND = 20
const AT_ONCE = 100

/** Opens ways out, all by one authority. */
export class EgressProxy {
  readonly #door: EgressDoor
  #ca: EgressCa | undefined

  constructor(door: EgressDoor) {
    this.#door = door
  }

  /** Whatever goes through it lies within `bound`. */
  async open(bound: Bound, note: NoteEgress): Promise<WayOut> {
    this.#ca ??= new EgressCa()
    const ca = this.#ca
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cardinal-door-'))
    fs.writeFileSync(path.join(folder, TRUSTED), await ca.pem())
    const way = new Way(this.#door, ca, bound, note)
    await way.listen(path.join(folder, SOCKET))
    return {
      folder,
      close: () => {
        way.close()
        fs.rmSync(folder, { recursive: true, force: true })
      },
    }
  }
}

class Way {
  readonly #door: EgressDoor
  readonly #ca: EgressCa
  readonly #bound: Bound
  readonly #note: NoteEgress
  readonly #server: http.Server
  /** Speaks with whoever has asked for a tunnel: nothing listens for it. */
  readonly #inner: http.Server
  readonly #sockets = new Set<net.Socket>()
  readonly #closing = new AbortController()
  readonly #pace = new Pace()

  constructor(door: EgressDoor, ca: EgressCa, bound: Bound, note: NoteEgress) {
    this.#door = door
    this.#ca = ca
    this.#bound = bound
    this.#note = note
    const options = { maxHeaderSize: MAX_HEADERS, requestTimeout: 0 }
    this.#server = http.createServer(options, (request, response) =>
      // Only what is written with its whole address says where it goes.
      this.#serve(String(request.url), request, response),
    )
    this.#inner = http.createServer(options, (request, response) => {
      const { origin = '' } = request.socket as net.Socket & { origin?: string }
      this.#serve(`${origin}${request.url}`, request, response)
    })
    for (const server of [this.#server, this.#inner]) {
      server.on('upgrade', (_request, socket) => socket.destroy())
      server.on('connection', (socket: net.Socket) => this.#keep(socket))
    }
    this.#server.on('connect', (request, socket: net.Socket, head: Buffer) => {
      if (head.length > 0) socket.unshift(head)
      this.#tunnel(String(request.url), socket).catch(() => socket.destroy())
    })
  }

  listen(socket: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(socket, () => resolve())
    })
  }

  close(): void {
    this.#closing.abort()
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #keep(socket: net.Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#sockets.delete(socket))
  }

  /** Nothing is asked of anybody for it: what comes through it is decided, request by request. */
  async #tunnel(authority: string, socket: net.Socket): Promise<void> {
    this.#keep(socket)
    const url = URL.parse(`https://${authority}`)
    if (url?.pathname !== '/' || url.search !== '' || url.username !== '') {
      socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n')
      return
    }
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
    const first = await firstByte(socket)
    const host = url.hostname.replace(/^\[|\]$/g, '')
    // Some ask for a tunnel for whatever they want.
    if (first !== TLS_HANDSHAKE) {
      const origin = `http://${url.hostname}${url.port === '' ? ':443' : `:${url.port}`}`
      this.#inner.emit('connection', Object.assign(socket, { origin }))
      return
    }
    const secureContext = await this.#ca.contextFor(host)
    const inside = new tls.TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] })
    inside.on('error', () => socket.destroy())
    this.#inner.emit('connection', Object.assign(inside, { origin: url.origin }))
  }

  #serve(url: string, request: http.IncomingMessage, response: http.ServerResponse): void {
    this.#pass(url, request, response).catch((error: unknown) => {
      const refused = error instanceof NotLetOut || error instanceof EgressDenied
      const [status, why] = refused ? ([403, error.message] as const) : ([502, 'no answer'] as const)
      if (response.headersSent) response.destroy()
      else
        response
          .writeHead(status, { 'content-type': 'text/plain', connection: 'close' })
          .end(`cardinal: ${why}\n`)
    })
  }

  async #pass(text: string, request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    if (!this.#pace.take(Date.now())) throw new NotLetOut('too many requests at a time')
    const method = String(request.method)
    const asked = translateHttp(
      { method, url: text },
      { idempotency: [], secrets: {}, key: '', repeats: true },
    )
    if ('bad' in asked) throw new NotLetOut(`that is ${asked.bad}`)
    const url = new URL((asked.plan as { url: string }).url)
    const no = this.#refusal(asked.request, method, url)
    await this.#note(asked.request, no ? 'refuse' : 'allow')
    if (no) throw no
    const answer = await send(url, {
      method: method as Dispatcher.HttpMethod,
      headers: outwardHeaders(request),
      body: hasBody(request) ? request.pipe(new Bounded()) : null,
      dispatcher: this.#door.dispatcherFor(url),
      signal: this.#closing.signal,
      headersTimeout: this.#door.options.timeoutMs,
      bodyTimeout: this.#door.options.timeoutMs,
    })
    response.writeHead(answer.statusCode, inwardHeaders(answer.headers))
    pipeline(answer.body, new Bounded(), response, () => {})
  }

  #refusal(request: Request, method: string, url: URL): Error | undefined {
    if (!isWithinEgress(this.#bound, request))
      return new NotLetOut(`the card of this tool does not allow ${method} ${url.origin}${url.pathname}`)
    try {
      this.#door.check(url)
      return undefined
    } catch (error) {
      return error as Error
    }
  }
}

/** What TLS begins with; no method does. */
const TLS_HANDSHAKE = 0x16

/** The first byte that comes, which stays to be read; undefined if none does. */
function firstByte(socket: net.Socket): Promise<number | undefined> {
  return new Promise((resolve) => {
    const look = () => {
      const chunk = socket.read() as Buffer | null
      if (!chunk) return
      done()
      socket.unshift(chunk)
      resolve(chunk[0])
    }
    const none = () => {
      done()
      resolve(undefined)
    }
    const done = () => {
      socket.off('readable', look)
      socket.off('close', none)
    }
    socket.on('readable', look)
    socket.on('close', none)
  })
}

/** What does not leave, and why. */
class NotLetOut extends Error {}

/** Breaks off where more comes than may. */
class Bounded extends Transform {
  #bytes = 0

  override _transform(chunk: Buffer, _encoding: string, done: (error: Error | null, chunk?: Buffer) => void) {
    this.#bytes += chunk.length
    if (this.#bytes > MAX_BYTES) done(new Error(`more than ${MAX_BYTES} bytes`))
    else done(null, chunk)
  }
}

/** So many at once, and so many a second after that. */
class Pace {
  #left = AT_ONCE
  #atMs = 0

  take(nowMs: number): boolean {
    if (this.#atMs > 0)
      this.#left = Math.min(AT_ONCE, this.#left + ((nowMs - this.#atMs) / 1000) * PER_SECOND)
    this.#atMs = nowMs
    if (this.#left < 1) return false
    this.#left -= 1
    return true
  }
}

function hasBody({ headers }: http.IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** What frames the request is the door's own. */
function outwardHeaders({ headers }: http.IncomingMessage): Record<string, string | string[]> {
  const named = String(headers.connection ?? '')
    .toLowerCase()
    .split(/\s*,\s*/)
  const kept = Object.entries(headers).filter(
    (entry): entry is [string, string | string[]] =>
      entry[1] !== undefined && !isOwnHeader(entry[0]) && !named.includes(entry[0]),
  )
  const length = headers['content-length']
  return { ...Object.fromEntries(kept), ...(length !== undefined && { 'content-length': length }) }
}

const HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'transfer-encoding',
  'upgrade',
  'trailer',
])

function inwardHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Record<string, string | string[]> {
  return Object.fromEntries(
    Object.entries(headers).filter(
      (entry): entry is [string, string | string[]] => entry[1] !== undefined && !HOP.has(entry[0]),
    ),
  )
}
