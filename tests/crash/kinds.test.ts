/**
 * Kill −9 at each step of an effect, for every effect class and kind of tool: nothing is lost, what must happen
 * once is not done again, and what nobody knows of is listed. Each node goes on where the one before it died.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import net, { type AddressInfo } from 'node:net'
import path from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { componentOf } from '../support/component.ts'
import { programFile, tempFolder } from '../support/kernel.ts'
import { type NodeProcess, startNode } from './processes.ts'

type Class = 'read' | 'idempotent' | 'once'

const require = createRequire(import.meta.url)
const hasSandbox = fs.existsSync('/usr/bin/bwrap')
const everythingScript = require.resolve('@modelcontextprotocol/server-everything/dist/index.js')

const KINDS: [kind: string, cls: Class, tool: string, args: object][] = [
  ['a declared endpoint', 'read', 'shop.look', {}],
  ['a declared endpoint', 'idempotent', 'shop.order', { n: 1 }],
  ['a declared endpoint', 'once', 'shop.pay', { n: 1 }],
  ['an MCP server over HTTP', 'read', 'far.echo', { message: 'hi' }],
  ['an MCP server over HTTP', 'once', 'far.get_sum', { a: 1, b: 2 }],
  ...(hasSandbox
    ? ([
        ['an MCP server on standard input', 'once', 'near.get_sum', { a: 1, b: 2 }],
        ['a program', 'read', 'prog.look', { n: 0 }],
        ['a program', 'once', 'prog.pay', { n: 0 }],
      ] as [string, Class, string, object][])
    : []),
  ['a function of the operator', 'read', 'own.look', { n: 1 }],
  ['a function of the operator', 'idempotent', 'own.order', { n: 2 }],
  ['a function of the operator', 'once', 'own.pay', { n: 1 }],
  ['a component', 'read', 'part.look', { n: 1 }],
  ['a component', 'once', 'part.pay', { n: 1 }],
  ['a model', 'read', 'llm.chat', { model: 'script', messages: [{ role: 'user', content: 'hi' }] }],
]
const POINTS = ['turn.appended', 'effect.before', 'effect.started', 'effect.performed', 'receipt.appended']
const CASES = KINDS.flatMap(([kind, cls, tool, args]) =>
  // Only what must happen once says that it begins.
  POINTS.filter((point) => cls === 'once' || point !== 'effect.started').map(
    (point) => [kind, cls, point, tool, args] as const,
  ),
)

let node: NodeProcess
let folder: string
let everything: ChildProcess
let service: http.Server
/** What came to the service, by the key that makes it repeatable. */
const arrived: (string | undefined)[] = []
let count = 0

const url = () => `http://127.0.0.1:${(service.address() as AddressInfo).port}/x`

/** The node again, on the same folder. */
async function start(): Promise<void> {
  const config = {
    data: path.join(folder, 'data'),
    anchor: path.join(folder, 'anchor'),
    packages: path.join(folder, 'packages'),
  }
  node = startNode(config, { SERVICE_OF_THE_TEST: url() }, 'kinds-node.ts')
  if (!(await node.ready)) throw new Error(`the node did not start: ${node.fatal()}`)
}

async function ask(request: Record<string, unknown>): Promise<Record<string, unknown>> {
  const answer = await node.ask(request)
  if (answer.error) throw new Error(`${request.op}: ${answer.error.message}`)
  return answer
}

const declared = () => {
  const tool = (name: string, spec: string) =>
    `apiVersion: cardinal/v1\nkind: Tool\nmetadata: { tenant: acme, name: ${name} }\nspec:\n${spec}\n---\n`
  const n = '  in: { type: object, properties: { n: { type: integer } } }\n'
  const at = (method: string) =>
    `http: { method: ${method}, url: "${url()}"${method === 'POST' ? ', body: json' : ''}`
  return [
    tool('shop.look', `  effect: read\n  in: { type: object, properties: {} }\n  ${at('GET')} }`),
    tool('shop.order', `  effect: idempotent\n${n}  ${at('POST')}, idempotencyHeader: idempotency-key }`),
    tool('shop.pay', `  effect: once\n${n}  ${at('POST')} }`),
    tool('prog.look', `  effect: read\n${n}  cli: { program: sleep, args: [--, { positional: n }] }`),
    tool('prog.pay', `  effect: once\n${n}  cli: { program: sleep, args: [--, { positional: n }] }`),
    ...['look read', 'pay once'].map((text) => {
      const [name, effect] = text.split(' ')
      return tool(`part.${name}`, `  effect: ${effect}\n${n}  wasm: { component: x.wasm }`)
    }),
    ...(['look read', 'order idempotent', 'pay once'] as const).map((text) => {
      const [name, effect] = text.split(' ')
      return tool(`own.${name}`, `  effect: ${effect}\n${n}  host: { function: own }`)
    }),
    'apiVersion: cardinal/v1\nkind: Model\nmetadata: { tenant: acme, name: script }\nspec: { provider: scripted, model: echo }\n',
  ].join('')
}

