/** When agents and cards end: by the clock, with what made them, by the host; and what that gives back. */
import { VirtualClock } from '@cardinal/kernel'
import { afterEach, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const START = Date.parse('2027-01-01T00:00:00Z')
const HOUR = 3_600_000
let t: TestKernel
let clock: VirtualClock
let paid = 0
const tools = [
  functionTool('calc.add', 'read', ({ a, b }) => (a as number) + (b as number)),
  functionTool('bank.pay', 'once', () => ({ id: ++paid })),
]
const TALK = '{ tool: agent.*, resource: "*", method: "*" }'
const CALC = '{ tool: calc.add, args: "*" }'
const PAY = '{ tool: bank.pay, args: "*", ask: [] }'
const ADD = { name: 'calc.add', args: { a: 1, b: 2 } }

async function open(now: readonly string[], limits: string): Promise<void> {
  paid = 0
  clock = new VirtualClock(START)
  t = await openTestKernel([{ name: 'boss', file: programFile('boss.ts'), now, limits }], { tools, clock })
}

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}

function call(who: string, to: string, method: string, args: unknown = {}): Promise<unknown> {
  return ask(who, 'call', { to: `boss/${to}`, method, args })
}

afterEach(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

/** A child that is kept, and lives by a card with these limits. */
function spawn(who: string, limits: object = {}): Promise<unknown> {
  return ask(who, 'spawn', { keep: true, card: { limits } })
}

const FULL = { error: 'Refused', code: 'BudgetSpent' }

describe('agents alive below a card', () => {
  it('are counted, and given back with the invocation that made them, with whatever those made', async () => {
    await open([TALK, CALC], '{ depth: 3, fanout: 4 }')
    // A child and its own child a time: without what the cascade gives back, the third time is refused.
    for (let i = 0; i < 5; i++)
      expect(
        await ask('ann', 'gather', {
          tasks: [{ limits: { depth: 2 } }],
          method: 'spawn',
          args: [{ card: {}, keep: true }],
        }),
      ).toEqual([{ ok: expect.stringMatching(/^acme\/boss\/ann\.\d+\.1$/) }])
    for (let i = 0; i < 4; i++) expect(await spawn('ann')).toMatch(/^acme/)
    expect(await spawn('ann')).toMatchObject(FULL)
    // Another instance has a card of its own.
    expect(await spawn('bob')).toMatch(/^acme/)
  })

  it('come back when the host revokes the card of one, with all below, once', async () => {
    await open([TALK, CALC], '{ depth: 4, fanout: 3 }')
    expect(await spawn('ann', { depth: 3 })).toBe('acme/boss/ann.1')
    expect(await call('ann', 'ann.1', 'spawn', { card: { limits: { depth: 2 } }, keep: true })).toEqual({
      ok: 'acme/boss/ann.1.1',
    })
    expect(await call('ann', 'ann.1', 'spawn', { card: {}, keep: true })).toEqual({ ok: 'acme/boss/ann.1.2' })
    expect(await spawn('ann')).toMatchObject(FULL)
    const [born] = (await t.kernel.cards.list({ agent: 'acme/boss/ann.1' })) as { id: string }[]
    const id = (born as { id: string }).id
    await t.kernel.cards.revoke(id, 'test')
    await t.kernel.cards.revoke(id, 'test')
    for (let i = 0; i < 3; i++) expect(await spawn('ann')).toMatch(/^acme/)
    expect(await spawn('ann')).toMatchObject(FULL)
    t = await t.reopen()
    expect(await spawn('ann')).toMatchObject(FULL)
  })

  it('come back when the clock ends them, asleep or not; before that they do not', async () => {
    await open([TALK, CALC], '{ depth: 2, fanout: 2 }')
    expect(await spawn('ann', { expires: START + HOUR })).toMatch(/^acme/)
    expect(await spawn('ann', { expires: START + HOUR })).toMatch(/^acme/)
    expect(await spawn('ann')).toMatchObject(FULL)
    await t.kernel.suspend('acme/boss/ann.1')
    clock.moveTo(START + HOUR - 1)
    await t.kernel.poll()
    expect(await spawn('ann')).toMatchObject(FULL)
    clock.moveTo(START + HOUR)
    await t.kernel.poll()
    expect(await call('ann', 'ann.1', 'tool', ADD)).toMatchObject({ error: 'Stopped' })
    expect(await spawn('ann')).toMatch(/^acme/)
    expect(await spawn('ann')).toMatch(/^acme/)
    expect(await spawn('ann')).toMatchObject(FULL)
  })
})

describe('whoever waits for an agent that the clock ends', () => {
  it('is told so, though that one sleeps', async () => {
    await open([TALK, CALC], '{ depth: 2 }')
    expect(await spawn('ann', { expires: START + HOUR / 2 })).toBe('acme/boss/ann.1')
    const waiting = call('ann', 'ann.1', 'nap', { duration: '3h' })
    await expect.poll(() => t.kernel.busy()).toBe(false)
    await t.kernel.suspend('acme/boss/ann.1')
    clock.moveTo(START + HOUR / 2)
    await t.kernel.poll()
    expect(await waiting).toMatchObject({ error: 'Stopped' })
  })
})

describe('15: a clock', () => {
  it('that stands at the moment of an expiry, or is set back over a restart, revives no card and no budget', async () => {
    await open([TALK, CALC, PAY], '{ depth: 2, calls: 100, spend: {} }')
    const narrow = { limits: { expires: START + HOUR, calls: { max: 1, per: 'day' } } }
    expect(await ask('ann', 'derive', { narrow })).toMatchObject({ ok: expect.any(String) })
    clock.moveTo(START + HOUR - 1)
    expect(await ask('ann', 'tool', { ...ADD, via: 1 })).toEqual({ ok: 3 })
    expect(await ask('ann', 'tool', { ...ADD, via: 1 })).toMatchObject({ code: 'BudgetSpent' })
    clock.moveTo(START + HOUR)
    expect(await ask('ann', 'tool', { ...ADD, via: 1 })).toMatchObject({ by: 'revoked' })
    // The machine comes up with the clock of last year.
    clock = new VirtualClock(START - 365 * 24 * HOUR)
    t = await t.reopen({ clock })
    expect(t.kernel.stats().clockBehindMs).toBeGreaterThan(364 * 24 * HOUR)
    expect(await ask('ann', 'tool', { ...ADD, via: 1 })).toMatchObject({ by: 'revoked' })
    expect(await ask('ann', 'tool', ADD)).toEqual({ ok: 3 })
    // In one fact otherwise: an expiry that has not come.
    expect(await ask('ann', 'derive', { narrow: { limits: { expires: START + 2 * HOUR } } })).toMatchObject({
      ok: expect.any(String),
    })
    expect(await ask('ann', 'tool', { ...ADD, via: 2 })).toEqual({ ok: 3 })
  })

  it('takes an expiry as far as numbers go, and none beyond', async () => {
    await open([TALK, CALC], '{ depth: 2 }')
    const most = Number.MAX_SAFE_INTEGER
    expect(await ask('ann', 'derive', { narrow: { limits: { expires: most } } })).toMatchObject({
      ok: expect.any(String),
    })
    expect(await ask('ann', 'derive', { narrow: { limits: { expires: most + 1 } } })).toMatchObject({
      code: 'BadGrant',
    })
    expect(await ask('ann', 'spawn', { card: { limits: { expires: most } }, keep: true })).toBe(
      'acme/boss/ann.1',
    )
    expect(await call('ann', 'ann.1', 'spawn', { card: { limits: { expires: START } } })).toBeDefined()
  })
})
