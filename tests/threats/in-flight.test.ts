/** Authority that ends while something is under way, and budgets that many draw on at once: on a real node. */
import fs from 'node:fs'
import type { Receipt, Tool } from '@cardinal/tools'
import { afterEach, describe, expect, it } from 'vitest'
import { crashCopy, functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

let t: TestKernel
let paid: unknown[] = []
let gate = Promise.withResolvers<void>()
let came = Promise.withResolvers<void>()

/** Waits for its gate, before it says that it begins or after it. */
function gated(name: string, when: 'before' | 'after', effectClass: 'once' | 'idempotent' = 'once'): Tool {
  return {
    ...functionTool(name, effectClass, () => null),
    perform: async (plan, attempt): Promise<Receipt> => {
      if (when === 'after') await attempt.started()
      came.resolve()
      await gate.promise
      if (when === 'before') await attempt.started()
      paid.push([name, plan])
      return { ok: true, value: paid.length }
    },
  }
}

/** Costs what its argument says. */
const pay: Tool = {
  ...functionTool('bank.pay', 'once', () => paid.push('bank.pay')),
  translate: (args) => {
    const { amount } = args as { amount: string }
    return {
      request: { tool: ['bank', 'pay'], args: new Map([['amount', amount]]) },
      cost: { calls: 1, bytesOut: 0, spend: { EUR: amount } },
      effectClass: 'once',
      plan: args,
    }
  },
}
const tools = [
  { ...functionTool('db.read', 'read', () => ({ secret: 'S3CRET' })), yields: ['private'] },
  { ...functionTool('web.post', 'once', (args) => ({ id: paid.push(args) })), sinks: ['out.example'] },
  gated('late.pay', 'before'),
  gated('slow.pay', 'after'),
  gated('keyed.pay', 'after', 'idempotent'),
  pay,
]
const TALK = '{ tool: agent.*, resource: "*", method: "*" }'
const GRANTS = [
  TALK,
  '{ tool: db.read, flow: [log, "caller:*"], args: "*" }',
  ...['web.post', 'late.pay', 'slow.pay', 'keyed.pay', 'bank.pay'].map(
    (tool) => `{ tool: ${tool}, args: "*", ask: [] }`,
  ),
]

async function open(limits = '{ depth: 4 }'): Promise<void> {
  paid = []
  gate = Promise.withResolvers()
  came = Promise.withResolvers()
  t = await openTestKernel([{ name: 'boss', file: programFile('boss.ts'), now: GRANTS, limits }], { tools })
}

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}

const call = (who: string, to: string, method: string, args: unknown = {}) =>
  ask(who, 'call', { to: `boss/${to}`, method, args })
const use = (who: string, name: string, args: unknown = {}, via?: number) =>
  ask(who, 'tool', { name, args, ...(via !== undefined && { via }) })
const history = async (who: string) =>
  JSON.stringify(await t.kernel.view.history(`acme/boss/${who}`, { limit: 1000 }))

/** A card of its own, and one more that it does not use: both by their ids. */
async function twoCards(who: string): Promise<[string, string]> {
  const one = (await ask(who, 'derive', { narrow: {} })) as { ok: string }
  const other = (await ask(who, 'derive', { narrow: {} })) as { ok: string }
  return [one.ok, other.ok]
}

