/**
 * A guest that knows the kernel's source tries to reach a tool without the middleware that stands before it.
 * Whatever is performed went through it, as it went out; everything else is refused, and on record.
 */
import { type Api, serveApi } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import type { OwnModule } from '@cardinal/middleware'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  applyPrograms,
  applyZone,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'

const performed: { to: string; seal?: number }[] = []
/** What the middleware let through: a payment without its seal did not pass by it. */
const sealed = new Map<number, unknown>()
const guard: OwnModule = {
  digest: 'v1',
  make: () => ({
    request: (call) => {
      const args = call.args as { to?: string }
      if (args.to !== 'ann') return { do: 'refuse', code: 'NotAnn', message: 'only to ann' }
      const seal = sealed.size + 1
      sealed.set(seal, args)
      return { do: 'rewrite', args: { ...args, seal } }
    },
  }),
}
const tools = [
  functionTool('bank.pay', 'once', (args) => {
    performed.push(args as never)
    return 'paid'
  }),
]
const ANN = { to: 'ann' }
const BOB = { to: 'bob' }
const PAY = '{ tool: bank.*, args: { to: "*", seal: { min: 1, max: 1000000, optional: true } }, ask: [] }'
const TALK = '{ tool: agent.*, resource: "*", method: "*" }'
let t: TestKernel
let api: Api

async function ask(method: string, args: unknown, who = 'prober/ann'): Promise<unknown> {
  const reply = await t.call(`acme/${who}`, method, args)
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value
}

beforeAll(async () => {
  t = await openTestKernel([], { tools, modules: new Map([['guard', guard]]) })
  api = await serveApi({ kernel: t.kernel, port: 0 })
  const text =
    'apiVersion: cardinal/v1\nkind: Middleware\nmetadata: { tenant: acme, name: guard }\nspec: { tools: [bank.pay], module: { name: guard } }\n'
  await t.kernel.apply(
    parseManifests(text, 'm.yaml', { isRange, defaultsOf: t.kernel.defaultsOf }),
    new Map(),
  )
  const port = new URL(api.url).port
  const NET = `{ tool: http.fetch, scheme: [http], host: "*", port: [${port}], path: "*", method: [GET, POST], args: "*" }`
  const limits = '{ depth: 3, fanout: 10 }'
  const file = programFile('prober.ts')
  await applyPrograms(t.kernel, [
    { name: 'prober', file, now: [PAY, TALK, NET], limits },
    { name: 'other', file, now: [PAY, TALK, NET], limits },
  ])
  await applyZone(t.kernel, '127.0.0.1, localhost', '127.0.0.0/8, "::1/128"')
})
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await api.close()
  await t.close()
})
beforeEach(() => {
  performed.length = 0
})

/** Whatever was done was let through by the middleware, as it was done. */
function expectSealed(count: number): void {
  expect(performed).toHaveLength(count)
  for (const { seal, ...args } of performed) expect(sealed.get(seal as number)).toEqual(args)
}

