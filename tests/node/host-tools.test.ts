/** Functions of the operator's own as tools: behind a schema and a grant, in threads of their own. */
import type { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { localKey, newVaultKey } from '@cardinal/secrets'
import { isRange, type OwnFunction, ownFunction } from '@cardinal/tools'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { openTestKernel, programFile, type TestKernel, tempFolder } from '../support/kernel.ts'

const KEY = 'canary-4Vn6-key-of-a-function'
const folder = tempFolder()
const booked = path.join(folder, 'booked')
const CODE = `
const fs = require('node:fs')
module.exports = async ({ id, how, tags }, { key, secret, signal }) => {
  if (how === 'throw') throw new Error('the words of the operator')
  if (how === 'refuse') throw Object.assign(new Error('no such customer, by ' + secret), { notDone: true })
  if (how === 'spin') for (;;);
  if (how === 'wait') await new Promise((resolve, reject) => signal.addEventListener('abort', () => reject(new Error('gave up'))))
  if (how === 'large') return 'x'.repeat(3 << 20)
  if (how === 'odd') return { id: 3 }
  if (how === 'die') process.exit(1)
  fs.appendFileSync(${JSON.stringify(booked)}, id + ' ' + key + '\\n')
  return { id, said: 'with ' + secret, tags: tags ?? null }
}
`
const own = ownFunction(CODE)
const functions: ReadonlyMap<string, OwnFunction> = new Map([['crm', own]])
const head = (kind: string, name: string) =>
  `apiVersion: cardinal/v1\nkind: ${kind}\nmetadata: { tenant: acme, name: ${name} }\n`
const IN =
  'in: { type: object, properties: { id: { type: string, maxLength: 8 }, how: { type: string, default: null }, tags: { type: array, items: { type: string } } }, required: [id] }'
const tool = (name: string, effect: string, more = '') =>
  `${head('Tool', name)}spec:\n  effect: ${effect}\n  ${IN}\n  out: { type: object, properties: { id: { type: string } } }\n${more}  host: { function: crm, timeout: 500ms, secret: { ref: crm-key } }\n`
const GRANTS = ['find', 'book', 'none']
  .map(
    (name) =>
      `      - { tool: crm.${name}, args: { id: [c1, c2], how: { optional: true }, tags: { optional: true } }, secret: crm-key, ask: [] }\n`,
  )
  .join('')
const MANIFEST = [
  tool('crm.find', 'read'),
  tool('crm.book', 'once', '  sinks: []\n  yields: [crm]\n'),
  tool('crm.none', 'read').replace('function: crm', 'function: none'),
  `${head('Agent', 'teller')}spec:\n  program: x\n  card:\n    now:\n${GRANTS}`,
].join('---\n')

let t: TestKernel
const lines = () => (fs.existsSync(booked) ? fs.readFileSync(booked, 'utf8').trim().split('\n') : [])

async function use(name: string, args: unknown): Promise<Record<string, unknown>> {
  const reply = await t.call('acme/teller/a', 'use', { name: `crm.${name}`, args })
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value as Record<string, unknown>
}
const vaultKey = localKey(newVaultKey())

beforeAll(async () => {
  t = await openTestKernel([], { functions, vaultKey })
  await t.kernel.secrets.set('acme', 'crm-key', Buffer.from(KEY), 'it')
  await t.kernel.apply(
    parseManifests(MANIFEST, 'crm.yaml', { isRange, defaultsOf: t.kernel.defaultsOf }),
    new Map([['acme/teller', await bundleProgram(programFile('teller.ts'))]]),
  )
})
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
  await own.close()
  fs.rmSync(folder, { recursive: true })
})
beforeEach(() => fs.rmSync(booked, { force: true }))

