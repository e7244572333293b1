/** Audit: every verdict of a rich life is decided again from the log alone, and comes out as recorded. */
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
  { ...functionTool('db.read', 'read', () => ({ rows: ['secret'] })), yields: ['private'] },
  { ...functionTool('web.post', 'once', () => ({ id: 1 })), sinks: ['out.example'] },
  { ...functionTool('bank.pay', 'once', () => ({ id: 1 })), sinks: ['bank.example'] },
  functionTool('calc.one', 'read', () => 1),
]
const NOW = [
  '{ tool: agent.*, resource: "*", method: "*" }',
  '{ tool: calc.*, args: "*" }',
  '{ tool: db.read, flow: [log, "caller:*"], args: "*" }',
  '{ tool: web.post, args: "*" }',
  '{ tool: bank.pay, args: "*", ask: [approver] }',
]
const boss = (now: readonly string[]) => ({
  name: 'boss',
  file: programFile('boss.ts'),
  now,
  limits: '{ depth: 4, calls: 500 }',
})
const act = (name: string) => ({ name, args: {} })

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}

/** Everything that agents and the host can do with cards, allowed and refused. */
async function live(): Promise<void> {
  for (const who of ['ann', 'bob']) await ask(who, 'held')
  await ask('ann', 'spawn', { keep: true, card: { only: [{ tool: 'db.read', args: '*' }] } })
  await ask('ann', 'spawn', { keep: true, card: { only: [{ tool: 'no.*' }] } })
  await ask('ann', 'spawn', { card: {} })
  await ask('ann', 'call', { to: 'boss/ann.3', method: 'held' })
  const read = { to: 'boss/ann.1', method: 'tool', args: act('db.read') }
  await ask('ann', 'call', { ...read, opts: { timeout: '300ms' } })
  await ask('ann', 'tool', act('web.post'))
  await ask('ann', 'tool', { ...act('web.post'), via: 7 })
  await ask('ann', 'offer', { to: 'boss/bob', narrow: { only: [{ tool: 'calc.*', args: '*' }] } })
  await ask('bob', 'take', {})
  await ask('bob', 'take', { allowLoss: true })
  await ask('bob', 'drop', { card: 1 })
  await ask('ann', 'call', { ...read, opts: { admits: '*' } })
  await ask('ann', 'tool', act('web.post'))
  await ask('bob', 'serial', { to: 'boss/bob', args: {} })
  await ask('bob', 'call', {
    to: 'boss/ann',
    method: 'tool',
    args: act('calc.one'),
    under: { only: [{ tool: 'db.*', args: '*' }] },
  })
  await ask('bob', 'derive', { narrow: { only: [{ tool: 'calc.*', args: '*' }], limits: { calls: 1 } } })
  await ask('bob', 'revoke', { card: 2 })
  await ask('cem', 'late', { ...act('calc.one'), after: '20ms' })
  const { reply } = await t.kernel.invoke({ address: 'acme/boss/cem', method: 'tool', args: act('bank.pay') })
  await expect.poll(async () => (await t.kernel.approvals.list()).length).toBe(1)
  const [approval] = await t.kernel.approvals.list()
  if (!approval) throw new Error('nothing asks')
  await t.kernel.approvals.approve(approval.id, approval.digest, undefined, 'operator')
  await reply
  const [like] = (await ask('cem', 'held')) as string[]
  await t.kernel.cards.mint({ like: like as string, egress: ['out.example'], attach: 'acme/boss/cem' }, 'it')
  await ask('cem', 'tool', { ...act('web.post'), via: 1 })
  await t.kernel.cards.confine({ target: 'acme/boss/cem', flow: ['log'] }, 'it')
  await ask('cem', 'tool', act('web.post'))
  await t.kernel.suspend('acme/boss/bob')
  await applyPrograms(t.kernel, [boss(NOW.slice(0, 3))])
  await ask('bob', 'tool', act('web.post'))
  await applyPrograms(t.kernel, [boss(NOW)])
  await ask('dan', 'spawn', { keep: true, card: {} })
  const [child] = (await ask('dan.1', 'held')) as string[]
  await t.kernel.cards.revoke(child as string, 'it')
  await ask('dan', 'call', { to: 'boss/dan.1', method: 'held' })
  await ask('dan', 'gather', {
    tasks: [{}, {}],
    method: 'tool',
    args: [act('calc.one'), act('db.read')],
    timeout: '500ms',
  })
}

beforeEach(async () => {
  t = await openTestKernel([boss(NOW)], { tools })
})
afterEach(() => t.close())

describe('an audit', () => {
  it('makes every decision again as it is recorded, across generations and a crash', {
    timeout: 60_000,
  }, async () => {
    await live()
    const old = t
    t = await crashCopy(t, { tools })
    await old.close()
    await ask('bob', 'tool', act('web.post'))
    const report = await t.kernel.audit()
    expect(report.mismatches).toEqual([])
    expect(report.verdicts).toBeGreaterThan(60)
    expect(report.agents).toBeGreaterThan(7)
  })

  it('takes what an erased agent did to others as it is recorded, and counts it', {
    timeout: 60_000,
  }, async () => {
    for (const who of ['ann', 'bob']) await ask(who, 'held')
    await ask('ann', 'tool', act('db.read'))
    await ask('ann', 'spawn', { keep: true, card: {} })
    await ask('ann', 'call', { to: 'boss/bob', method: 'open', args: act('calc.one') })
    await ask('bob', 'tool', act('calc.one'))
    await ask('ann.1', 'tool', act('calc.one'))
    await ask('bob', 'call', { to: 'boss/ann', method: 'held', opts: { timeout: '300ms', admits: '*' } })
    await t.kernel.erase('acme/boss/ann')
    await expect(ask('ann.1', 'tool', act('calc.one'))).rejects.toMatchObject({ class: 'Stopped' })
    const report = await t.kernel.audit()
    expect(report.mismatches).toEqual([])
    expect(report.unreadable).toBe(1)
  })

  it('finds a node that decided otherwise: here, one whose tool went elsewhere', {
    timeout: 60_000,
  }, async () => {
    await ask('ann', 'call', { to: 'boss/ann', method: 'held' })
    await ask('ann', 'tool', act('db.read'))
    await ask('ann', 'tool', act('calc.one'))
    expect((await t.kernel.audit()).mismatches).toEqual([])
    const old = t
    // The same log under tools of which one carries data out: what was allowed would be refused now.
    const other = tools.map((tool) =>
      tool.name === 'calc.one' ? { ...tool, sinks: ['evil.example'] } : tool,
    )
    t = await crashCopy(t, { tools: other })
    await old.close()
    const { mismatches } = await t.kernel.audit()
    expect(mismatches[0]).toMatchObject({ what: 'verdicts', at: expect.stringMatching(/^acme\/boss\/ann@/) })
  })
})