describe('a guest that knows the kernel', () => {
  it('pays whom the middleware lets it pay, and nobody else', async () => {
    expect(await ask('pay', ANN)).toEqual({ done: 'paid' })
    expect(await ask('pay', BOB)).toMatchObject({ refused: 'Refused', code: 'NotAnn', by: 'middleware' })
    expectSealed(1)
  })

  it('finds no other name of the tool', async () => {
    const names = [
      ...[
        'Bank.pay',
        'BANK.PAY',
        'bank.pay ',
        ' bank.pay',
        'bank.pay\0',
        'bank..pay',
        'bank.pay.',
        '.bank.pay',
        'bank/pay',
      ],
      ...[
        'bank.p\u0430y',
        'bank.pay\u200b',
        'bank',
        'bank.*',
        '*',
        '',
        '__proto__',
        'constructor',
        'bank.constructor',
      ],
      ...[
        'cardinal.perform',
        'kernel.perform',
        'http.perform',
        'tool',
        'cards.perform',
        'agent.perform',
        'llm.chat',
        'secret.reveal',
      ],
    ]
    const found = (await ask('names', { names, args: BOB })) as { refused?: string }[]
    expect(found.map(({ refused }, i) => [names[i], refused])).toEqual(
      names.map((name) => [name, expect.any(String)]),
    )
    expectSealed(0)
  })

  it('shows it one thing and sends another: what was looked at is what goes out', async () => {
    for (const outcome of (await ask('shapes', { args: ANN })) as object[])
      expect(outcome).toEqual(expect.objectContaining({ done: 'paid' }))
    expectSealed(3)
    expect(performed.map(({ to }) => to)).toEqual(['ann', 'ann', 'ann'])
    expect(await ask('shapes', { args: BOB })).toEqual(
      Array(3).fill(expect.objectContaining({ refused: 'Refused' })),
    )
    expectSealed(3)
  })

  it('says of itself that it was mediated, decided or approved: nobody asks it', async () => {
    for (const outcome of (await ask('fields', { args: BOB })) as object[])
      expect(outcome).toEqual(expect.objectContaining({ refused: expect.any(String) }))
    expect(await ask('polluted', { args: BOB })).toMatchObject({ refused: expect.any(String) })
    expectSealed(0)
    // Of another's payment the same fields change nothing.
    expect(await ask('polluted', { args: ANN })).toEqual({ done: 'paid' })
    expectSealed(1)
  })

  it('makes cards of its own, and children, and asks others: it stands before all of them', async () => {
    expect(await ask('cards', { args: BOB })).toMatchObject([{ by: 'middleware' }, { by: 'middleware' }, 3])
    expect(await ask('cards', { args: ANN }, 'prober/twin')).toMatchObject([
      { done: 'paid' },
      { done: 'paid' },
      3,
    ])
    for (const type of ['prober', 'other']) {
      expect(await ask('child', { type, args: BOB })).toMatchObject({
        done: { refused: 'Refused', by: 'middleware' },
      })
      expect(await ask('child', { type, args: ANN })).toEqual({ done: { done: 'paid' } })
    }
    expect(await ask('itself', { to: 'other/bob', args: BOB })).toMatchObject({ done: { by: 'middleware' } })
    expect(await ask('itself', { to: 'other/bob', args: ANN })).toEqual({ done: { done: 'paid' } })
    expectSealed(5)
  })

  it('finds no way back into the node over loopback, with a card for every host, whatever it says there', async () => {
    const { port } = new URL(api.url)
    const headers = { authorization: `Bearer ${api.token}`, 'content-type': 'application/json' }
    const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'pay', arguments: BOB } }
    const at = (host: string) => [
      {
        url: `http://${host}:${port}/v1/agents/acme/other/bob/invoke/pay`,
        method: 'POST',
        headers,
        body: JSON.stringify(BOB),
      },
      { url: `http://${host}:${port}/v1/agents`, headers },
      { url: `http://${host}:${port}/mcp`, method: 'POST', headers, body: JSON.stringify(call) },
    ]
    const asked = ['127.0.0.1', 'localhost', '2130706433', '127.1', '[::1]', '[::ffff:127.0.0.1]'].flatMap(at)
    for (const outcome of (await ask('fetches', { asked })) as object[])
      expect(outcome).toEqual({ refused: 'Refused', code: 'EgressDenied', by: 'middleware' })
    expect((await fetch(`${api.url}/v1/agents`, { headers })).status).toBe(200)
    expectSealed(0)
  })

  it('leaves a record of everything that it tried', async () => {
    const history = JSON.stringify(await t.kernel.view.history('acme/prober/ann', { limit: 1000 }))
    for (const trace of ['NotAnn', 'EgressDenied', 'bank.constructor', 'cardinal.perform', 'NoSuchTool'])
      expect(history).toContain(trace)
  })
})
