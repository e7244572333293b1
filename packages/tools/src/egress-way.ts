/**
 * One way out of a sandbox, while it is open: it speaks as a forward proxy with programs that nobody trusts. TLS
 * ends here, by an authority that only sandboxes trust: what cannot be read is not let out.
 *
 * Nothing that a program does may take from others what they need: sockets, requests and bytes are bounded, every
 * wait ends, and connections to the world are its own and not those that agents' requests share.
 */
import http from 'node:http'
import type net from 'node:net'
import { pipeline, Transform } from 'node:stream'
import tls from 'node:tls'
import { type Bound, has, type Request } from '@cardinal/cards'
import { type Dispatcher, request as send } from 'undici'
import { EgressDenied } from './address.ts'
import type { EgressCa } from './egress-ca.ts'
import { EgressDoor } from './egress-door.ts'
import { namesHost } from './egress-grants.ts'
import { firstByte, inwardHeaders, outwardHeaders, Pace } from './egress-wire.ts'
import { translateHttp } from './http-request.ts'

/** Told of each request before it leaves, or is refused; what it is told is on record once this resolves. */
export type NoteEgress = (request: Request, verdict: 'allow' | 'refuse') => Promise<void>

/** Sockets that the ways of a tenant may have together, and those of all. */
export interface Room {
  readonly own: { sockets: number }
  readonly all: { sockets: number }
}

const MAX_SOCKETS = 128
/** Requests at once, and connections to one origin. */
const MAX_OPEN = 32
const CONNECTIONS = 8
/** Bytes of one request or answer. */
const MAX_BYTES = 256 << 20
const MAX_HEADERS = 64 << 10
const HEADERS_MS = 30_000
/** Without a byte either way. */
const IDLE_MS = 90_000
/** Of one request with its answer. */
const WHOLE_MS = 900_000
/** Refusals that are on record in an hour: whoever is refused more often writes no more about it. */
const REFUSALS_NOTED = 100
const HOUR_MS = 3_600_000
/** What TLS begins with; no method does. */
const TLS_HANDSHAKE = 0x16

export class Way {
  readonly #door: EgressDoor
  readonly #ca: EgressCa
  readonly #bound: Bound
  readonly #note: NoteEgress
  readonly #room: Room
  readonly #server: http.Server
  /** Speaks with whoever has asked for a tunnel: nothing listens for it. */
  readonly #inner: http.Server
  readonly #sockets = new Set<net.Socket>()
  readonly #closing = new AbortController()
  readonly #pace = new Pace()
  /** Sockets in tunnels that have no request under way. */
  readonly #waiting = new WeakMap<net.Socket, NodeJS.Timeout>()
  #open = 0
  #refusals = { count: 0, sinceMs: 0 }

  constructor(
    door: EgressDoor,
    ca: EgressCa,
    { bound, note, room }: { readonly bound: Bound; readonly note: NoteEgress; readonly room: Room },
  ) {
    this.#door = new EgressDoor({ ...door.options, connections: CONNECTIONS })
    this.#ca = ca
    this.#bound = bound
    this.#note = note
    this.#room = room
    const options = { maxHeaderSize: MAX_HEADERS, headersTimeout: HEADERS_MS, requestTimeout: WHOLE_MS }
    this.#server = http.createServer(options, (request, response) =>
      // Only what is written with its whole address says where it goes.
      this.#serve(String(request.url), request, response),
    )
    this.#inner = http.createServer(options, (request, response) => {
      const socket = request.socket as net.Socket & { origin?: string }
      clearTimeout(this.#waiting.get(socket))
      response.once('close', () => !socket.destroyed && this.#awaitRequest(socket))
      this.#serve(`${socket.origin ?? ''}${request.url}`, request, response)
    })
    for (const server of [this.#server, this.#inner]) {
      server.setTimeout(IDLE_MS)
      server.on('upgrade', (_request, socket) => socket.destroy())
    }
    this.#server.on('connection', (socket: net.Socket) => this.#keep(socket))
    this.#inner.on('connection', (socket: net.Socket) => this.#awaitRequest(socket))
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
    void this.#door.close()
  }

