/** What the host does with cards on a running node. */
import { inspectToken, readRevocations } from '@cardinal/cards'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  applyPrograms,
  crashCopy,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'

let t: TestKernel
const tools = [
  { ...functionTool('web.a', 'read', () => 'a'), sinks: ['a.example'] },
  { ...functionTool('web.b', 'read', () => 'b'), sinks: ['b.other'] },
  functionTool('calc.one', 'read', () => 1),
]
const ALL = [
  '{ tool: web.*, args: "*" }',
  '{ tool: calc.*, args: "*" }',
  '{ tool: agent.*, resource: "*", method: "*" }',
]
const boss = (now: readonly string[]) => ({
  name: 'boss',
  file: programFile('boss.ts'),
  now,
  limits: '{ depth: 4 }',
})
const tool = (name: string) => ({ name, args: {} })

beforeEach(async () => {
  t = await openTestKernel([boss(ALL)], { tools })
})
/** Whatever happened is decided again from the log, and comes out the same. */
afterEach(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}

async function cardOf(who: string): Promise<string> {
  const [card] = (await ask(who, 'held')) as string[]
  return card as string
}

async function reopen(): Promise<void> {
  const old = t
  t = await crashCopy(t, { tools })
  await old.close()
}

describe('a revocation', () => {
  it('16: kills the card and all below it, and nothing else, from the next decision on and over a crash', async () => {
    await ask('ann', 'spawn', { keep: true, card: { limits: { depth: 2 } } })
    await ask('ann.1', 'spawn', { keep: true, card: {} })
    await ask('ann', 'spawn', { keep: true, card: {} })
    const card = await cardOf('ann.1')
    expect(t.kernel.cards.blast(card)).toEqual({ cards: 2, agents: 2 })
    expect(t.kernel.cards.holders(card)).toEqual(['acme/boss/ann.1', 'acme/boss/ann.1.1'])
    await t.kernel.cards.revoke(card, 'operator')
    const dead = async () => {
      for (const who of ['ann.1', 'ann.1.1'])
        await expect(ask(who, 'tool', tool('calc.one'))).rejects.toMatchObject({ class: 'Stopped' })
      expect(await ask('ann', 'tool', tool('calc.one'))).toEqual({ ok: 1 })
      expect(await ask('ann.2', 'tool', tool('calc.one'))).toEqual({ ok: 1 })
      expect(await ask('ann', 'call', { to: 'boss/ann.1', method: 'held' })).toMatchObject({
        error: 'Stopped',
      })
    }
    await dead()
    await reopen()
    await dead()
    expect(t.kernel.cards.get(card)).toMatchObject({ live: false })
  })

  it('ends whoever waits for the agent that it stops', async () => {
    await ask('ann', 'spawn', { keep: true, card: {} })
    const waiting = t.call('boss/ann', 'call', {
      to: 'boss/ann.1',
      method: 'late',
      args: { ...tool('calc.one'), after: '1ms' },
    })
    await waiting
    const long = t.call('boss/ann.1', 'call', { to: 'boss/nobody', method: 'x' })
    await long
    const open = t.kernel.invoke({
      address: 'acme/boss/ann.1',
      method: 'call',
      args: { to: 'boss/ann', method: 'serial', args: {} },
    })
    await t.kernel.cards.revoke(await cardOf('ann.1'), 'operator')
    const { reply } = await open
    expect(await reply).toBeDefined()
  })
})

describe('a confinement', () => {
  it('limits where data goes at once, for those who sleep too, until it is lifted', async () => {
    expect(await ask('ann', 'tool', tool('web.b'))).toEqual({ ok: 'b' })
    await t.kernel.suspend('acme/boss/ann')
    const { id } = await t.kernel.cards.confine(
      { target: 'acme/boss/ann', egress: ['*.example'] },
      'operator',
    )
    const confined = async () => {
      expect(await ask('ann', 'tool', tool('web.b'))).toMatchObject({ error: 'Refused', by: 'flow' })
      expect(await ask('ann', 'tool', tool('web.a'))).toEqual({ ok: 'a' })
      expect(await ask('bob', 'tool', tool('web.b'))).toEqual({ ok: 'b' })
    }
    await confined()
    await reopen()
    await confined()
    await t.kernel.cards.lift(id, 'operator')
    expect(await ask('ann', 'tool', tool('web.b'))).toEqual({ ok: 'b' })
  })

  it('by grants is a ceiling, which binds children', async () => {
    await ask('ann', 'spawn', { keep: true, card: {} })
    await t.kernel.cards.confine(
      { target: 'acme/boss/ann', ceiling: [{ tool: 'calc.*', args: '*' }] },
      'operator',
    )
    for (const who of ['ann', 'ann.1']) {
      expect(await ask(who, 'tool', tool('web.a'))).toMatchObject({ error: 'Refused', by: 'ceiling' })
      expect(await ask(who, 'tool', tool('calc.one'))).toEqual({ ok: 1 })
    }
  })
})