afterEach(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

for (const meant of [true, false]) {
  const which = meant ? 'that it is done by' : 'that it is not done by'
  describe(`28: the card ${which} is revoked`, () => {
    it('between intent and dispatch: nothing leaves, or it does', async () => {
      await open()
      const [used, other] = await twoCards('ann')
      const paying = use('ann', 'late.pay', {}, 1)
      await came.promise
      await t.kernel.cards.revoke(meant ? used : other, 'test')
      gate.resolve()
      expect(await paying).toMatchObject(meant ? { error: 'Refused', by: 'revoked' } : { ok: 1 })
      expect(paid).toHaveLength(meant ? 0 : 1)
      expect(await history('ann')).toContain(meant ? 'Refused Revoked' : 'late.pay')
    })

    it('during an effect: what was done is told once, and the next is refused, or not', async () => {
      await open()
      const [used, other] = await twoCards('ann')
      const paying = use('ann', 'slow.pay', {}, 1)
      await came.promise
      await t.kernel.cards.revoke(meant ? used : other, 'test')
      gate.resolve()
      expect(await paying).toEqual({ ok: 1 })
      expect(await use('ann', 'slow.pay', {}, 1)).toMatchObject(
        meant ? { error: 'Refused', by: 'revoked' } : { ok: 2 },
      )
      expect(paid).toHaveLength(meant ? 1 : 2)
    })

    it('before a recovery repeats it: it is in doubt, or repeated', async () => {
      await open()
      const [used, other] = await twoCards('ann')
      const paying = use('ann', 'keyed.pay', {}, 1)
      await came.promise
      await t.kernel.cards.revoke(meant ? used : other, 'test')
      const after = await crashCopy(t, {
        tools: tools.map((tool) =>
          tool.name === 'keyed.pay'
            ? functionTool('keyed.pay', 'idempotent', () => paid.push('again'))
            : tool,
        ),
      })
      await expect.poll(() => after.kernel.busy()).toBe(false)
      expect(paid).toEqual(meant ? [] : ['again'])
      await expect.poll(() => after.kernel.view.effectsInDoubt().length).toBe(meant ? 1 : 0)
      expect((await after.kernel.audit()).mismatches).toEqual([])
      await after.close()
      gate.resolve()
      await paying
    })
  })
}

describe('17: an agent that is dead', () => {
  it('answers nobody by an older handle, and its address makes no second one; a kept one answers', async () => {
    await open()
    const born = { card: { limits: { depth: 1 } } }
    for (const keep of [false, true]) {
      const to = keep ? 'ann.kept' : 'ann.gone'
      expect(await ask('ann', 'spawn', { ...born, key: to, keep })).toBe(`acme/boss/${to}`)
      expect(await call('ann', to, 'tool', { name: 'web.post', args: {} })).toMatchObject(
        keep ? { ok: { ok: { id: 1 } } } : { error: 'Stopped' },
      )
      expect(await ask('ann', 'spawn', { ...born, key: to, keep: true })).toMatchObject({ code: 'IdTaken' })
    }
    expect(paid).toHaveLength(1)
  })
})

describe('22: what was read', () => {
  for (const reads of [true, false])
    it(`is ${reads ? 'still' : 'no'} bound in a field that outlives sleep and a crash`, async () => {
      await open()
      if (reads) expect(await use('ann', 'db.read')).toMatchObject({ ok: { secret: 'S3CRET' } })
      else expect(await ask('ann', 'held')).toHaveLength(1)
      await expect.poll(() => t.kernel.busy()).toBe(false)
      await t.kernel.suspend('acme/boss/ann')
      const before = t
      t = await crashCopy(t, { tools })
      expect(await use('ann', 'web.post', { what: 'x' })).toMatchObject(
        reads ? { error: 'Refused', by: 'flow' } : { ok: { id: 1 } },
      )
      expect(paid).toHaveLength(reads ? 0 : 1)
      expect(await history('ann')).toMatch(reads ? /WouldFlow/ : /web\.post/)
      await before.close()
    })
})

describe('19: a card for what is private that was accepted', () => {
  for (const reads of [true, false])
    it(
      reads ? 'binds the birth card once it was read by' : 'leaves the birth card free until then',
      async () => {
        await open()
        await ask('bob', 'held')
        await ask('ann', 'held')
        const narrow = { now: [{ tool: 'db.read', args: '*', flow: ['log', 'caller:*'] }] }
        await ask('bob', 'offer', { to: 'boss/ann', narrow })
        expect(await ask('ann', 'take')).toHaveProperty('ok')
        if (reads) expect(await use('ann', 'db.read', {}, 1)).toHaveProperty('ok')
        expect(await use('ann', 'web.post')).toMatchObject(
          reads ? { error: 'Refused', by: 'flow' } : { ok: { id: 1 } },
        )
        expect(paid).toHaveLength(reads ? 0 : 1)
      },
    )
})

describe('27: one purse', () => {
  const BUSY = /^Budget(Busy|Spent)$/

  for (const [limit, fits] of [
    ['10.00', 1],
    ['12.00', 2],
  ] as const)
    it(`of ${limit} pays ${fits} of two payments of 6.00 at once`, async () => {
      await open(`{ depth: 4, spend: { EUR: "${limit}" } }`)
      const two = { all: [1, 2].map(() => ({ name: 'bank.pay', args: { amount: '6.00' } })) }
      const done = (await ask('ann', 'tools', two)) as { ok?: number; code?: string }[]
      expect(done.filter((one) => one.ok !== undefined)).toHaveLength(fits)
      for (const one of done) if (one.ok === undefined) expect(one.code).toMatch(BUSY)
      expect(paid).toHaveLength(fits)
    })

  it('is not full again after a crash, and a folder of before is refused', async () => {
    await open('{ depth: 4, spend: { EUR: "10.00" } }')
    expect(await use('ann', 'bank.pay', { amount: '4.00' })).toEqual({ ok: 1 })
    await t.kernel.suspend('acme/boss/ann')
    await t.kernel.close()
    const yesterday = `${t.data}.yesterday`
    fs.cpSync(t.data, yesterday, { recursive: true })
    t = await openTestKernel([], { tools }, t.data)
    expect(await use('ann', 'bank.pay', { amount: '6.00' })).toEqual({ ok: 2 })
    const before = t
    t = await crashCopy(t, { tools })
    expect(await use('ann', 'bank.pay', { amount: '0.01' })).toMatchObject({ code: 'BudgetSpent' })
    expect(paid).toHaveLength(2)
    await before.close()
    fs.rmSync(before.data, { recursive: true, force: true })
    await expect(
      openTestKernel([], { tools, anchors: [`${t.data}.anchor`] }, yesterday),
    ).rejects.toMatchObject({ code: 'LogShort' })
    fs.rmSync(yesterday, { recursive: true })
  })

  it('of 100 payments is drawn on by 1,000 children, a hundred times', async () => {
    await open('{ depth: 4, spend: { EUR: "100.00" }, fanout: 2000 }')
    const n = 1000
    const done = (await ask('ann', 'gather', {
      tasks: Array.from({ length: n }, () => ({ only: [{ tool: 'bank.pay', args: '*', ask: [] }] })),
      method: 'tool',
      args: Array.from({ length: n }, () => ({ name: 'bank.pay', args: { amount: '1.00' } })),
      timeout: '60s',
    })) as { ok: { ok?: number; code?: string } }[]
    expect(done.filter((one) => one.ok?.ok !== undefined)).toHaveLength(100)
    const refused = done.filter((one) => one.ok?.ok === undefined)
    expect(refused).toHaveLength(900)
    for (const { ok } of refused) expect(ok.code).toMatch(BUSY)
    expect(paid).toHaveLength(100)
  }, 120_000)
})
