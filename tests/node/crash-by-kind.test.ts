/**
 * A crash at each step of an effect, for every effect class and kind of tool: nothing is lost, what must happen
 * once is not done again, and what nobody knows of is listed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import net, { type AddressInfo } from 'node:net'
import path from 'node:path'
import { type McpServerManifest, nameOfComponent, parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { isRange, ownFunction } from '@cardinal/tools'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { componentDigest } from '../../packages/kernel/src/components.ts'
import { componentOf } from '../support/component.ts'
import {
  applyZone,
  crashCopy,
  openTestKernel,
  programFile,
  type TestKernel,
  tempFolder,
} from '../support/kernel.ts'

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

/** Tells the service of what must arrive with one key. */
const OWN = ownFunction(`module.exports = async ({ n }, { key }) => {
  if (n === 2) await fetch(process.env.SERVICE_OF_THE_TEST, { headers: { 'idempotency-key': key } })
  return { done: true }
}`)

let t: TestKernel
let packages: string
let everything: ChildProcess
let service: http.Server
/** What came to the service, by the key that makes it repeatable. */
const arrived: (string | undefined)[] = []
let atPoint: (name: string) => void = () => {}
let count = 0

const options = () => ({
  packages,
  models: new Map([['echo', () => ({ text: 'said' })]]),
  functions: new Map([['own', OWN]]),
})

const declared = (port: number) => {
  const tool = (name: string, spec: string) =>
    `apiVersion: cardinal/v1\nkind: Tool\nmetadata: { tenant: acme, name: ${name} }\nspec:\n${spec}\n---\n`
  const n = '  in: { type: object, properties: { n: { type: integer } } }\n'
  const at = (method: string) =>
    `http: { method: ${method}, url: "http://127.0.0.1:${port}/x"${method === 'POST' ? ', body: json' : ''}`
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

async function accept(name: string, spec: string): Promise<void> {
  const parse = (text: string) =>
    parseManifests(text, 'mcp.yaml', { isRange, defaultsOf: t.kernel.defaultsOf })
  const text = `apiVersion: cardinal/v1\nkind: McpServer\nmetadata: { tenant: acme, name: ${name} }\nspec: ${spec}\n`
  const [server] = parse(text) as McpServerManifest[]
  const { integrity, tools } = await t.kernel.mcp.look(server as McpServerManifest, 'it')
  const metadata = { tenant: 'acme', name }
  const pinned = { apiVersion: 'cardinal/v1', kind: 'McpTools', metadata, spec: { integrity, tools } }
  await t.kernel.apply(parse(`${text}---\n${stringify(pinned, { aliasDuplicateObjects: false })}`), new Map())
}

beforeAll(async () => {
  packages = tempFolder()
  fs.mkdirSync(path.join(packages, 'everything'))
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
  process.env.SERVICE_OF_THE_TEST = `http://127.0.0.1:${(service.address() as AddressInfo).port}/`
  t = await openTestKernel([], { ...options(), crashPoint: (name) => atPoint(name) })
  await applyZone(t.kernel, '127.0.0.1', '127.0.0.0/8')
  const part = await componentOf('export function run() { return "{}" }')
  const components = new Map(
    ['part.look', 'part.pay'].map((name) => [nameOfComponent('Tool', 'acme', name), componentDigest(part)]),
  )
  const parsing = { isRange, defaultsOf: t.kernel.defaultsOf, components }
  await t.kernel.apply(
    parseManifests(declared((service.address() as AddressInfo).port), 'tools.yaml', parsing),
    new Map(),
    [part],
  )
  await accept('far', `{ http: { url: "http://127.0.0.1:${port}/mcp" }, effects: { echo: read } }`)
  if (hasSandbox) await accept('near', '{ stdio: { package: everything, command: [node, index.mjs] } }')
  const grants = ['shop.*', 'prog.*', 'own.*', 'part.*', 'far.*', 'near.*'].map(
    (name) => `{ tool: ${name}, args: "*", ask: [] }`,
  )
  const now = [...grants, '{ tool: llm.chat, resource: "*" }'].map((g) => `      - ${g}\n`).join('')
  const agent = `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: teller }\nspec:\n  program: x\n  card:\n    limits: { tokens: 100000 }\n    now:\n${now}`
  const bundle = await bundleProgram(programFile('teller.ts'))
  await t.kernel.apply(parseManifests(agent, 'agent.yaml', parsing), new Map([['acme/teller', bundle]]))
}, 60_000)
afterAll(async () => {
  await t.close()
  everything.kill()
  service.close()
  fs.rmSync(packages, { recursive: true, force: true })
})

describe('a crash', () => {
  it.each(CASES)('of an effect of %s that is %s, at %s', async (_kind, cls, point, name, args) => {
    const address = `acme/teller/c${++count}`
    expect(await t.call(address, 'use', { name: 'shop.look', args: {} })).toMatchObject({
      value: { ok: true },
    })
    let performed = 0
    let copied: Promise<TestKernel> | undefined
    const crashPoint = (at: string) => {
      if (at === 'effect.performed') performed++
    }
    arrived.length = 0
    atPoint = (at) => {
      // What is on disk at this moment, as after a kill.
      if (at === point && !copied) copied = crashCopy(t, { ...options(), crashPoint })
    }
    const { id, reply } = await t.kernel.invoke({ address, method: 'use', args: { name, args } })
    expect(await reply).toMatchObject({ ok: true, value: { ok: true } })
    atPoint = () => {}
    const again = await (copied as unknown as Promise<TestKernel>)
    // What was not acknowledged yet may not be there, and then nothing of it was done either.
    const unborn = { value: { ok: false, code: 'NotTakenIn' } }
    let found: { value?: { ok?: boolean; code?: string } } | undefined
    await expect
      .poll(
        async () => {
          found = (await again.kernel.result(id).catch(() => ({ reply: unborn }))).reply as typeof found
          return found
        },
        { timeout: 20_000 },
      )
      .toBeDefined()
    const begun = ['effect.started', 'effect.performed', 'receipt.appended'].includes(point)
    const doubts = again.kernel.view.effectsInDoubt()
    if (found?.value?.code === 'NotTakenIn') {
      expect(begun).toBe(false)
      expect([performed, doubts.length]).toEqual([0, 0])
    } else if (cls === 'once' && begun && !(point === 'receipt.appended' && doubts.length === 0)) {
      expect(found?.value).toMatchObject({ ok: false, code: 'Indeterminate' })
      expect([performed, doubts.length]).toEqual([0, 1])
      const [{ effect } = { effect: '' }] = doubts as { effect: string }[]
      await again.kernel.resolveEffect(effect, 'done', 'it')
      expect(JSON.stringify(again.kernel.view.effectsInDoubt())).toContain('"done"')
    } else {
      expect(found?.value).toMatchObject({ ok: true })
      expect(doubts).toEqual([])
      // Its receipt may have been on disk already.
      expect(performed).toBe(point === 'receipt.appended' && performed === 0 ? 0 : 1)
    }
    // Whoever repeats says so by the same key.
    if (cls === 'idempotent') expect(new Set(arrived).size).toBe(1)
    if (name === 'shop.pay') expect(arrived.length).toBeLessThanOrEqual(begun ? 1 : 2)
    expect((await again.kernel.audit()).mismatches).toEqual([])
    await again.kernel.replay(address)
    await again.close()
  })
})