async function freePort(): Promise<number> {
  const probe = net.createServer()
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve))
  const { port } = probe.address() as AddressInfo
  await new Promise((resolve) => probe.close(resolve))
  return port
}

beforeAll(async () => {
  folder = tempFolder()
  const packages = path.join(folder, 'packages')
  fs.mkdirSync(path.join(packages, 'everything'), { recursive: true })
  await build({
    entryPoints: [everythingScript],
    outfile: path.join(packages, 'everything', 'index.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'silent',
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
  })
  const port = await freePort()
  everything = spawn(process.execPath, [everythingScript, 'streamableHttp'], {
    env: { ...process.env, PORT: String(port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((resolve) =>
    everything.stderr?.on('data', (said) => /listening/i.test(String(said)) && resolve()),
  )
  service = http.createServer((request, response) => {
    arrived.push(request.headers['idempotency-key'] as string | undefined)
    response.setHeader('content-type', 'application/json')
    response.end('{"done":true}')
  })
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve))
  const component = path.join(folder, 'part.wasm')
  fs.writeFileSync(component, await componentOf('export function run() { return "{}" }'))
  await start()
  const grants = ['shop.*', 'prog.*', 'own.*', 'part.*', 'far.*', 'near.*'].map(
    (name) => `{ tool: ${name}, args: "*", ask: [] }`,
  )
  const now = [...grants, '{ tool: llm.chat, resource: "*" }'].map((g) => `      - ${g}\n`).join('')
  const agent = `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: teller }\nspec:\n  program: x\n  card:\n    limits: { tokens: 100000 }\n    now:\n${now}`
  const zone =
    'apiVersion: cardinal/v1\nkind: Zone\nmetadata: { name: test }\nspec: { hosts: [127.0.0.1], ranges: [127.0.0.0/8] }\n---\n'
  await ask({
    op: 'apply',
    text: `${zone}${declared()}---\n${agent}`,
    component,
    program: programFile('teller.ts'),
  })
  const far = `{ http: { url: "http://127.0.0.1:${port}/mcp" }, effects: { echo: read } }`
  await ask({ op: 'accept', name: 'far', spec: far })
  if (hasSandbox)
    await ask({
      op: 'accept',
      name: 'near',
      spec: '{ stdio: { package: everything, command: [node, index.mjs] } }',
    })
}, 60_000)
afterAll(async () => {
  await node.stop()
  everything.kill()
  service.close()
  fs.rmSync(folder, { recursive: true, force: true })
})

describe('kill −9', () => {
  it.each(CASES)('of an effect of %s that is %s, at %s', async (_kind, cls, point, name, args) => {
    const address = `acme/teller/c${++count}`
    const look = { op: 'use', address, key: 'first', args: { name: 'shop.look', args: {} } }
    await ask({ op: 'wait', id: (await ask(look)).acked })
    arrived.length = 0
    await ask({ op: 'arm', point })
    const use = { op: 'use', address, key: 'second', args: { name, args } }
    // Acknowledged before the kill, or not.
    const before = await node.ask(use).catch(() => undefined)
    await node.exited
    expect(node.fatal()).toBeUndefined()
    await start()
    const { acked } = await ask(use)
    if (before) expect(acked).toBe(before.acked)
    const found = (await ask({ op: 'wait', id: acked })) as {
      reply: { value: { ok: boolean; code?: string } }
      performed: number
    }
    const begun = ['effect.started', 'effect.performed', 'receipt.appended'].includes(point)
    const { doubts: all } = (await ask({ op: 'doubts' })) as { doubts: { effect: string }[] }
    const doubts = all.filter(({ effect }) => effect.startsWith(`${address}@`))
    if (cls === 'once' && begun && !(point === 'receipt.appended' && doubts.length === 0)) {
      expect(found.reply.value).toMatchObject({ ok: false, code: 'Indeterminate' })
      expect([found.performed, doubts.length]).toEqual([0, 1])
      await ask({ op: 'resolve', effect: doubts[0]?.effect })
      const after = (await ask({ op: 'doubts' })) as { doubts: { effect: string }[] }
      expect(after.doubts.find(({ effect }) => effect === doubts[0]?.effect)).toMatchObject({
        resolved: 'done',
      })
    } else {
      expect(found.reply.value).toMatchObject({ ok: true })
      expect(doubts).toEqual([])
      // Its receipt may have been on disk already.
      expect(found.performed).toBe(point === 'receipt.appended' && found.performed === 0 ? 0 : 1)
    }
    // Whoever repeats says so by the same key; what must happen once arrives once.
    if (cls === 'idempotent') expect(new Set(arrived).size).toBe(1)
    if (cls === 'once') expect(arrived.length).toBeLessThanOrEqual(1)
    expect((await ask({ op: 'audit', address })).mismatches).toEqual([])
  })
})