describe('a card minted like another', () => {
  it('with less egress is held by its agent at once, and binds it', async () => {
    const like = await cardOf('ann')
    const minted = (await t.kernel.cards.mint(
      { like, egress: ['a.example'], expiresInMs: 60_000, attach: 'acme/boss/ann' },
      'it',
    )) as {
      id: string
      limits: { expires: number }
    }
    expect(minted.limits.expires).toBeGreaterThan(Date.now())
    const held = async () => {
      expect(await ask('ann', 'held')).toEqual([like, minted.id])
      expect(await ask('ann', 'tool', { ...tool('web.a'), via: 1 })).toEqual({ ok: 'a' })
      expect(await ask('ann', 'tool', { ...tool('web.b'), via: 1 })).toMatchObject({ by: 'card' })
      expect(await ask('ann', 'tool', tool('web.b'))).toMatchObject({ error: 'Refused', by: 'ceiling' })
      expect(await ask('ann', 'tool', tool('calc.one'))).toEqual({ ok: 1 })
    }
    await held()
    await t.kernel.suspend('acme/boss/ann')
    await held()
    await reopen()
    await held()
  })

  it('and not attached bounds a call that is made under it', async () => {
    const like = await cardOf('ann')
    const { id } = (await t.kernel.cards.mint({ like, egress: ['a.example'] }, 'it')) as { id: string }
    const under = async (name: string) => {
      const { reply } = await t.kernel.invoke({
        address: 'acme/boss/ann',
        method: 'tool',
        args: tool(name),
        under: id,
      })
      const done = await reply
      return done.ok ? done.value : done.error
    }
    expect(await under('web.b')).toMatchObject({ error: 'Refused', by: 'scope' })
    expect(await under('web.a')).toEqual({ ok: 'a' })
    await reopen()
    expect(await under('web.b')).toMatchObject({ error: 'Refused', by: 'scope' })
    expect(await ask('ann', 'tool', tool('web.b'))).toEqual({ ok: 'b' })
  })

  it('below another dies with it', async () => {
    const like = await cardOf('ann')
    const { id } = (await t.kernel.cards.mint(
      { like, below: true, narrow: { now: [{ tool: 'calc.*', args: '*' }] } },
      'it',
    )) as { id: string }
    expect(t.kernel.cards.get(id)).toMatchObject({ parent: like, live: true })
    await t.kernel.cards.revoke(like, 'operator')
    expect(t.kernel.cards.get(id)).toMatchObject({ live: false })
  })
})

describe('an agent that is held', () => {
  it('takes calls in and runs nothing, over suspend and crash, until it is released', async () => {
    await ask('ann', 'held')
    await t.kernel.hold('acme/boss/ann', true, 'it')
    expect(await t.kernel.view.agent('acme/boss/ann')).toMatchObject({ state: 'held' })
    const { id } = await t.kernel.invoke({ address: 'acme/boss/ann', method: 'tool', args: tool('calc.one') })
    await t.kernel.suspend('acme/boss/ann')
    await reopen()
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect((await t.kernel.result(id)).state).toBe('open')
    expect(await ask('bob', 'tool', tool('calc.one'))).toEqual({ ok: 1 })
    await t.kernel.hold('acme/boss/ann', false, 'it')
    const { reply, pending } = await t.kernel.result(id)
    expect(reply ?? (await pending)).toEqual({ ok: true, value: { ok: 1 } })
  })
})

describe('an agent that is no more', () => {
  it('is neither held nor ended again', async () => {
    await ask('ann', 'held')
    await t.kernel.end('acme/boss/ann', 'it')
    await expect(t.kernel.hold('acme/boss/ann', true, 'it')).rejects.toMatchObject({ code: 'Stopped' })
    await ask('bob', 'held')
    await t.kernel.erase('acme/boss/bob')
    await expect(t.kernel.end('acme/boss/bob', 'it')).rejects.toMatchObject({ code: 'KeyDestroyed' })
    await ask('cem', 'held')
    await t.kernel.hold('acme/boss/cem', true, 'it')
    await t.kernel.hold('acme/boss/cem', false, 'it')
    await t.kernel.end('acme/boss/cem', 'it')
  })
})