describe('a function of the operator', () => {
  it('is called with arguments that were checked and granted, its secret, and a key of the effect', async () => {
    expect(await use('book', { id: 'c1', tags: ['a'] })).toMatchObject({
      ok: true,
      value: { id: 'c1', said: 'with [secret crm-key]', tags: ['a'] },
    })
    expect(lines()).toEqual([expect.stringMatching(/^c1 \w+/)])
    expect(await use('book', { id: 'c3' })).toMatchObject({ ok: false, by: 'card' })
    expect(await use('book', { id: 3 })).toMatchObject({ ok: false, code: 'BadArguments' })
    expect(await use('book', { id: 'c1', tags: [1] })).toMatchObject({ ok: false, code: 'BadArguments' })
    expect(lines()).toHaveLength(1)
  })

  it('goes where nobody sees, unless it says so: what was read decides whether it may be told', () => {
    const sinks = (name: string) => t.kernel.tools('acme').find((one) => one.name === `crm.${name}`)
    expect(sinks('find')).toMatchObject({ sinks: ['*'], yields: [] })
    expect(sinks('book')).toMatchObject({ sinks: [], yields: ['crm'] })
  })

  it('that throws fails its effect, without its words; by its word that nothing was done, with them', async () => {
    const read = await use('find', { id: 'c1', how: 'throw' })
    expect(read).toMatchObject({ ok: false, name: 'Unavailable', code: 'ToolFailed' })
    expect(JSON.stringify(read)).not.toContain('words of the operator')
    expect(await use('book', { id: 'c1', how: 'throw' })).toMatchObject({ name: 'Indeterminate' })
    expect(await use('book', { id: 'c1', how: 'refuse' })).toMatchObject({
      name: 'Unavailable',
      code: 'ToolRefused',
      message: 'no such customer, by [secret crm-key]',
    })
  })

  it.each(['spin', 'wait', 'die'])(
    'that does not answer (%s) is given up in its time, and others are answered',
    async (how) => {
      expect(await use('find', { id: 'c1', how })).toMatchObject({ name: 'Unavailable', code: 'ToolFailed' })
      expect(await use('book', { id: 'c1', how })).toMatchObject({ name: 'Indeterminate' })
      await expect.poll(async () => use('find', { id: 'c1' }), { timeout: 5000 }).toMatchObject({ ok: true })
    },
  )

  it('that only waits ends nothing else that it is asked', async () => {
    const late = use('find', { id: 'c1', how: 'wait' })
    const other = t.call('acme/teller/b', 'use', { name: 'crm.book', args: { id: 'c2' } })
    expect(await other).toMatchObject({ ok: true, value: { ok: true } })
    expect(await late).toMatchObject({ ok: false })
  })

  it('is held to what it says that it answers, and to 2 MiB', async () => {
    expect(await use('find', { id: 'c1', how: 'odd' })).toMatchObject({
      code: 'ToolAnswer',
      name: 'Unavailable',
    })
    expect(await use('book', { id: 'c1', how: 'odd' })).toMatchObject({
      code: 'ToolAnswer',
      name: 'Withheld',
    })
    expect(await use('find', { id: 'c1', how: 'large' })).toMatchObject({ code: 'AnswerTooLarge' })
  })

  it('is refused where the node was not started with it', async () => {
    expect(await use('none', { id: 'c1' })).toMatchObject({ name: 'Refused', code: 'NoSuchFunction' })
  })
})

describe('a node that is started with functions', () => {
  const { folder: here, run, runBeside, begin, end, remove } = commandLine()
  let node: ChildProcess
  afterAll(async () => {
    await end(node)
    remove()
  })

  it('has them in TypeScript, with what they import, as they were when it started', async () => {
    fs.copyFileSync(programFile('teller.ts'), path.join(here, 'teller.ts'))
    fs.writeFileSync(path.join(here, 'rate.ts'), 'export const rate: number = 2\n')
    const code = (answer: string) =>
      `import { rate } from './rate.ts'\nexport default ({ n }: { n: number }): number => ${answer}\n`
    fs.writeFileSync(path.join(here, 'double.ts'), code('n * rate'))
    fs.writeFileSync(
      path.join(here, 'cardinal.yaml'),
      `apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: default, name: calc.double }
spec: { effect: read, in: { type: object, properties: { n: { type: number } }, required: [n] }, host: { function: double } }
---
apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: teller }
spec: { program: ./teller.ts, card: { now: [{ tool: calc.double, args: "*" }] } }
`,
    )
    node = (await begin(['dev', '--port', '0', '--tool', 'double=double.ts'], /applied default\/teller/))
      .child
    const asked = ['invoke', 'teller/a', 'use', '{"name":"calc.double","args":{"n":21}}']
    expect(JSON.parse((await runBeside(asked)).out)).toMatchObject({ ok: true, value: 42 })
    fs.writeFileSync(path.join(here, 'double.ts'), code('n * 100'))
    expect(JSON.parse((await runBeside(asked)).out)).toMatchObject({ ok: true, value: 42 })
    expect(run(['tools', 'show', 'calc.double']).out).toContain('--n NUMBER')
  }, 60_000)

  it('is not started with one that does not build, or without a name', async () => {
    fs.writeFileSync(path.join(here, 'broken.ts'), 'export default (\n')
    expect(run(['serve', '--port', '0', '--tool', 'broken=broken.ts'])).toMatchObject({
      status: 2,
      err: expect.stringMatching(/broken\.ts:\d.*\[BadOwnCode\]/s),
    })
    expect(run(['serve', '--tool', 'broken.ts'])).toMatchObject({
      status: 2,
      err: expect.stringContaining('NAME=FILE'),
    })
  })
})
