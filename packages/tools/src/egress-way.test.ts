/** What a program may do to its way out, and to others by it: real sockets, and a real service behind. */
import fs from 'node:fs'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { request as send } from 'undici'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { EgressDoor } from './egress-door.ts'
import { egressBound } from './egress-grants.ts'
import { EgressProxy, SOCKET, type WayOut } from './egress-proxy.ts'

const TIMEOUT_MS = 1500
let folder: string
let service: http.Server
let door: EgressDoor
let proxy: EgressProxy
let way: WayOut
let noted: string[]
/** Requests that the service has begun, and those that ended before they were whole. */
let came = { begun: 0, broken: 0 }
/** What it does with a request. */
let serve: http.RequestListener
const origin = () => `http://127.0.0.1:${(service.address() as AddressInfo).port}`
const socketOf = ({ folder: at }: WayOut) => path.join(at, SOCKET)

function open(tenant = 'acme'): Promise<WayOut> {
  const { port } = service.address() as AddressInfo
  const grants = [{ host: '127.0.0.1', scheme: ['http'], port: [port], path: '/*', method: '*' }]
  return proxy.open(tenant, egressBound(grants, 'egress'), async ({ host, method }, verdict) => {
    noted.push(`${verdict} ${method} ${[...(host ?? [])].reverse().join('.')}`)
  })
}

/** A program that writes `text` and goes on as it is told. */
function connect(text: string, at = way): Promise<net.Socket> {
  return new Promise((resolve) => {
    const socket = net.connect(socketOf(at))
    socket.on('error', () => {})
    socket.on('connect', () => {
      socket.write(text)
      resolve(socket)
    })
  })
}

/** All that comes, until the other side ends. */
async function answerTo(text: string, at = way): Promise<string> {
  const socket = await connect(text, at)
  let said = ''
  socket.on('data', (chunk) => {
    said += String(chunk)
  })
  await new Promise((resolve) => socket.once('close', resolve))
  return said
}
const descriptors = () => fs.readdirSync('/proc/self/fd').length

beforeEach(async () => {
  noted = []
  const own = { begun: 0, broken: 0 }
  came = own
  serve = (_request, response) => response.end('served')
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'way-'))
  service = http.createServer((request, response) => {
    own.begun++
    response.on('close', () => {
      if (!response.writableFinished) own.broken++
    })
    serve(request, response)
  })
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve))
  door = new EgressDoor({
    policy: {
      zones: () => [{ name: 'test', hosts: ['127.0.0.1'], ranges: ['127.0.0.0/8'] }],
      networks: () => [],
      version: () => 1,
      ownPorts: () => new Set(),
    },
    connections: 4,
    timeoutMs: TIMEOUT_MS,
  })
  proxy = new EgressProxy(door, path.join(folder, 'doors'))
  way = await open()
})
afterEach(async () => {
  way.close()
  await door.close()
  service.closeAllConnections()
  await new Promise((resolve) => service.close(resolve))
  fs.rmSync(folder, { recursive: true, force: true })
})