describe('an apply', () => {
  it('is not rolled back by two at once', async () => {
    await applyPrograms(t.kernel, [boss(ALL.slice(1))])
    const both = [t.kernel.rollback('acme', 'boss', {}), t.kernel.rollback('acme', 'boss', {})]
    const [first, second] = await Promise.allSettled(both)
    expect(first).toMatchObject({ status: 'fulfilled', value: { generation: 3 } })
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'AppliedMeanwhile' } })
    expect(t.kernel.applying.generations('acme', 'boss')).toHaveLength(3)
  })

  it('widens and narrows for agents that sleep, and for what was minted from them', async () => {
    await ask('ann', 'spawn', { keep: true, card: {} })
    for (const who of ['ann', 'ann.1']) await t.kernel.suspend(`acme/boss/${who}`)
    expect(t.kernel.stats().live).toBe(0)
    await applyPrograms(t.kernel, [boss([ALL[1] as string, ALL[2] as string])])
    const narrowed = async () => {
      for (const who of ['ann', 'ann.1'])
        expect(await ask(who, 'tool', tool('web.a'))).toMatchObject({ by: 'card' })
    }
    await narrowed()
    await reopen()
    await narrowed()
    await applyPrograms(t.kernel, [boss(ALL)])
    expect(await ask('ann', 'tool', tool('web.a'))).toEqual({ ok: 'a' })
    expect(await ask('ann.1', 'tool', tool('web.a'))).toEqual({ ok: 'a' })
  })
})

describe('a card that is exported', () => {
  it('is verified offline, comes back as itself, and is revoked by its ids', async () => {
    const [card] = (await ask('ann', 'held')) as string[]
    await ask('ann', 'spawn', { keep: true, card: { only: [{ tool: 'calc.*', args: '*' }] } })
    const child = await cardOf('ann.1')
    const { tokens } = t.kernel
    const exported = await tokens.export(child, 'it')
    const rootKey = { algorithm: 'ed25519', key: Buffer.from(exported.rootKey, 'hex') } as const
    const bytes = Buffer.from(exported.token, 'base64url')
    const report = inspectToken(bytes, rootKey, new Set())
    expect(report).toMatchObject({ ok: true, sealed: true })
    expect(report.blocks.map((block) => block.card?.id)).toEqual([card, child])
    expect(await tokens.import({ token: exported.token }, 'it')).toMatchObject({ id: child })
    expect(tokens.revoked()).toEqual([])
    const before = readRevocations((await tokens.revocationList()).text, rootKey)
    await t.kernel.cards.revoke(child, 'it')
    expect(tokens.revoked()).toEqual([exported.revocationIds[1]])
    const after = readRevocations((await tokens.revocationList()).text, rootKey)
    expect([...after.ids]).toEqual([exported.revocationIds[1]])
    expect(after.asOf).toBeGreaterThan(before.asOf as number)
    expect(report.asOf).toBeLessThanOrEqual(before.asOf as number)
    expect(inspectToken(bytes, rootKey, new Set(tokens.revoked())).ok).toBe(false)
    await expect(tokens.import({ token: exported.token }, 'it')).rejects.toMatchObject({ code: 'Revoked' })
    await expect(tokens.export(child, 'it')).rejects.toMatchObject({ code: 'NotLive' })
  })

  it('is none that has budgets, and its twin without them is', async () => {
    for (const limits of [{ calls: 3 }, {}]) await ask('ann', 'spawn', { keep: true, card: { limits } })
    await expect(t.kernel.tokens.export(await cardOf('ann.1'), 'it')).rejects.toMatchObject({
      code: 'NotExportable',
    })
    expect(await t.kernel.tokens.export(await cardOf('ann.2'), 'it')).toHaveProperty('token')
  })

  it('of another node is a card within one of ours, and no wider', async () => {
    const other = await openTestKernel(
      [boss(['{ tool: web.a, args: "*" }', '{ tool: bank.pay, args: "*" }'])],
      { tools },
    )
    const like = await cardOf('ann')
    const [theirs] = (await (async () => {
      const reply = await other.call('boss/zoe', 'held')
      return reply.ok ? reply.value : []
    })()) as string[]
    const { token, rootKey } = await other.kernel.tokens.export(theirs as string, 'it')
    const { tokens } = t.kernel
    await expect(tokens.import({ token }, 'it')).rejects.toMatchObject({ code: 'BadSignature' })
    await expect(tokens.import({ token, rootKey }, 'it')).rejects.toMatchObject({ code: 'BadRequest' })
    const taken = (await tokens.import({ token, rootKey, like }, 'it')) as {
      id: string
      now: { tool: string }[]
    }
    expect(taken.id).not.toBe(theirs)
    expect(taken.now.map((grant) => grant.tool)).toEqual(['web.a'])
    await other.close()
  })
})

