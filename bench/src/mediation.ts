/** Rows 20: what middleware costs an effect, and what each kind of tool costs beside the bare call. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import net from 'node:net'
import path from 'node:path'
import { type Kernel, openKernel, serveApi } from '@cardinal/kernel'
import { type Manifest, nameOfComponent, parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { isRange, ownFunction, type Tool } from '@cardinal/tools'
import { componentize } from 'componentize-qjs'
import { stringify } from 'yaml'
import { each, type Figures, type Row } from './measure.ts'

const require = createRequire(import.meta.url)
const program = path.join(import.meta.dirname, '..', 'programs', 'user.ts')
const CALLS = 1000
const WARM_UP = 100
const CONCURRENT = 1000

/** A tool that does nothing. */
const NOTHING: Tool = {
  name: 'no.op',
  about: 'nothing',
  defaults: {},
  sinks: [],
  yields: [],
  translate: (args) => ({
    request: { tool: ['no', 'op'], args: new Map(Object.entries(args as object)) },
    cost: { calls: 1, bytesOut: 0 },
    effectClass: 'read',
    plan: null,
  }),
  perform: async (_plan, attempt) => {
    await attempt.started()
    return { ok: true, value: { id: 1, by: 'somebody' } }
  },
}

/** One of each kind that decides at once, in turn. */
const MEMBERS = [
  'redact: { args: [{ known: email }], answer: [{ known: iban }] }',
  'schema: { args: { type: object }, answer: { type: object } }',
  'rateLimit: { calls: 1000000, per: second }',
  'audit: {}',
  'approval: { roles: [boss], when: { arg: amount, atLeast: "1000" } }',
]

function manifestsOf(tenant: string, members: number, port: number, mcp: number): string {
  const middleware = Array.from(
    { length: members },
    (_, i) => `apiVersion: cardinal/v1
kind: Middleware
metadata: { tenant: ${tenant}, name: m${i} }
spec: { tools: ["*"], ${MEMBERS[i % MEMBERS.length]} }
---
`,
  )
  return `${middleware.join('')}apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: ${tenant}, name: echo.http }
spec: { effect: read, in: { type: object, properties: {} }, http: { method: GET, url: "http://127.0.0.1:${port}/x" } }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: ${tenant}, name: echo.cli }
spec: { effect: read, in: { type: object, properties: {} }, cli: { program: "true", args: [] } }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: ${tenant}, name: echo.way }
spec: { effect: read, in: { type: object, properties: {} }, cli: { program: "true", args: [], egress: [{ host: 127.0.0.1, scheme: [http], port: [${port}] }] } }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: ${tenant}, name: echo.own }
spec: { effect: read, in: { type: object, properties: {} }, host: { function: own } }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: ${tenant}, name: echo.part }
spec: { effect: read, in: { type: object, properties: {} }, wasm: { component: part.wasm } }
---
apiVersion: cardinal/v1
kind: Model
metadata: { tenant: ${tenant}, name: writer }
spec: { provider: scripted, model: echo }
---
apiVersion: cardinal/v1
kind: McpServer
metadata: { tenant: ${tenant}, name: everything }
spec: { http: { url: "http://127.0.0.1:${mcp}/mcp" }, effects: { echo: read }, sinks: [] }
---
apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: ${tenant}, name: user }
spec:
  program: x
  card:
    now:
      - { tool: no.op, args: "*" }
      - { tool: http.fetch, scheme: [http], host: 127.0.0.1, port: "*", path: "*" }
      - { tool: echo.*, args: "*", ask: [] }
      - { tool: everything.*, args: "*", ask: [] }
      - { tool: llm.chat, resource: writer }
`
}

async function apply(kernel: Kernel, text: string, tenant: string, part: Buffer): Promise<void> {
  const digest = createHash('sha256').update(part).digest('hex')
  const components = new Map([[nameOfComponent('Tool', tenant, 'echo.part'), digest]])
  const parse = (given: string): Manifest[] =>
    parseManifests(given, 'bench.yaml', { isRange, defaultsOf: kernel.defaultsOf, components })
  const documents = parse(text)
  const server = documents.find((one) => one.kind === 'McpServer')
  if (server?.kind !== 'McpServer') throw new Error('a server')
  const { tools } = await kernel.mcp.look(server, 'bench')
  const pinned = {
    apiVersion: 'cardinal/v1',
    kind: 'McpTools',
    metadata: { tenant: server.tenant, name: 'everything' },
    spec: { tools },
  }
  const bundle = await bundleProgram(program)
  const all = parse(`${text}---\n${stringify(pinned, { aliasDuplicateObjects: false })}`)
  await kernel.apply(all, new Map([[`${server.tenant}/user`, bundle]]), [part])
}

async function use(kernel: Kernel, tenant: string, key: string, name: string, args: unknown): Promise<void> {
  const { reply } = await kernel.invoke({
    address: `${tenant}/user/${key}`,
    method: 'use',
    args: { name, args },
    tenant,
  })
  const answer = await reply
  if (!answer.ok) throw new Error(answer.error.message)
}

