/** Answers that are nested without end, by every kind of tool: an error of that effect, and of nothing else. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { nameOfComponent, parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { isRange, ownFunction } from '@cardinal/tools'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { componentDigest } from '../../packages/kernel/src/components.ts'
import { componentOf } from '../support/component.ts'
import { applyZone, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

let depth = 0
const nested = () => `${'['.repeat(depth)}${']'.repeat(depth)}`
const service = http.createServer((_request, response) => response.end(nested()))
const own = ownFunction(
  `module.exports = ({ n }) => { let all = []; for (let i = 1; i < n; i++) all = [all]; return all }`,
)
const head = (kind: string, name: string) =>
  `apiVersion: cardinal/v1\nkind: ${kind}\nmetadata: { tenant: acme, name: ${name} }\n`
const tool = (name: string, rest: string) =>
  `${head('Tool', name)}spec: { effect: read, in: { type: object, properties: { n: { type: integer } } }, ${rest} }\n---\n`
let t: TestKernel

beforeAll(async () => {
  service.listen(0, '127.0.0.1')
  await once(service, 'listening')
  const url = `http://127.0.0.1:${(service.address() as AddressInfo).port}/x`
  const part = await componentOf(
    "export function run(args) { const { n } = JSON.parse(args); return '['.repeat(n) + ']'.repeat(n) }",
  )
  const components = new Map([[nameOfComponent('Tool', 'acme', 'deep.part'), componentDigest(part)]])
  t = await openTestKernel([], { functions: new Map([['own', own]]) })
  await applyZone(t.kernel, '127.0.0.1', '127.0.0.0/8')
  const text = [
    tool('deep.web', `http: { method: GET, url: "${url}", query: { n: "{n}" } }`),
    tool('deep.own', 'host: { function: own }'),
    tool('deep.part', 'wasm: { component: part.wasm }'),
    `${head('Agent', 'teller')}spec: { program: x, card: { now: [{ tool: deep.*, args: "*" }] } }\n`,
  ].join('')
  await t.kernel.apply(
    parseManifests(text, 'deep.yaml', { isRange, defaultsOf: t.kernel.defaultsOf, components }),
    new Map([['acme/teller', await bundleProgram(programFile('teller.ts'))]]),
    [part],
  )
})
afterAll(async () => {
  await t.close()
  await own.close()
  service.close()
})

it.each(['deep.web', 'deep.own', 'deep.part'])('of %s', async (name) => {
  const use = async (n: number) => {
    depth = n
    const reply = await t.call('acme/teller/a', 'use', { name, args: { n } })
    return reply.ok ? reply.value : reply.error
  }
  expect(await use(100)).toMatchObject({ ok: true })
  for (const n of [1000, 20_000])
    expect(await use(n), String(n)).toMatchObject({ ok: false, name: 'Unavailable' })
  expect(await use(3)).toMatchObject({ ok: true, value: [[[]]] })
})
