/** Agents that call one another: scope of callers, rings of calls, delays, cancels, crashes. */
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { afterEach, describe, expect, it } from 'vitest'
import { crashCopy, functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

let t: TestKernel
let seen: unknown[] = []
let gate: Promise<void> = Promise.resolve()
const tools = [
  {
    ...functionTool('web.get', 'read', async (args) => {
      seen.push(args)
      await gate
      return 'got'
    }),
    sinks: ['out.example'],
  },
  functionTool('calc.one', 'read', () => 1),
]
const ALL = [
  '{ tool: web.*, args: "*" }',
  '{ tool: calc.*, args: "*" }',
  '{ tool: agent.*, resource: "*", method: "*" }',
]

async function open(now: readonly string[] = ALL, spec = ''): Promise<void> {
  seen = []
  gate = Promise.resolve()
  t = await openTestKernel(
    [{ name: 'boss', file: programFile('boss.ts'), now, limits: '{ depth: 4 }', spec }],
    { tools },
  )
}

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}

async function reopen(): Promise<void> {
  const old = t
  t = await crashCopy(t, { tools })
  await old.close()
}

const get = (url: string) => ({ name: 'web.get', args: { url } })
/** A card with which only one address may be asked for. */
const only = (url: string) => ({ only: [{ tool: 'web.get', args: { url: [url] } }] })

