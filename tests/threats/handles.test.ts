/** Threats 14, 17, 18, 26, 29, 64: cards that are named without being held, and arguments that would choose one. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cardOfHandle } from '../../packages/kernel/src/asking.ts'
import { emptyState } from '../../packages/kernel/src/state.ts'
import {
  applyPrograms,
  crashCopy,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'

let t: TestKernel
let done: unknown[] = []
const tools = [
  functionTool('calc.one', 'read', () => 1),
  functionTool('file.get', 'read', (args) => done.push(args)),
  functionTool('bank.pay', 'once', (args) => done.push(args)),
]
const forger = {
  name: 'forger',
  file: programFile('forger.ts'),
  now: ['{ tool: calc.one }'],
  limits: '{ depth: 2 }',
}
const boss = (now: readonly string[]) => ({
  name: 'boss',
  file: programFile('boss.ts'),
  now,
  limits: '{ depth: 2 }',
})
const FILES = '{ tool: file.get, args: { path: { path: /public/* } } }'
const SECRET = '{ tool: file.get, args: { path: { path: /secret/* } } }'
const PAY = '{ tool: bank.pay, args: { amount: { decimal: 2, min: "0.01", max: "500.00" } }, ask: [] }'

beforeAll(async () => {
  t = await openTestKernel([forger, boss([FILES, PAY, '{ tool: agent.*, resource: "*", method: "*" }'])], {
    tools,
  })
})
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

async function call(agent: string, method: string, args: unknown = {}): Promise<unknown> {
  done = []
  const reply = await t.call(agent, method, args)
  return reply.ok ? reply.value : reply.error
}

describe('a card that is named without being held', () => {
  it('17, 18: is none, be it an object with its id, a proxy, or one that was dropped; the held one is', async () => {
    const id = await call('forger/a', 'id')
    expect(await call('forger/a', 'held')).toEqual({ ok: 1 })
    for (const made of [id, await call('forger/b', 'id')])
      expect(await call('forger/a', 'made', { id: made })).toMatchObject({ error: 'TypeError' })
    expect(await call('forger/a', 'proxy')).toMatchObject({ error: 'TypeError' })
    expect(await call('forger/a', 'dead')).toMatchObject({
      gone: 1,
      used: { error: 'Refused', code: 'NoSuchCard' },
    })
  })

  it('18: is none to the kernel, whatever number or text stands for it', () => {
    const state = emptyState(Buffer.alloc(16, 1))
    state.holding.handles = ['card_a', 'card_b']
    const who = { state, name: 'acme/forger/a' }
    expect(cardOfHandle(who, 0)).toBe('card_a')
    expect(cardOfHandle(who, 1)).toBe('card_b')
    for (const forged of [2, -1, 0.5, Number.NaN, '0', 'card_a', 'acme/forger/b', null, {}, [0], 2 ** 53])
      expect(cardOfHandle(who, forged), String(forged)).toBeNull()
  })
})

describe('two cards that are split by path', () => {
  it('26, 64: are not chosen between by the argument: the one that is meant is the birth card', async () => {
    await applyPrograms(t.kernel, [
      boss([FILES, SECRET, PAY, '{ tool: agent.*, resource: "*", method: "*" }']),
    ])
    await call('boss/shop', 'derive', {
      narrow: { only: [{ tool: 'file.get', args: { path: { path: '/secret/*' } } }] },
    })
    await applyPrograms(t.kernel, [boss([FILES, PAY, '{ tool: agent.*, resource: "*", method: "*" }'])])
    const get = async (path: string, via?: number) => {
      done = []
      const got = await call('boss/shop', 'tool', {
        name: 'file.get',
        args: { path },
        ...(via !== undefined && { via }),
      })
      // What is refused is not done.
      expect(done).toHaveLength((got as { ok?: number }).ok === undefined ? 0 : 1)
      return got
    }
    expect(await get('/public/a')).toEqual({ ok: 1 })
    expect(await get('/secret/a')).toMatchObject({ error: 'Refused', by: 'card' })
    // A card that was derived does not come back to life in a root that narrowed.
    expect(await get('/secret/a', 1)).toMatchObject({ error: 'Refused', by: 'card' })
    expect(await get('/public/../secret/a')).toMatchObject({ error: 'Refused', by: 'card' })
  })

  it('64: of several birth cards that name a tool, none is meant without `via`', async () => {
    await applyPrograms(t.kernel, [
      boss([FILES, SECRET, PAY, '{ tool: agent.*, resource: "*", method: "*" }']),
    ])
    const split = (path: string) => ({ only: [{ tool: 'file.get', args: { path: { path } } }] })
    await call('boss/par', 'spawn', { keep: true, card: [split('/public/*'), split('/secret/*')] })
    const get = (path: string, via?: number) =>
      call('boss/par.1', 'tool', { name: 'file.get', args: { path }, ...(via !== undefined && { via }) })
    expect(await get('/secret/a')).toMatchObject({ error: 'Refused', code: 'AmbiguousCard' })
    expect(await get('/secret/a', 0)).toMatchObject({ error: 'Refused', by: 'card' })
    expect(await get('/secret/a', 1)).toEqual({ ok: 1 })
  })
})

describe('numbers', () => {
  for (const amount of [
    '500.01',
    '1e3',
    '-0',
    '9007199254740993',
    '0.001',
    Number.MAX_SAFE_INTEGER,
    -1,
    null,
  ])
    it(`14: ${JSON.stringify(amount)} is no amount that the grant allows; 12.50 is`, async () => {
      expect(await call('boss/pay', 'tool', { name: 'bank.pay', args: { amount } })).toMatchObject({
        error: 'Refused',
      })
      expect(done).toEqual([])
      expect(await call('boss/pay', 'tool', { name: 'bank.pay', args: { amount: '12.50' } })).toEqual({
        ok: 1,
      })
    })
})

describe('a replay', () => {
  it('29: gives recorded verdicts under cards that changed since, and performs nothing', async () => {
    expect(await call('boss/old', 'tool', { name: 'bank.pay', args: { amount: '1.00' } })).toEqual({ ok: 1 })
    await applyPrograms(t.kernel, [boss([FILES])])
    expect(await call('boss/old', 'tool', { name: 'bank.pay', args: { amount: '1.00' } })).toMatchObject({
      error: 'Refused',
    })
    const other = await crashCopy(t, { tools })
    const before = done.length
    expect((await other.kernel.replay('acme/boss/old')).turns).toBeGreaterThan(3)
    expect(done.length).toBe(before)
    const lines = await other.kernel.view.history('acme/boss/old', { limit: 1000 })
    const verdicts = lines.flatMap(({ effects = [] }) => effects.map(({ verdict }) => verdict))
    expect(verdicts).toEqual(['allow', 'refused by card (NoGrant)'])
    await other.close()
  })
})
