/** A service that writes back what it was sent, in whatever way the path names. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import zlib from 'node:zlib'

interface Seen {
  readonly host: string
  readonly method: string
  readonly url: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

export interface Reflecting {
  readonly port: number
  readonly seen: Seen[]
  close(): Promise<void>
}

type Answer = (seen: Seen, response: http.ServerResponse, path: string) => void

const everything = ({ url, headers, body }: Seen) => JSON.stringify({ url, headers, body })

const WAYS: Record<string, Answer> = {
  plain: (seen, response) => response.end(everything(seen)),
  quiet: (_seen, response) => response.end('{"rows":[1,2,3]}'),
  base64: (seen, response) => response.end(Buffer.from(everything(seen)).toString('base64')),
  hex: (seen, response) => response.end(Buffer.from(everything(seen)).toString('hex')),
  percent: (seen, response) => response.end(encodeURIComponent(everything(seen))),
  json: (seen, response) => response.end(JSON.stringify({ error: everything(seen) })),
  error: (seen, response) => {
    response.writeHead(500)
    response.end(`Error: bad request ${everything(seen)}\n    at handler (server.js:1:1)`)
  },
  password: (seen, response) => {
    const login = Buffer.from(seen.headers.authorization?.slice('Basic '.length) ?? '', 'base64').toString()
    response.end(`you said ${login.slice(login.indexOf(':') + 1)}`)
  },
  partial: (seen, response) => {
    response.writeHead(206, { 'content-range': 'bytes 0-9/10' })
    response.end((seen.headers.authorization ?? 'none').slice(0, 10))
  },
  header: (seen, response) => {
    response.setHeader('x-echo', seen.headers.authorization ?? 'none')
    response.setHeader('etag', `"${seen.headers.authorization?.length}"`)
    response.end('in a header')
  },
  gzip: (seen, response) => {
    response.setHeader('content-encoding', 'gzip')
    response.end(zlib.gzipSync(everything(seen)))
  },
  split: async (seen, response) => {
    // Byte by byte, so that no chunk holds more than one.
    for (const byte of Buffer.from(everything(seen))) {
      response.write(Buffer.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    response.end()
  },
  location: (seen, response) => {
    response.writeHead(302, {
      location: `/plain?was=${encodeURIComponent(seen.headers.authorization ?? '')}`,
    })
    response.end()
  },
  broken: (seen, response) => {
    response.writeHead(200, { 'content-length': '100000' })
    response.write(everything(seen))
    setTimeout(() => response.destroy(), 20)
  },
  token: (_seen, response) => {
    const token = 'minted-by-the-service-8c1f2b'
    response.end(JSON.stringify({ access_token: token, expires_in: 3600, hint: `use ${token}` }))
  },
}

export async function startReflecting(): Promise<Reflecting> {
  const seen: Seen[] = []
  const server = http.createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    const { method = '', url = '', headers } = request
    const one = { host: headers.host ?? '', method, url, headers, body }
    seen.push(one)
    const to = /^\/to\?url=(.*)$/.exec(url)?.[1]
    if (to !== undefined) {
      response.writeHead(302, { location: decodeURIComponent(to) })
      return response.end()
    }
    const way = WAYS[/^\/([a-z0-9]+)/.exec(url)?.[1] ?? ''] ?? WAYS.quiet
    ;(way as Answer)(one, response, url)
  })
  server.listen(0, '0.0.0.0')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