/** Whatever happened is decided again from the log, and comes out the same. */
afterEach(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

describe('what is done for a caller', () => {
  it('65: lies in what the caller may do, while another one’s timer and promise are pending', async () => {
    await open()
    await ask('shop', 'held')
    const call = (who: string, method: string, args: unknown, under: object) =>
      ask(who, 'call', { to: 'boss/shop', method, args, under })
    // Each of two callers may have its own address asked for, and no other; both have work pending.
    expect(await call('ann', 'late', { ...get('a'), after: '2000ms' }, only('a'))).toEqual({ ok: 'later' })
    expect(await call('bob', 'late', { ...get('a'), after: '2000ms' }, only('b'))).toEqual({ ok: 'later' })
    expect(await call('bob', 'tool', get('a'), only('b'))).toMatchObject({
      ok: { error: 'Refused', by: 'scope' },
    })
    expect(await call('bob', 'tool', get('b'), only('b'))).toEqual({ ok: { ok: 'got' } })
    await expect.poll(() => seen.length, { timeout: 5000 }).toBe(2)
    await new Promise((resolve) => setTimeout(resolve, 300))
    // Bob's timer asked for Ann's address: that was not done.
    expect(seen).toEqual([{ url: 'b' }, { url: 'a' }])
  })

  it('lies in it over a crash, too', async () => {
    await open()
    await ask('shop', 'held')
    await ask('bob', 'call', {
      to: 'boss/shop',
      method: 'late',
      args: { ...get('a'), after: '300ms' },
      under: only('b'),
    })
    await ask('bob', 'call', {
      to: 'boss/shop',
      method: 'late',
      args: { ...get('b'), after: '300ms' },
      under: only('b'),
    })
    await reopen()
    await expect.poll(() => seen.length, { timeout: 5000 }).toBe(1)
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(seen).toEqual([{ url: 'b' }])
  })

  it('is bounded by nobody where the method says that it acts by its own authority', async () => {
    await open()
    await ask('shop', 'held')
    expect(
      await ask('bob', 'call', { to: 'boss/shop', method: 'own', args: get('a'), under: only('b') }),
    ).toEqual({ ok: { ok: 'got' } })
  })
})

describe('calls that cross', () => {
  const PAIRS = Number(process.env.PAIRS ?? 200)
  it(`all end, in an answer or by name: ${PAIRS} pairs from two clients`, async () => {
    await open(ALL, '  timeout: 60s\n')
    const keys = Array.from({ length: PAIRS }, (_, i) => i)
    await Promise.all(keys.flatMap((i) => [ask(`a${i}`, 'held'), ask(`b${i}`, 'held')]))
    const cross = (from: string, to: string) => ask(from, 'serial', { to: `boss/${to}`, args: {} })
    const done = await Promise.all(keys.flatMap((i) => [cross(`a${i}`, `b${i}`), cross(`b${i}`, `a${i}`)]))
    const answered = done.filter((d) => JSON.stringify(d) === '{"ok":"done"}').length
    const refused = done.filter((d) => (d as { code?: string }).code === 'WouldDeadlock').length
    expect(answered + refused).toBe(2 * PAIRS)
    expect(answered).toBeGreaterThanOrEqual(PAIRS)
  })

  it('to oneself is refused, and to somebody who is free is not', async () => {
    await open()
    await ask('bob', 'held')
    expect(await ask('ann', 'serial', { to: 'boss/ann', args: {} })).toMatchObject({ code: 'WouldDeadlock' })
    expect(await ask('ann', 'serial', { to: 'boss/bob', args: {} })).toEqual({ ok: 'done' })
    expect(await ask('ann', 'call', { to: 'boss/ann', method: 'held' })).toMatchObject({
      ok: [expect.any(String)],
    })
  })

  it('are refused in a ring of three', async () => {
    await open()
    for (const who of ['ann', 'bob', 'cem']) await ask(who, 'held')
    const ring = { to: 'boss/bob', args: { to: 'boss/cem', args: { to: 'boss/ann', args: {} } } }
    expect(await ask('ann', 'serial', ring)).toMatchObject({
      ok: { ok: { error: 'Unavailable', code: 'WouldDeadlock' } },
    })
    const line = { to: 'boss/bob', args: { to: 'boss/cem', args: {} } }
    expect(await ask('ann', 'serial', line)).toEqual({ ok: { ok: 'done' } })
  })
})

describe('a message', () => {
  it('without a grant is refused, and of one agent to another’s child too', async () => {
    await open([
      '{ tool: agent.invoke, resource: boss/bob, method: [held] }',
      '{ tool: agent.spawn, resource: "*" }',
    ])
    await ask('bob', 'held')
    await ask('cem', 'held')
    expect(await ask('ann', 'call', { to: 'boss/bob', method: 'held' })).toMatchObject({
      ok: [expect.any(String)],
    })
    expect(await ask('ann', 'call', { to: 'boss/cem', method: 'held' })).toMatchObject({
      error: 'Refused',
      by: 'card',
    })
    expect(await ask('ann', 'call', { to: 'boss/bob', method: 'serial' })).toMatchObject({
      error: 'Refused',
      by: 'card',
    })
  })

  it('to nobody says so, and to an unknown method too', async () => {
    await open(['{ tool: agent.invoke, resource: boss/*, method: "*" }'])
    await ask('bob', 'held')
    expect(await ask('ann', 'call', { to: 'boss/nobody', method: 'held' })).toMatchObject({
      error: 'Refused',
      code: 'NoSuchAgent',
    })
    expect(await ask('ann', 'call', { to: 'boss/bob', method: 'nothing' })).toMatchObject({
      code: 'NoSuchMethod',
    })
    expect(await ask('ann', 'call', { to: 'other/boss/bob', method: 'held' })).toMatchObject({
      error: 'Refused',
    })
  })

  it('makes an agent by first use for whoever may make it; it begins with what that one had read', async () => {
    await open()
    expect(await ask('ann', 'call', { to: 'boss/new', method: 'held' })).toMatchObject({
      ok: [expect.any(String)],
    })
    expect(await ask('new', 'tool', { name: 'calc.one', args: {} })).toEqual({ ok: 1 })
    expect(await ask('ann', 'call', { to: 'nothing/new', method: 'held' })).toMatchObject({
      code: 'NoSuchAgent',
    })
    await reopen()
    expect(await ask('bob', 'call', { to: 'boss/new', method: 'held' })).toMatchObject({
      ok: [expect.any(String)],
    })
  })

  it('that is two at once to somebody new makes one agent, of one sender or of two', async () => {
    await open()
    for (const who of ['ann', 'bob']) await ask(who, 'held')
    const hello = { name: 'boss/new', method: 'held' }
    const both = await Promise.all([
      ask('ann', 'calls', { all: [hello, hello, hello] }),
      ask('bob', 'calls', { all: [hello, hello] }),
      ask('new', 'held'),
    ])
    const [[first] = []] = both as string[][]
    expect(
      JSON.stringify(both)
        .match(/card_[0-9a-f]+/g)
        ?.every((card) => JSON.stringify(first).includes(card)),
    ).toBe(true)
    await reopen()
    expect(await ask('new', 'tool', { name: 'calc.one', args: {} })).toEqual({ ok: 1 })
  })

  it('24: crosses no tenant, whoever is there; within one it arrives', async () => {
    await open(['{ tool: agent.*, resource: "*", method: "*" }'])
    await t.kernel.apply(
      parseManifests(
        JSON.stringify({
          apiVersion: 'cardinal/v1',
          kind: 'Agent',
          metadata: { tenant: 'other', name: 'boss' },
          spec: { program: programFile('boss.ts'), card: { now: [] } },
        }),
        'm.yaml',
        { isRange: () => true, defaultsOf: t.kernel.defaultsOf },
      ),
      new Map([['other/boss', await bundleProgram(programFile('boss.ts'))]]),
    )
    await (await t.kernel.invoke({ address: 'other/boss/bob', method: 'held' })).reply
    await t.kernel.suspend('other/boss/bob')
    // Past what the SDK lets one say: the tool itself, with another tenant's address.
    const call = (to: string) =>
      ask('ann', 'tool', { name: 'agent.invoke', args: { to, method: 'held', args: null } })
    const [there, nowhere] = [await call('other/boss/bob'), await call('other/boss/zoe')]
    expect(there).toEqual(nowhere)
    expect(there).toMatchObject({ error: 'Refused', code: 'NoSuchAgent' })
    expect(t.kernel.stats().live).toBe(1)
    await ask('bob', 'held')
    expect(await call('acme/boss/bob')).toHaveProperty('ok')
  })

  it('with a key is the same call again, and another one under that key is refused', async () => {
    await open()
    await ask('bob', 'held')
    const call = (url: string) =>
      ask('ann', 'call', { to: 'boss/bob', method: 'tool', args: get(url), opts: { key: 'k' } })
    expect(await call('x')).toEqual({ ok: { ok: 'got' } })
    expect(await call('x')).toEqual({ ok: { ok: 'got' } })
    expect(await call('y')).toMatchObject({ error: 'Refused', code: 'KeyReused' })
    expect(seen).toEqual([{ url: 'x' }])
  })

  it('may be sent later, and is not forgotten by a crash', async () => {
    await open()
    await ask('bob', 'held')
    const later = (who: string, url: string, opts: object) =>
      t.kernel.invoke({
        address: `acme/boss/${who}`,
        method: 'call',
        args: { to: 'boss/bob', method: 'tool', args: get(url), opts },
      })
    await later('ann', 'later', { after: '6s', detach: true })
    const { id } = await later('cem', 'waited', { after: '6200ms' })
    await reopen()
    expect(seen).toEqual([])
    const { reply, pending } = await t.kernel.result(id)
    expect(reply ?? (await pending)).toEqual({ ok: true, value: { ok: { ok: 'got' } } })
    expect(seen).toEqual([{ url: 'later' }, { url: 'waited' }])
  })

  it('is answered once although the node is killed while it is worked on', async () => {
    await open()
    await ask('bob', 'held')
    let release: () => void = () => {}
    gate = new Promise((resolve) => {
      release = resolve
    })
    const { id } = await t.kernel.invoke({
      address: 'acme/boss/ann',
      method: 'call',
      args: { to: 'boss/bob', method: 'tool', args: get('x') },
    })
    await expect.poll(() => seen.length).toBe(1)
    const old = t
    t = await crashCopy(t, { tools })
    release()
    const { reply, pending } = await t.kernel.result(id)
    expect(reply ?? (await pending)).toEqual({ ok: true, value: { ok: { ok: 'got' } } })
    await old.close()
  })

  it('that is cancelled is cancelled at its receiver', async () => {
    await open()
    await ask('bob', 'held')
    let release: () => void = () => {}
    gate = new Promise((resolve) => {
      release = resolve
    })
    const { id, reply } = await t.kernel.invoke({
      address: 'acme/boss/ann',
      method: 'call',
      args: { to: 'boss/bob', method: 'tool', args: get('x') },
    })
    await expect.poll(() => seen.length).toBe(1)
    await t.kernel.cancel(id, 'enough')
    expect(await reply).toMatchObject({ ok: false, error: { class: 'Cancelled' } })
    await expect
      .poll(async () =>
        (await t.kernel.view.history('acme/boss/bob')).some((line) => /cancelled inv_/.test(line.text)),
      )
      .toBe(true)
    release()
    expect(await ask('bob', 'tool', { name: 'calc.one', args: {} })).toEqual({ ok: 1 })
  })
})

describe('an offer', () => {
  const CALC = { only: [{ tool: 'calc.*', args: '*' }] }
  it('is looked at and taken with what was seen, and binds whoever takes it', async () => {
    await open()
    await ask('bob', 'held')
    expect(await ask('ann', 'offer', { to: 'boss/bob', narrow: CALC })).toEqual({ ok: true })
    expect(await ask('bob', 'take', { expect: 'ffffffffffffffff' })).toMatchObject({ code: 'NotPreviewed' })
    expect(await ask('bob', 'take', {})).toMatchObject({ code: 'WouldLose' })
    expect(await ask('bob', 'tool', get('x'))).toEqual({ ok: 'got' })
    expect(await ask('bob', 'take', { allowLoss: true })).toMatchObject({
      ok: expect.any(String),
      from: 'acme/boss/ann',
    })
    const bound = async () => {
      expect(await ask('bob', 'tool', get('x'))).toMatchObject({ error: 'Refused', by: 'ceiling' })
      expect(await ask('bob', 'tool', { name: 'calc.one', args: {}, via: 1 })).toEqual({ ok: 1 })
    }
    await bound()
    await ask('bob', 'drop', { card: 1 })
    expect(await ask('bob', 'tool', get('x'))).toMatchObject({ error: 'Refused', by: 'ceiling' })
    await reopen()
    expect(await ask('bob', 'tool', get('x'))).toMatchObject({ error: 'Refused', by: 'ceiling' })
  })

  it('is seen by nobody else, and of what is not one’s own is refused', async () => {
    await open()
    await ask('bob', 'held')
    await ask('ann', 'offer', { to: 'boss/bob', narrow: CALC })
    expect(await ask('cem', 'take', {})).toEqual({ none: true })
    expect(
      await ask('ann', 'offer', { to: 'boss/bob', narrow: { only: [{ tool: 'bank.pay', args: '*' }] } }),
    ).toMatchObject({ code: 'OverWide' })
    for (let i = 0; i < 7; i++)
      expect(await ask('ann', 'offer', { to: 'boss/bob', narrow: CALC })).toEqual({ ok: true })
    expect(await ask('ann', 'offer', { to: 'boss/bob', narrow: CALC })).toMatchObject({
      code: 'TooManyOffers',
    })
  })
})

describe('a card of one’s own', () => {
  it('is narrowed, used by its handle, and its revocation ends what was made from it', async () => {
    await open()
    expect(
      await ask('ann', 'derive', {
        narrow: { only: [{ tool: 'calc.*', args: '*' }], limits: { calls: 1, depth: 1 } },
      }),
    ).toMatchObject({ ok: expect.any(String) })
    expect(await ask('ann', 'tool', { ...get('x'), via: 1 })).toMatchObject({ error: 'Refused', by: 'card' })
    expect(await ask('ann', 'tool', { name: 'calc.one', args: {}, via: 1 })).toEqual({ ok: 1 })
    expect(await ask('ann', 'tool', { name: 'calc.one', args: {}, via: 1 })).toMatchObject({
      by: 'limit',
      code: 'BudgetSpent',
    })
    expect(await ask('ann', 'revoke', { card: 1 })).toEqual({ ok: true })
    expect(await ask('ann', 'tool', { name: 'calc.one', args: {}, via: 1 })).toMatchObject({ by: 'revoked' })
    expect(await ask('ann', 'revoke', { card: 0 })).toMatchObject({ code: 'NoSuchCard' })
    expect(await ask('ann', 'explain', { tool: 'web.get', args: { url: 'x' } })).toMatchObject({
      verdict: 'allow',
    })
    expect(await ask('ann', 'explain', { tool: 'bank.pay', args: {} })).toMatchObject({ verdict: 'refuse' })
  })
})
