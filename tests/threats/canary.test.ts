/**
 * Threat 45: one secret, used by a thousand agents over every kind of tool, with services that write it back in
 * every way and that fail; then it is looked for wherever anything of it could have got to.
 */
import fs from 'node:fs'
import path from 'node:path'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { localKey, maskerOf, newVaultKey } from '@cardinal/secrets'
import { isRange, ownFunction } from '@cardinal/tools'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { applyZone, openTestKernel, programFile, type TestKernel, tempFolder } from '../support/kernel.ts'
import { type ModelStub, startModelStub } from '../support/model-stub.ts'
import { type Reflecting, startReflecting } from '../support/reflecting.ts'

const CANARY = 'canary-Xq7Vb2Lm9Rt4Zk8Wp3'
const AGENTS = 1000
const finds = maskerOf(Buffer.from(CANARY), 'canary')
const said: string[] = []
/** A function of the operator's that tells its secret in its answer, or in what it throws. */
const echo = ownFunction(`module.exports = ({ how }, { secret }) => {
  const told = [secret, Buffer.from(secret).toString('base64'), [...secret].join('')]
  if (how === 'throw') throw Object.assign(new Error(told.join()), { notDone: true })
  return told
}`)
let t: TestKernel
let service: Reflecting
let models: ModelStub
let packages: string

const ways = [
  'plain',
  'base64',
  'hex',
  'percent',
  'json',
  'error',
  'header',
  'split',
  'gzip',
  'location',
  'broken',
]
const manifests = () => `apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: echo.http }
spec:
  effect: read
  in: { type: object, properties: {} }
  http: { method: GET, url: "http://127.0.0.1:${service.port}/plain", secret: { ref: canary, slot: header.authorization, as: basic } }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: echo.cli }
spec:
  effect: read
  in: { type: object, properties: { name: { type: string } } }
  cli: { program: printenv, args: [--, { positional: name }], secret: { ref: canary, env: TOKEN } }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: echo.host }
spec:
  effect: read
  in: { type: object, properties: { how: { type: string } } }
  host: { function: echo, secret: { ref: canary } }
---
apiVersion: cardinal/v1
kind: Model
metadata: { tenant: acme, name: writer }
spec: { provider: openai, model: m, url: "http://127.0.0.1:${models.port}/v1", secret: { ref: canary } }
---
apiVersion: cardinal/v1
kind: McpServer
metadata: { tenant: acme, name: hostile }
spec: { stdio: { package: hostile, command: [node, index.mjs], secret: { ref: canary, env: HOSTILE_TOKEN } }, effects: { echo: read } }
---
apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: acme, name: messenger }
spec:
  program: x
  secrets: { it: { ref: canary, tool: http.fetch, host: 127.0.0.1, slot: header.authorization, as: bearer } }
  card:
    now:
      - { tool: http.fetch, scheme: [http], host: 127.0.0.1, port: "*", path: "*", method: "*", args: "*", secret: it }
      - { tool: echo.*, args: "*", secret: canary, ask: [] }
      - { tool: hostile.*, args: "*", secret: canary, ask: [] }
      - { tool: llm.chat, resource: writer, secret: canary }
`

beforeAll(async () => {
  service = await startReflecting()
  models = await startModelStub()
  models.text = `the key is ${CANARY}, ${Buffer.from(CANARY).toString('hex')}`
  packages = tempFolder()
  fs.mkdirSync(path.join(packages, 'hostile'))
  fs.copyFileSync(programFile('hostile-mcp.mjs'), path.join(packages, 'hostile', 'index.mjs'))
  t = await openTestKernel([], {
    packages,
    vaultKey: localKey(newVaultKey()),
    functions: new Map([['echo', echo]]),
    onTurn: (event) => said.push(JSON.stringify(event)),
    onProgress: (_effect, text) => said.push(text),
    onAudit: (line) => said.push(JSON.stringify(line)),
  })
  await t.kernel.secrets.set('acme', 'canary', Buffer.from(CANARY), 'it')
  await applyZone(t.kernel, '127.0.0.1', '127.0.0.0/8')
  const parse = (text: string) => parseManifests(text, 'c.yaml', { isRange, defaultsOf: t.kernel.defaultsOf })
  const all = parse(manifests())
  const server = all.find((m) => m.kind === 'McpServer')
  if (server?.kind !== 'McpServer') throw new Error('a server')
  const { integrity, tools } = await t.kernel.mcp.look(server, 'it')
  const pinned = stringify(
    {
      apiVersion: 'cardinal/v1',
      kind: 'McpTools',
      metadata: { tenant: 'acme', name: 'hostile' },
      spec: { integrity, tools },
    },
    { aliasDuplicateObjects: false },
  )
  const bundle = await bundleProgram(programFile('messenger.ts'))
  await t.kernel.apply(parse(`${manifests()}---\n${pinned}`), new Map([['acme/messenger', bundle]]))
}, 60_000)
afterAll(async () => {
  await service.close()
  await models.close()
  fs.rmSync(packages, { recursive: true, force: true })
})

