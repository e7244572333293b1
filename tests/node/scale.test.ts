/** Many agents at once: a thousand children gathered, a thousand sleepers under a new generation. */
import { afterEach, describe, expect, it } from 'vitest'
import {
  applyPrograms,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'

let t: TestKernel
let out = 0
const KINDS = 10
const tools = [
  ...Array.from({ length: KINDS }, (_, i) => functionTool(`calc.k${i}`, 'read', () => i)),
  { ...functionTool('db.read', 'read', () => 'private'), yields: ['private'] },
  { ...functionTool('web.post', 'once', () => ({ id: ++out })), sinks: ['out.example'] },
]
const NOW = [
  '{ tool: agent.*, resource: "*", method: "*" }',
  '{ tool: calc.*, args: "*" }',
  '{ tool: db.read, flow: [log], args: "*" }',
  '{ tool: web.post, args: "*" }',
]
const boss = (now: readonly string[]) => ({
  name: 'boss',
  file: programFile('boss.ts'),
  now,
  limits: '{ depth: 2 }',
})

afterEach(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}

describe('a parent of a thousand', () => {
  it('gathers what children of ten disjoint bounds did, and still does all of its own; one that read is kept back', {
    timeout: 60_000,
  }, async () => {
    t = await openTestKernel([boss(NOW)], { tools })
    const kind = (i: number) => `calc.k${i % KINDS}`
    const tasks = Array.from({ length: 1000 }, (_, i) => ({ only: [{ tool: kind(i), args: '*' }] }))
    const args = tasks.map((_task, i) => ({ name: kind(i), args: {} }))
    const done = (await ask('ann', 'gather', { tasks, method: 'tool', args })) as unknown[]
    expect(done).toEqual(tasks.map((_task, i) => ({ ok: { ok: i % KINDS } })))
    for (let i = 0; i < KINDS; i++)
      expect(await ask('ann', 'tool', { name: kind(i), args: {} })).toEqual({ ok: i })
    expect(await ask('ann', 'tool', { name: 'web.post', args: {} })).toEqual({ ok: { id: 1 } })

    await ask('ann', 'spawn', { keep: true, key: 'reader', card: { only: [{ tool: 'db.read', args: '*' }] } })
    const read = { to: 'boss/reader', method: 'tool', args: { name: 'db.read', args: {} } }
    expect(await ask('ann', 'call', { ...read, opts: { timeout: '400ms' } })).toMatchObject({
      code: 'TimedOut',
    })
    expect(await ask('ann', 'tool', { name: 'web.post', args: {} })).toEqual({ ok: { id: 2 } })
    const call = (await t.kernel.view.history('acme/boss/ann', { limit: 10_000 }))
      .flatMap((line) => line.effects ?? [])
      .findLast((effect) => effect.tool === 'agent.invoke')
    const why = await t.kernel.view.why(call?.effect ?? '')
    expect(why.answer).toMatchObject({
      from: 'acme/boss/reader',
      code: 'WouldTaint',
      costs: { sinks: expect.arrayContaining(['out.example']) },
    })
  })
})

describe('an apply over a thousand sleepers', () => {
  it('widens, narrows and rolls back: the next decision of each follows', { timeout: 120_000 }, async () => {
    t = await openTestKernel([boss(NOW.slice(0, 2))], { tools, idleMs: 0 })
    const keys = Array.from({ length: 1000 }, (_, i) => `s${i}`)
    const post = (who: string) => ask(who, 'tool', { name: 'web.post', args: {} })
    const all = (some: readonly string[]) => Promise.all(some.map(post))
    const refused = (answers: unknown[]) => answers.filter((a) => (a as { by?: string }).by === 'card').length
    expect(refused(await all(keys))).toBe(1000)
    await expect.poll(() => t.kernel.stats().live, { timeout: 30_000 }).toBe(0)
    await applyPrograms(t.kernel, [boss(NOW)])
    expect(refused(await all(keys))).toBe(0)
    await expect.poll(() => t.kernel.stats().live, { timeout: 30_000 }).toBe(0)
    await applyPrograms(t.kernel, [boss(NOW.slice(0, 2))])
    expect(refused(await all(keys))).toBe(1000)
    await applyPrograms(t.kernel, [boss(NOW)])
    expect(refused(await all(keys.slice(0, 100)))).toBe(0)
  })
})

describe('rows of agents that sleep', () => {
  it('are forgotten, and read again with what was taken of their budgets', { timeout: 60_000 }, async () => {
    t = await openTestKernel([{ ...boss(NOW), limits: '{ depth: 2, calls: 3000 }' }], { tools, idleMs: 0 })
    await ask('ann', 'spawn', { keep: true, card: { limits: { calls: 5 } } })
    const calc = { name: 'calc.k0', args: {} }
    for (let i = 0; i < 3; i++) expect(await ask('ann.1', 'tool', calc)).toEqual({ ok: 0 })
    const keys = Array.from({ length: 3000 }, (_, i) => `r${i}`)
    for (let i = 0; i < keys.length; i += 100)
      await Promise.all(keys.slice(i, i + 100).map((who) => ask(who, 'tool', calc)))
    await expect.poll(() => t.kernel.stats().live, { timeout: 30_000 }).toBe(0)
    await ask('zoe', 'held')
    await expect.poll(() => t.kernel.stats().live, { timeout: 30_000 }).toBe(0)
    expect(t.kernel.stats().rows).toBeLessThan(5000)
    for (let i = 0; i < 2; i++) expect(await ask('ann.1', 'tool', calc)).toEqual({ ok: 0 })
    expect(await ask('ann.1', 'tool', calc)).toMatchObject({ by: 'limit', code: 'BudgetSpent' })
  })
})
