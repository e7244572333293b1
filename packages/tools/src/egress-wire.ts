/** Pieces of the way out that know nothing of who goes through it: its pace, what frames requests, a look at what comes. */
import type http from 'node:http'
import type net from 'node:net'
import { isOwnHeader } from './http-request.ts'

/** Requests of one way out at once, and a second after that. */
const AT_ONCE = 100
const PER_SECOND = 10

export class Pace {
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

/** The first byte that comes, which stays to be read; undefined if none does. */
export function firstByte(socket: net.Socket): Promise<number | undefined> {
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
      for (const over of ['end', 'close'] as const) socket.off(over, none)
    }
    socket.on('readable', look)
    for (const over of ['end', 'close'] as const) socket.on(over, none)
    if (socket.destroyed) none()
  })
}

/** What frames the request is the door's own. */
export function outwardHeaders({ headers }: http.IncomingMessage): Record<string, string | string[]> {
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

export function inwardHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Record<string, string | string[]> {
  return Object.fromEntries(
    Object.entries(headers).filter(
      (entry): entry is [string, string | string[]] => entry[1] !== undefined && !HOP.has(entry[0]),
    ),
  )
}