const call = (agent: number, method: string, args: unknown) =>
  t.call(`acme/messenger/a${agent}`, method, args)

describe('one secret, a thousand agents, every kind of tool', () => {
  it('is found nowhere afterwards', { timeout: 300_000 }, async () => {
    let used = 0
    const clean = (what: string, text: string | Buffer) => {
      const found =
        typeof text === 'string' ? finds.maskText(text) : text.includes(CANARY) ? 'found' : undefined
      expect(found === undefined, `in ${what}`).toBe(true)
    }
    // The search itself finds what is there.
    expect(() => clean('a canary', `x ${Buffer.from(CANARY).toString('base64')} y`)).toThrow('in a canary')
    expect(() => clean('a canary', Buffer.from(`x ${CANARY} y`))).toThrow('in a canary')
    const agents = Array.from({ length: AGENTS }, (_, i) => i)
    const lanes = Array.from({ length: 20 }, async (_, lane) => {
      for (const i of agents.filter((n) => n % 20 === lane)) {
        const url = `http://127.0.0.1:${service.port}/${ways[i % ways.length]}`
        const method = i % 3 === 0 ? 'POST' : 'GET'
        const sent = await call(i, 'send', {
          url,
          method,
          ...(method === 'POST' && { text: 'x' }),
          headerSecrets: { authorization: 'it' },
        })
        const kind = i % 10
        const other =
          kind < 4
            ? await call(i, 'use', { name: 'echo.http', args: {} })
            : kind < 6
              ? await call(i, 'use', {
                  name: 'llm.chat',
                  args: { model: 'writer', messages: [{ role: 'user', content: 'x' }] },
                })
              : kind < 8
                ? await call(i, 'use', { name: 'hostile.echo', args: { text: 'x' } })
                : kind < 9
                  ? await call(i, 'use', {
                      name: 'echo.host',
                      args: { how: i % 20 < 10 ? 'answer' : 'throw' },
                    })
                  : await call(i, 'use', { name: 'echo.cli', args: { name: 'TOKEN' } })
        for (const reply of [sent, other]) clean(`an answer to agent ${i}`, JSON.stringify(reply))
        if (JSON.stringify(other).includes('[secret canary]')) used++
      }
    })
    await Promise.all(lanes)
    // Each kind did have it, and was masked, until so many answers had held it that it was not sent any more.
    expect(service.seen.some(({ headers }) => headers.authorization === `Bearer ${CANARY}`)).toBe(true)
    expect(models.asked.some(({ headers }) => headers.authorization === `Bearer ${CANARY}`)).toBe(true)
    expect(used).toBeGreaterThan(200)
    for (let i = 0; i < AGENTS; i += 7)
      clean(`the memory of agent ${i}`, JSON.stringify(await call(i, 'dump', null)))
    clean('what was said to who watches', said.join('\n'))
    const rows = t.kernel.view.agents({ limit: 5 } as never) as { address: string }[]
    for (const { address } of rows) {
      clean('a history', JSON.stringify(await t.kernel.view.history(address)))
      clean('a log', JSON.stringify(await t.kernel.view.logs(address)))
      clean('a replay', JSON.stringify(await t.kernel.replay(address)))
    }
    await t.kernel.close()
    for (const folder of [t.data, packages])
      for (const file of fs.readdirSync(folder, { recursive: true, withFileTypes: true }))
        if (file.isFile()) clean(file.name, fs.readFileSync(path.join(file.parentPath, file.name)))
    fs.rmSync(t.data, { recursive: true, force: true })
  })
})