  #keep(socket: net.Socket): void {
    if (!this.#hasRoom() || this.#closing.signal.aborted) {
      socket.destroy()
      return
    }
    for (const room of [this.#room.own, this.#room.all]) room.sockets--
    this.#sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      for (const room of [this.#room.own, this.#room.all]) room.sockets++
      this.#sockets.delete(socket)
    })
  }

  #hasRoom(): boolean {
    return this.#sockets.size < MAX_SOCKETS && this.#room.own.sockets > 0 && this.#room.all.sockets > 0
  }

  /** Between two requests, and before the first, nobody waits for ever: Node itself sees to that only where it listens. */
  #awaitRequest(socket: net.Socket): void {
    const timer = setTimeout(() => socket.destroy(), HEADERS_MS)
    this.#waiting.set(socket, timer)
    socket.once('close', () => clearTimeout(timer))
  }

  /** Only to hosts that some grant names; what comes through it is decided then, request by request. */
  async #tunnel(authority: string, socket: net.Socket): Promise<void> {
    // From here on nobody else looks after it.
    socket.setTimeout(IDLE_MS, () => socket.destroy())
    socket.on('end', () => socket.destroy())
    const url = URL.parse(`https://${authority}`)
    if (url?.pathname !== '/' || url.search !== '' || url.username !== '') return answerTunnel(socket, 400)
    if (!this.#pace.take(Date.now())) return answerTunnel(socket, 429)
    const asked = { tool: ['http', 'fetch'], scheme: 'https', method: 'CONNECT', args: new Map() }
    const host = url.hostname.split('.').reverse()
    const port = url.port === '' ? 443 : Number(url.port)
    if (!namesHost(this.#bound, host, port)) {
      await this.#noteRefusal({ ...asked, host, port })
      return answerTunnel(socket, 403)
    }
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
    const first = await firstByte(socket)
    if (first === undefined) socket.destroy()
    // Some ask for a tunnel for whatever they want.
    else if (first !== TLS_HANDSHAKE)
      this.#inner.emit('connection', Object.assign(socket, { origin: `http://${url.hostname}:${port}` }))
    else {
      const secureContext = await this.#ca.contextFor(url.hostname.replace(/^\[|\]$/g, ''))
      const inside = new tls.TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] })
      inside.on('error', () => socket.destroy())
      inside.on('close', () => socket.destroy())
      this.#inner.emit('connection', Object.assign(inside, { origin: url.origin }))
    }
  }

  #serve(url: string, request: http.IncomingMessage, response: http.ServerResponse): void {
    this.#open++
    response.once('close', () => this.#open--)
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
    if (this.#open > MAX_OPEN || !this.#pace.take(Date.now()))
      throw new NotLetOut('too many requests at a time')
    const method = String(request.method)
    const settings = { idempotency: [], secrets: {}, key: '', repeats: true } as const
    const asked = translateHttp({ method, url: text }, settings)
    if ('bad' in asked) throw new NotLetOut(`that is ${asked.bad}`)
    const hasBody = isWithBody(request)
    // Servers that do not expect one take it for the next request.
    if (hasBody && (method === 'GET' || method === 'HEAD'))
      throw new NotLetOut(`that is a ${method} with a body`)
    const url = new URL((asked.plan as { url: string }).url)
    const no = this.#refusal(asked.request, method, url)
    if (no) {
      await this.#noteRefusal(asked.request)
      throw no
    }
    await this.#note(asked.request, 'allow')
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    // Who has gone while that was written down wants nothing any more.
    if (response.destroyed) return
    const body = hasBody ? pipeline(request, new Bounded(), () => {}) : null
    const answer = await send(url, {
      method: method as Dispatcher.HttpMethod,
      headers: outwardHeaders(request),
      body,
      reset: hasBody,
      dispatcher: this.#door.dispatcherFor(url),
      signal: AbortSignal.any([this.#closing.signal, gone.signal, AbortSignal.timeout(WHOLE_MS)]),
      headersTimeout: this.#door.options.timeoutMs,
      bodyTimeout: this.#door.options.timeoutMs,
    })
    response.writeHead(answer.statusCode, inwardHeaders(answer.headers))
    pipeline(answer.body, new Bounded(), response, () => {})
  }

  #refusal(request: Request, method: string, url: URL): Error | undefined {
    if (!has(this.#bound, request))
      return new NotLetOut(`the card of this tool does not allow ${method} ${url.origin}${url.pathname}`)
    try {
      this.#door.check(url)
      return undefined
    } catch (error) {
      return error as Error
    }
  }

  async #noteRefusal(request: Request): Promise<void> {
    const now = Date.now()
    if (now - this.#refusals.sinceMs > HOUR_MS) this.#refusals = { count: 0, sinceMs: now }
    if (++this.#refusals.count <= REFUSALS_NOTED) await this.#note(request, 'refuse')
  }
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

function isWithBody({ headers }: http.IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

function answerTunnel(socket: net.Socket, status: 400 | 403 | 429): void {
  socket.end(
    `HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`,
  )
}