async function startEverything(): Promise<{ port: number; child: ChildProcess }> {
  const port = await new Promise<number>((resolve) => {
    const probe = net.createServer().listen(0, '127.0.0.1', () => {
      const { port: free } = probe.address() as net.AddressInfo
      probe.close(() => resolve(free))
    })
  })
  const script = require.resolve('@modelcontextprotocol/server-everything/dist/index.js')
  const child = spawn(process.execPath, [script, 'streamableHttp'], {
    env: { ...process.env, PORT: String(port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((resolve) =>
    child.stderr?.on('data', (said) => /listening/i.test(String(said)) && resolve()),
  )
  return { port, child }
}

/** Calls of an agent by a client of the Model Context Protocol, each a request of its own. */
async function overMcp(kernel: Kernel): Promise<Figures> {
  const api = await serveApi({ kernel, port: 0 })
  const [card] = kernel.cards.list({ agent: 'm0/user/a' }) as { id: string }[]
  const tools = [{ name: 'use', agent: 'user/a', method: 'use' }]
  const client = { tenant: 'm0', name: 'bench', card: card?.id as string, tools }
  const { token } = await kernel.mcpClients.add(client, 'bench')
  const params = { name: 'use', arguments: { name: 'no.op', args: { amount: 5 } } }
  const asked = {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }),
  }
  try {
    return await each(CALLS, WARM_UP, async () => {
      const text = await (await fetch(`${api.url}/mcp`, asked)).text()
      if (!text.includes('somebody')) throw new Error(text)
    })
  } finally {
    await api.close()
  }
}

const row = (name: string, unit: string, figures: Figures, note: string): Row => ({
  row: 20,
  name,
  unit,
  ...figures,
  goal: 'none',
  met: true,
  note,
})

export async function mediation(folder: string): Promise<Row[]> {
  const server = http.createServer((_request, response) => response.end('{}'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  const everything = await startEverything()
  const { component: part } = await componentize({
    witPath: path.join(import.meta.dirname, '..', '..', 'tests', 'components', 'tool.wit'),
    jsSource: 'export function run() { return \'{"id":1}\' }',
    world: 'tool',
    stubWasi: true,
    sync: true,
  })
  const kernel = await openKernel({
    data: path.join(folder, 'data'),
    anchors: [path.join(folder, 'anchor')],
    tools: [NOTHING],
    models: new Map([['echo', () => ({ text: 'x' })]]),
    functions: new Map([['own', ownFunction('module.exports = () => ({ id: 1 })')]]),
  })
  try {
    const zone = `apiVersion: cardinal/v1\nkind: Zone\nmetadata: { name: here }\nspec: { hosts: [127.0.0.1], ranges: [127.0.0.0/8] }\n`
    await kernel.apply(
      parseManifests(zone, 'zone.yaml', { isRange, defaultsOf: kernel.defaultsOf }),
      new Map(),
    )
    const rows: Row[] = []
    for (const members of [0, 5, 20]) {
      const tenant = `m${members}`
      await apply(kernel, manifestsOf(tenant, members, port, everything.port), tenant, part)
      const figures = await each(CALLS, WARM_UP, () =>
        use(kernel, `m${members}`, 'a', 'no.op', { amount: 5 }),
      )
      rows.push(
        row(
          `a durable call with one effect, ${members} middlewares`,
          'ms',
          figures,
          'in process; the tool does nothing',
        ),
      )
    }
    const url = `http://127.0.0.1:${port}/x`
    const kinds: [name: string, tool: string, args: unknown, calls: number][] = [
      ['http.fetch', 'http.fetch', { method: 'GET', url, headers: [] }, CALLS],
      ['a declared HTTP tool', 'echo.http', {}, CALLS],
      [
        'a scripted model',
        'llm.chat',
        { model: 'writer', messages: [{ role: 'user', content: 'x' }] },
        CALLS,
      ],
      ['a function of the operator', 'echo.own', {}, CALLS],
      ['a component', 'echo.part', {}, CALLS],
      ['an MCP tool over HTTP', 'everything.echo', { message: 'x' }, CALLS],
      ['a program in the sandbox', 'echo.cli', {}, 200],
      ['a program that has a way out', 'echo.way', {}, 200],
    ]
    for (const [name, tool, args, calls] of kinds)
      rows.push(
        row(
          `a durable call with one effect: ${name}`,
          'ms',
          await each(calls, 20, () => use(kernel, 'm0', 'a', tool, args)),
          'in process',
        ),
      )
    const bare = await each(CALLS, WARM_UP, async () => void (await (await fetch(url)).text()))
    rows.push(row('the bare HTTP request', 'ms', bare, 'fetch of Node, kept alive'))
    const sandboxed = await each(
      100,
      5,
      async () => void spawnSync('bwrap', ['--unshare-all', '--ro-bind', '/', '/', 'true']),
    )
    rows.push(row('the bare program in a sandbox', 'ms', sandboxed, 'bwrap true'))
    rows.push(
      row(
        'the same as a tool of an MCP client',
        'ms',
        await overMcp(kernel),
        'a tool that does nothing, over HTTP',
      ),
    )
    const began = performance.now()
    await Promise.all(
      Array.from({ length: CONCURRENT }, (_, i) =>
        use(kernel, 'm0', `k${i}`, 'everything.echo', { message: `m${i}` }),
      ),
    )
    const took = performance.now() - began
    const rate = {
      n: CONCURRENT,
      p50: took,
      p95: took,
      p99: took,
      value: Math.round((CONCURRENT / took) * 1000),
    }
    rows.push(
      row(
        `${CONCURRENT} MCP calls of as many new agents at a time`,
        '/s',
        rate as Figures,
        'the percentiles are of the whole, in ms',
      ),
    )
    return rows
  } finally {
    await kernel.close()
    everything.child.kill()
    server.close()
    server.closeAllConnections()
    fs.rmSync(path.join(folder, 'data'), { recursive: true, force: true })
  }
}
