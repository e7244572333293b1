/** The one door out: every refusal has a twin that differs in one fact and is allowed. */
import fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseManifests } from '@cardinal/manifests'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkAddress } from '../../packages/tools/src/address.ts'
import {
  applyNetwork,
  applyPrograms,
  applyZone,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'

interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

describe('http.fetch', () => {
  let t: TestKernel
  let server: http.Server
  let port: number
  const seen: Seen[] = []

  beforeAll(async () => {
    server = http.createServer((request, response) => {
      let body = ''
      request.on('data', (chunk) => {
        body += String(chunk)
      })
      request.on('end', () => {
        seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, body })
        const [, status, to] = /^\/redirect\/(\d+)\?to=(.*)$/.exec(request.url ?? '') ?? []
        if (status && to) {
          response.writeHead(Number(status), { location: decodeURIComponent(to) })
          return response.end()
        }
        if (request.url === '/break') return request.socket.destroy()
        if (request.url === '/zeros') return response.end(Buffer.alloc(3 << 20))
        response.end(JSON.stringify({ ok: true }))
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    port = (server.address() as AddressInfo).port
    t = await openTestKernel([])
    const at = `tool: http.fetch, scheme: [http], port: [${port}]`
    await applyPrograms(t.kernel, [
      {
        name: 'worker',
        file: programFile('worker.ts'),
        now: [
          `{ ${at}, host: 127.0.0.1, path: /ok }`,
          `{ ${at}, host: 127.0.0.1, path: "/redirect/*", args: { query.to: "*" } }`,
          `{ ${at}, host: 127.0.0.1, method: [POST], path: /orders, args: { body: { len: 10 } } }`,
          `{ ${at}, host: 127.0.0.1, method: [POST], path: /break, args: { body: { len: 10 } } }`,
          `{ ${at}, host: 127.0.0.1, path: /zeros }`,
          `{ ${at}, host: 127.0.0.2, path: /ok }`,
          `{ ${at}, host: localhost, path: /ok }`,
          `{ ${at}, host: 169.254.169.254, path: /ok }`,
        ],
      },
    ])
    await applyZone(
      t.kernel,
      '127.0.0.1, localhost, 169.254.169.254',
      '127.0.0.1/32, "::1/128", 169.254.0.0/16',
    )
  })
  afterAll(async () => {
    await t.close()
    server.close()
  })

  const get = async (url: string, options: { method?: string; body?: string } = {}) => {
    const reply = await t.call('worker/w', 'get', { url, ...options })
    if (!reply.ok) throw new Error(reply.error.message)
    return reply.value as { status?: number; name?: string; code?: string; by?: string; message?: string }
  }
  const base = () => `http://127.0.0.1:${port}`

  it('sends what a grant names', async () => {
    expect(await get(`${base()}/ok`)).toMatchObject({ status: 200 })
    expect(await get(`${base()}/orders`, { method: 'POST', body: '0123456789' })).toMatchObject({
      status: 200,
    })
    expect(seen.at(-1)).toMatchObject({ method: 'POST', body: '0123456789' })
  })

  const refused: [string, (b: string) => string, { method?: string; body?: string }, string][] = [
    ['a path that no grant names', (b) => `${b}/other`, {}, 'NoGrant'],
    ['a query where none is granted', (b) => `${b}/ok?x=1`, {}, 'NoGrant'],
    ['a method', (b) => `${b}/ok`, { method: 'DELETE' }, 'NoGrant'],
    [
      'a body that is one character too long',
      (b) => `${b}/orders`,
      { method: 'POST', body: '01234567890' },
      'NoGrant',
    ],
    ['a path that climbs', (b) => `${b}/redirect/../other`, {}, 'NoGrant'],
    ['a path that climbs in disguise', (b) => `${b}/redirect/%2e%2e/other`, {}, 'NoGrant'],
    ['a trailing slash', (b) => `${b}/ok/`, {}, 'NoGrant'],
    ['another spelling of the case', (b) => `${b}/OK`, {}, 'NoGrant'],
    ['another host', () => 'http://example.com/ok', {}, 'NoGrant'],
  ]
  for (const [name, url, options, code] of refused) {
    it(`refuses ${name}, and nothing arrives`, async () => {
      const before = seen.length
      expect(await get(url(base()), options)).toMatchObject({ name: 'Refused', code, by: 'card' })
      expect(seen.length).toBe(before)
    })
  }

  /** Each differs from a request that is allowed in one fact. */
  const malformed: [
    string,
    (b: string) => string,
    (b: string) => string,
    { code: string; message: RegExp },
  ][] = [
    [
      'an encoded slash',
      (b) => `${b}/redirect%2F302?to=/ok`,
      (b) => `${b}/redirect/302?to=/ok`,
      { code: 'BadArguments', message: /path could be read in two ways/ },
    ],
    [
      'a double slash',
      (b) => `${b}//ok`,
      (b) => `${b}/ok`,
      { code: 'BadArguments', message: /path could be read in two ways/ },
    ],
    [
      'user information',
      (b) => `${b.replace('http://', 'http://user:pw@')}/ok`,
      (b) => `${b}/ok`,
      { code: 'BadArguments', message: /user information/ },
    ],
    [
      'a host that ends in a dot',
      (b) => `${b.replace('127.0.0.1', '127.0.0.1..')}/ok`,
      (b) => `${b}/ok`,
      { code: 'BadArguments', message: /host ends in a dot/ },
    ],
    [
      'another scheme',
      (b) => `${b.replace('http:', 'ftp:')}/ok`,
      (b) => `${b}/ok`,
      { code: 'BadArguments', message: /scheme `ftp`/ },
    ],
    [
      'a backslash in the host',
      (b) => `${b.replace('127', 'example.com\\@127')}/ok`,
      (b) => `${b}/ok`,
      { code: 'NoGrant', message: /falls short in host, path, port/ },
    ],
    [
      'an encoded NUL',
      (b) => `${b}/ok%00`,
      (b) => `${b}/ok`,
      { code: 'BadArguments', message: /path could be read in two ways/ },
    ],
  ]
  for (const [name, url, twin, expected] of malformed) {
    it(`takes ${name} for no request at all, and sends the same without it`, async () => {
      const before = seen.length
      const result = await get(url(base()))
      expect(result).toMatchObject({ code: expected.code, message: expect.stringMatching(expected.message) })
      expect(seen.length).toBe(before)
      expect(await get(twin(base()))).toMatchObject({ status: 200 })
      expect(seen.length).toBeGreaterThan(before)
    })
  }

  it('outlives an answer that is nothing but control characters', async () => {
    // Answered with so much escaped text, a turn says too much; that is the guest's failure and not the node's.
    expect(await t.call('worker/z', 'get', { url: `${base()}/zeros` })).toMatchObject({
      ok: false,
      error: { code: 'OutputTooLarge' },
    })
    expect(await get(`${base()}/ok`)).toMatchObject({ status: 200 })
  })

  it('reads every spelling of an address as the same address', async () => {
    for (const host of ['127.0.0.1', '2130706433', '0x7f000001', '0177.0.0.1', '127.1']) {
      expect(await get(`http://${host}:${port}/ok`), host).toMatchObject({ status: 200 })
    }
  })

  it('refuses a private address that no zone names, although a grant does', async () => {
    expect(await get(`http://127.0.0.2:${port}/ok`)).toMatchObject({ name: 'Refused', code: 'EgressDenied' })
  })

  it('refuses a metadata address, although grant and zone name it', async () => {
    expect(await get(`http://169.254.169.254:${port}/ok`)).toMatchObject({
      name: 'Refused',
      code: 'EgressDenied',
    })
  })

  for (const [denied, spelled] of [
    ['a name', '127.0.0.1'],
    ['a range', '127.0.0.0/8'],
    ['an address as a range', '127.0.0.1/32'],
    ['all names', '"*"'],
  ] as const)
    it(`refuses ${denied} that the operator denies to all, over a connection that is open; and no longer when it is allowed again`, async () => {
      expect(await get(`${base()}/ok`)).toMatchObject({ status: 200 })
      const before = seen.length
      await applyNetwork(t.kernel, spelled)
      expect(await get(`${base()}/ok`)).toMatchObject({
        name: 'Refused',
        code: 'EgressDenied',
        by: 'middleware',
      })
      expect(seen.length).toBe(before)
      t = await t.reopen()
      expect(await get(`${base()}/ok`)).toMatchObject({ code: 'EgressDenied' })
      await applyNetwork(t.kernel, '"*.example", 10.0.0.0/8, example.com, 127.0.0.2')
      expect(await get(`${base()}/ok`)).toMatchObject({ status: 200 })
    })

  it('denies an address to a name that a connection is open to', async () => {
    const named = `http://localhost:${port}/ok`
    expect(await get(named)).toMatchObject({ status: 200 })
    await applyNetwork(t.kernel, '127.0.0.0/8, "::1"')
    const before = seen.length
    expect(await get(named)).toMatchObject({ code: 'EgressDenied' })
    expect(seen.length).toBe(before)
    await applyNetwork(t.kernel, '')
    expect(await get(named)).toMatchObject({ status: 200 })
  })

  it('denies an address under every name and spelling of it', async () => {
    await applyNetwork(t.kernel, '127.0.0.1')
    for (const host of ['127.0.0.1', '2130706433', '0x7f000001', '127.1'])
      expect(await get(`http://${host}:${port}/ok`), host).toMatchObject({ code: 'EgressDenied' })
    const policy = {
      zones: () => [{ name: 'z', hosts: ['localhost', '[::ffff:7f00:1]'], ranges: ['127.0.0.0/8'] }],
      version: () => 0,
      ownPorts: () => new Set<number>(),
    }
    const check = (host: string, address: string, deny: readonly string[]) => () =>
      checkAddress(host, address, 80, { ...policy, networks: () => [{ name: 'n', deny }] })
    for (const [host, address] of [
      ['localhost', '127.0.0.1'],
      ['[::ffff:7f00:1]', '::ffff:7f00:1'],
    ] as const) {
      expect(check(host, address, ['127.0.0.1'])).toThrow(/denies to all/)
      expect(check(host, address, ['127.0.0.2'])).not.toThrow()
    }
    expect(check('a.example.', '8.8.8.8', ['*.example'])).toThrow(/denied to all/)
    await applyNetwork(t.kernel, '')
    expect(await get(`${base()}/ok`)).toMatchObject({ status: 200 })
  })

  it('refuses this node’s own port', async () => {
    t.kernel.ownPort(port)
    const other = await openTestKernel([])
    try {
      expect(await get(`${base()}/ok`)).toMatchObject({ name: 'Refused', code: 'EgressDenied' })
    } finally {
      await other.close()
    }
  })
})

describe('a redirect', () => {
  it('is decided again at every hop', async () => {
    const hops: string[] = []
    const server = http.createServer((request, response) => {
      hops.push(request.url ?? '')
      if (request.url === '/go') response.writeHead(302, { location: '/there' })
      else if (request.url === '/out') response.writeHead(302, { location: '/secret' })
      response.end('{}')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const t = await openTestKernel([])
    try {
      const at = `tool: http.fetch, scheme: [http], port: [${port}], host: 127.0.0.1`
      await applyPrograms(t.kernel, [
        {
          name: 'worker',
          file: programFile('worker.ts'),
          now: [`{ ${at}, path: /go }`, `{ ${at}, path: /out }`, `{ ${at}, path: /there }`],
        },
      ])
      await applyZone(t.kernel, '127.0.0.1', '127.0.0.1/32')
      const get = async (path: string) =>
        (await t.call('worker/w', 'get', { url: `http://127.0.0.1:${port}${path}` })) as { value: object }
      expect((await get('/go')).value).toMatchObject({ status: 200 })
      expect((await get('/out')).value).toMatchObject({ name: 'Refused', by: 'card' })
      expect(hops).toEqual(['/go', '/there', '/out'])
      hops.length = 0
      // Middleware saw one request, and not those that it leads to: whoever asked makes them, if at all.
      const spec = '{ tools: [http.fetch], audit: {} }'
      const text = `apiVersion: cardinal/v1\nkind: Middleware\nmetadata: { tenant: acme, name: watch }\nspec: ${spec}\n`
      const manifests = parseManifests(text, 'm.yaml', { isRange, defaultsOf: t.kernel.defaultsOf })
      await t.kernel.apply(manifests, new Map())
      expect((await get('/go')).value).toMatchObject({ status: 302 })
      expect(hops).toEqual(['/go'])
    } finally {
      await t.close()
      server.close()
      fs.rmSync(t.data, { recursive: true, force: true })
    }
  })
})
