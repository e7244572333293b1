/** Agents that make agents and talk to them, on a real node. */
import { afterEach, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

let t: TestKernel
let done: [string, unknown][] = []
const tools = [
  { ...functionTool('db.read', 'read', () => ({ rows: ['secret'] })), yields: ['private'] },
  {
    ...functionTool('web.post', 'once', (args) => ({ id: done.push(['web.post', args]) })),
    sinks: ['out.example'],
  },
  functionTool('calc.add', 'read', ({ a, b }) => (a as number) + (b as number)),
]
const TALK = '{ tool: agent.*, resource: "*", method: "*" }'
const CALC = '{ tool: calc.add, args: "*" }'
const READ = '{ tool: db.read, flow: [log, "caller:*"], args: "*" }'
const POST = '{ tool: web.post, args: "*" }'

async function open(now: readonly string[], limits = '{ depth: 3 }'): Promise<void> {
  done = []
  t = await openTestKernel([{ name: 'boss', file: programFile('boss.ts'), now, limits }], { tools })
}

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}

/** Whatever happened is decided again from the log, and comes out the same. */
afterEach(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

describe('a parent', () => {
  it('makes a child with a narrower card, calls it, and gets its answer', async () => {
    await open([TALK, CALC])
    const address = await ask('ann', 'spawn', {
      keep: true,
      card: { only: [{ tool: 'calc.add', args: '*' }] },
    })
    expect(address).toBe('acme/boss/ann.1')
    expect(
      await ask('ann', 'call', {
        to: 'boss/ann.1',
        method: 'tool',
        args: { name: 'calc.add', args: { a: 2, b: 3 } },
      }),
    ).toEqual({
      ok: { ok: 5 },
    })
    expect(
      await ask('ann', 'call', { to: 'boss/ann.1', method: 'spawn', args: { card: { only: [] } } }),
    ).toMatchObject({ ok: { error: 'Refused' } })
  })

  it('is refused a child that is wider than itself, by the grant, and gets it narrowed with clip', async () => {
    await open([TALK, CALC])
    const wide = [{ tool: 'calc.*', args: '*' }]
    expect(await ask('ann', 'spawn', { card: { only: wide } })).toMatchObject({
      error: 'Refused',
      code: 'OverWide',
    })
    expect(await ask('ann', 'spawn', { card: { only: wide, clip: true } })).toBe('acme/boss/ann.2')
  })

  it('gathers answers and still does everything itself', async () => {
    await open([TALK, CALC, READ, POST])
    const tasks = Array.from({ length: 20 }, () => ({ only: [{ tool: 'calc.add', args: '*' }] }))
    const args = tasks.map((_t, i) => ({ name: 'calc.add', args: { a: i, b: 1 } }))
    expect(await ask('ann', 'gather', { tasks, method: 'tool', args })).toEqual(
      tasks.map((_t, i) => ({ ok: { ok: i + 1 } })),
    )
    expect(await ask('ann', 'tool', { name: 'web.post', args: {} })).toEqual({ ok: { id: 1 } })
  })
})

describe('what a child has read', () => {
  it('does not reach a parent that it would cost something', async () => {
    await open([TALK, READ, POST])
    const child = { keep: true, card: { only: [{ tool: 'db.read', args: '*' }] } }
    await ask('ann', 'spawn', child)
    expect(
      await ask('ann', 'call', {
        to: 'boss/ann.1',
        method: 'tool',
        args: { name: 'db.read', args: {} },
        opts: { timeout: '1s' },
      }),
    ).toMatchObject({ error: 'Unavailable', code: 'TimedOut' })
    expect(await ask('ann', 'tool', { name: 'web.post', args: {} })).toEqual({ ok: { id: 1 } })
  })

  it('reaches a parent that asked for it, which may then no longer send it out', async () => {
    await open([TALK, READ, POST])
    await ask('ann', 'spawn', { keep: true, card: { only: [{ tool: 'db.read', args: '*' }] } })
    expect(
      await ask('ann', 'call', {
        to: 'boss/ann.1',
        method: 'tool',
        args: { name: 'db.read', args: {} },
        opts: { admits: '*' },
      }),
    ).toEqual({ ok: { ok: { rows: ['secret'] } } })
    expect(await ask('ann', 'tool', { name: 'web.post', args: {} })).toMatchObject({
      error: 'Refused',
      by: 'flow',
    })
    expect(done).toEqual([])
  })
})

describe('a parent that has read', () => {
  it('makes a child that works on what it read, calls it, and neither gets it out', async () => {
    await open([TALK, CALC, READ, POST])
    expect(await ask('ann', 'tool', { name: 'db.read', args: {} })).toMatchObject({ ok: {} })
    expect(await ask('ann', 'spawn', { keep: true, card: {} })).toBe('acme/boss/ann.1')
    const call = (name: string, args: object) =>
      ask('ann', 'call', { to: 'boss/ann.1', method: 'tool', args: { name, args } })
    expect(await call('calc.add', { a: 1, b: 2 })).toEqual({ ok: { ok: 3 } })
    expect(await call('web.post', {})).toMatchObject({ ok: { error: 'Refused', by: 'flow' } })
    await ask('bob', 'held')
    // For somebody else, whom it would cost something, the child is not there.
    expect(await ask('bob', 'call', { to: 'boss/ann.1', method: 'held' })).toMatchObject({
      code: 'NoSuchAgent',
    })
  })
})

describe('a child', () => {
  it('ends with the invocation that made it, unless it is kept', async () => {
    await open([TALK, CALC])
    await ask('ann', 'spawn', { card: { only: [] } })
    expect(await ask('ann', 'call', { to: 'boss/ann.1', method: 'held' })).toMatchObject({ error: 'Stopped' })
    await ask('ann', 'spawn', { keep: true, card: { only: [] } })
    expect(await ask('ann', 'call', { to: 'boss/ann.2', method: 'held' })).toMatchObject({
      ok: [expect.any(String)],
    })
  })
})