describe('a question to the host', () => {
  it('is answered for acts between agents as for tools', async () => {
    await ask('ann', 'spawn', { keep: true, card: { only: [{ tool: 'calc.*', args: '*' }] } })
    const explain = (who: string, name: string, args: object) =>
      t.kernel.cards.explain(`acme/boss/${who}`, name, args)
    expect(await explain('ann', 'agent.spawn', { to: 'boss/x' })).toMatchObject({ verdict: 'allow' })
    expect(await explain('ann.1', 'agent.spawn', { to: 'boss/x' })).toMatchObject({
      verdict: 'refuse',
      by: 'card',
    })
    expect(await explain('ann', 'agent.invoke', { to: 'boss/ann.1', method: 'held' })).toMatchObject({
      verdict: 'allow',
    })
    for (const [name, args] of [
      ['agent.invoke', { to: 'boss/x' }],
      ['agent.spawn', {}],
    ] as const)
      await expect(explain('ann', name, args)).rejects.toMatchObject({ code: 'BadArguments' })
    await expect(explain('ann', 'agent.nothing', {})).rejects.toMatchObject({ code: 'NoSuchTool' })
  })

  it('names a call under a dead card, and none where a method acts by its own authority', async () => {
    await ask('ann', 'spawn', { keep: true, card: { only: [{ tool: 'calc.*', args: '*' }] } })
    const under = await cardOf('ann.1')
    const begin = (method: string, name: string) =>
      t.kernel.invoke({ address: 'acme/boss/bob', method, args: tool(name), under })
    expect(await (await begin('tool', 'web.a')).reply).toMatchObject({ value: { by: 'scope' } })
    expect(await (await begin('tool', 'calc.one')).reply).toEqual({ ok: true, value: { ok: 1 } })
    expect(await (await begin('own', 'web.a')).reply).toEqual({ ok: true, value: { ok: 'a' } })
    await t.kernel.cards.revoke(under, 'it')
    await expect(begin('tool', 'calc.one')).rejects.toMatchObject({ class: 'Refused', code: 'NotLive' })
  })

  it('finds a child that was never called at rest', async () => {
    await ask('ann', 'spawn', { keep: true, card: {} })
    await expect
      .poll(async () => ((await t.kernel.view.agent('acme/boss/ann.1')) as { state: string }).state)
      .toBe('quiet')
  })

  it('lists the birth card first, whatever the host gave since', async () => {
    await ask('ann', 'held')
    await t.kernel.cards.mint({ like: await cardOf('ann'), attach: 'acme/boss/ann' }, 'it')
    const reply = await t.call('boss/zoe', 'tool', tool('calc.one'))
    expect(reply.ok).toBe(true)
    const [birth] = t.kernel.cards.list({ agent: 'acme/boss/zoe' }) as { id: string }[]
    await t.kernel.cards.mint({ like: birth?.id as string, attach: 'acme/boss/zoe' }, 'it')
    expect(((await ask('zoe', 'held')) as string[])[0]).toBe(birth?.id)
    expect(((await ask('zoe', 'held')) as string[]).length).toBe(2)
  })
})

describe('arguments that a tool trips over', () => {
  it('are bad arguments, and end neither this node nor the next', async () => {
    const tripping = {
      ...functionTool('odd.tool', 'read', () => 1),
      translate: () => {
        throw new RangeError('of the tool')
      },
    }
    const other = await openTestKernel([boss(['{ tool: odd.*, args: "*" }'])], { tools: [tripping] })
    const use = () => other.call('boss/ann', 'tool', tool('odd.tool'))
    expect(await use()).toMatchObject({
      value: { code: 'BadArguments', message: expect.stringContaining('RangeError') },
    })
    const again = await other.reopen()
    expect((await again.kernel.audit()).mismatches).toEqual([])
    expect(await again.call('boss/ann', 'held')).toMatchObject({ ok: true })
    await again.close()
  })
})

describe('a bound', () => {
  it('is what was written, over a restart and a replay of everything, however fine', async () => {
    const like = await cardOf('ann')
    const fine = { min: '0.0000001', max: '9007199254740993.100000000000000001', decimal: 18 }
    const narrow = { now: [{ tool: 'calc.*', args: { n: fine } }] }
    const { id } = (await t.kernel.cards.mint({ like, below: true, narrow }, 'it')) as { id: string }
    await ask('ann', 'spawn', { keep: true, card: { only: narrow.now } })
    await t.kernel.cards.confine({ target: 'acme/boss/bob', ceiling: narrow.now }, 'it')
    const all = async () =>
      JSON.stringify([
        t.kernel.cards.get(id),
        t.kernel.cards.get(await cardOf('ann.1')),
        await t.kernel.cards.standing('acme/boss/ann.1'),
        t.kernel.cards.confinements(),
      ])
    const before = await all()
    expect(before.match(/9007199254740993\.100000000000000001/g)?.length).toBeGreaterThanOrEqual(5)
    await t.kernel.suspend('acme/boss/ann.1')
    await reopen()
    expect(await all()).toBe(before)
    expect((await t.kernel.audit()).mismatches).toEqual([])
  })
})