describe('a way out', () => {
  it('keeps no descriptor of whoever asked for a tunnel and went', async () => {
    const before = descriptors()
    const { host } = new URL(origin())
    for (let i = 0; i < 60; i++) {
      const socket = await connect(`CONNECT ${host} HTTP/1.1\r\nhost: x\r\n\r\n`)
      await new Promise((resolve) => socket.once('data', resolve))
      socket.destroy()
    }
    await expect.poll(descriptors, { timeout: 5000 }).toBeLessThanOrEqual(before + 2)
  })

  it('has so many sockets and no more, and leaves others theirs', async () => {
    const other = await open()
    const idle = await Promise.all(Array.from({ length: 200 }, () => connect('')))
    await expect.poll(() => idle.filter(({ closed }) => closed).length).toBe(200 - 128)
    expect(
      await answerTo(`GET ${origin()}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`, other),
    ).toMatch(/served$/)
    for (const socket of idle) socket.destroy()
    await expect
      .poll(() => answerTo(`GET ${origin()}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`))
      .toMatch(/served$/)
    other.close()
  })

  it('leaves other tenants room, however many ways one has', async () => {
    const own = await Promise.all(Array.from({ length: 3 }, () => open()))
    const idle = (
      await Promise.all(own.map((one) => Promise.all(Array.from({ length: 120 }, () => connect('', one)))))
    ).flat()
    await expect.poll(() => idle.filter(({ closed }) => closed).length).toBe(360 - 256)
    const other = await open('other')
    const get = `GET ${origin()}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`
    expect(await answerTo(get, own[0])).toBe('')
    expect(await answerTo(get, other)).toMatch(/served$/)
    for (const one of [...own, other]) one.close()
  })

  it('takes nothing from what agents ask of the same service', async () => {
    serve = (request, response) => {
      if (request.url === '/own') response.end('own')
      else if (request.method === 'GET') response.end(Buffer.alloc(8 << 20))
    }
    const half = `POST ${origin()}/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc`
    for (let i = 0; i < 6; i++) await connect(half)
    const unread = await Promise.all(
      Array.from({ length: 6 }, () => connect(`GET ${origin()}/big HTTP/1.1\r\nhost: x\r\n\r\n`)),
    )
    for (const socket of unread) socket.pause()
    await expect.poll(() => came.begun).toBeGreaterThanOrEqual(8)
    const url = new URL(`${origin()}/own`)
    const { body } = await send(url, { dispatcher: door.dispatcherFor(url) })
    expect(await body.text()).toBe('own')
  })

  it('ends what nobody waits for any more, whether it was asked for whole or half', async () => {
    serve = () => {}
    const half = await connect(`POST ${origin()}/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc`)
    const whole = await connect(`GET ${origin()}/x HTTP/1.1\r\nhost: x\r\n\r\n`)
    await expect.poll(() => came.begun).toBe(2)
    const at = performance.now()
    for (const socket of [half, whole]) socket.destroy()
    await expect.poll(() => came.broken).toBe(2)
    // Long before the service's own time is over.
    expect(performance.now() - at).toBeLessThan(TIMEOUT_MS)
  })

  it('lets out no body that a service would take for another request', async () => {
    for (const rest of [
      'content-length: 24\r\n\r\nGET /secret HTTP/1.1\r\n\r\n',
      'transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
    ]) {
      const said = await answerTo(`GET ${origin()}/a HTTP/1.1\r\nhost: x\r\n${rest}`)
      expect(said).toMatch(/^HTTP\/1.1 403/)
      expect(said).toContain('a GET with a body')
    }
    expect(came.begun).toBe(0)
    expect(
      await answerTo(
        `POST ${origin()}/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok`,
      ),
    ).toMatch(/served$/)
  })

  it('opens no tunnel to a host that no grant names, and writes of that a hundred times an hour at most', async () => {
    const said = await answerTo('CONNECT elsewhere.example:443 HTTP/1.1\r\nhost: x\r\n\r\n')
    expect(said).toMatch(/^HTTP\/1.1 403/)
    expect(noted).toEqual(['refuse CONNECT elsewhere.example'])
    let last = ''
    for (let i = 0; i < 150; i++)
      last = await answerTo(`CONNECT x${i}.example:443 HTTP/1.1\r\nhost: x\r\n\r\n`)
    expect(last).toMatch(/^HTTP\/1.1 4(29|03)/)
    expect(noted.length).toBeGreaterThan(50)
    expect(noted.length).toBeLessThanOrEqual(100)
  })

  it('has a folder of its own while it is open; what an earlier run left is gone', async () => {
    const base = path.join(folder, 'doors')
    expect(fs.readdirSync(base)).toHaveLength(1)
    expect(fs.statSync(way.folder).mode & 0o777).toBe(0o700)
    const next = new EgressProxy(door, base)
    expect(fs.existsSync(base)).toBe(false)
    const one = await next.open('acme', [], async () => {})
    one.close()
    expect(fs.readdirSync(base)).toEqual([])
    // The name of a socket is bounded, and the name of a folder is not.
    const deep = new EgressProxy(door, path.join(folder, 'd'.repeat(120)))
    const other = await deep.open('acme', [], async () => {})
    expect(other.folder.startsWith(os.tmpdir())).toBe(true)
    other.close()
    expect(fs.existsSync(other.folder)).toBe(false)
  })
})
