/** An agent that the host wipes begins anew, and nobody else notices more than that. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { crashCopy, functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

let t: TestKernel
let release: () => void = () => {}
let slow: Promise<void> = Promise.resolve()
const paid: string[] = []
const tools = [
  { ...functionTool('db.read', 'read', () => ['row']), yields: ['private'] },
  { ...functionTool('web.post', 'once', () => 'sent'), sinks: ['x.example'] },
  functionTool('calc.one', 'read', () => 1),
  functionTool('test.echo', 'read', ({ value }) => ({ value })),
  functionTool('bank.pay', 'once', async () => {
    await slow
    paid.push('once')
  }),
]
const NOW = [
  '{ tool: db.*, args: "*", flow: [log, "caller:*"] }',
  '{ tool: web.*, args: "*" }',
  '{ tool: calc.*, args: "*" }',
  '{ tool: test.*, args: "*" }',
  '{ tool: bank.*, args: "*" }',
  '{ tool: mail.*, args: "*", ask: [approver] }',
  '{ tool: agent.*, resource: "*", method: "*" }',
]
const program = (name: string, file: string) => ({
  name,
  file: programFile(file),
  now: NOW,
  limits: '{ depth: 4 }',
})

beforeEach(async () => {
  slow = Promise.resolve()
  paid.length = 0
  t = await openTestKernel([program('boss', 'boss.ts'), program('worker', 'worker.ts')], {
    tools: [...tools, functionTool('mail.send', 'once', () => 'mailed')],
  })
})
/** Whatever happened is decided again from the log, and comes out the same. */
afterEach(async () => {
  release()
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}
const tool = (name: string) => ({ name, args: {} })
const wipe = (who: string) => t.kernel.wipe(`acme/boss/${who}`, 'it')
const begin = (who: string, method: string, args: unknown = {}) =>
  t.kernel.invoke({ address: `acme/boss/${who}`, method, args })
const standing = (who: string) => t.kernel.cards.standing(`acme/boss/${who}`)

async function reopen(): Promise<void> {
  const old = t
  t = await crashCopy(t, { tools: [...tools, functionTool('mail.send', 'once', () => 'mailed')] })
  await old.close()
}

describe('a wipe', () => {
  it('lets go of what the agent had read, over a crash too; without it nothing does', async () => {
    await ask('ann', 'tool', tool('db.read'))
    const refused = { error: 'Refused', by: 'flow' }
    expect(await ask('ann', 'tool', tool('web.post'))).toMatchObject(refused)
    await t.kernel.suspend('acme/boss/ann')
    await reopen()
    expect(await ask('ann', 'tool', tool('web.post'))).toMatchObject(refused)
    await wipe('ann')
    expect(await standing('ann')).toMatchObject({ labels: [], flow: ['*'] })
    await reopen()
    expect(await ask('ann', 'tool', tool('web.post'))).toEqual({ ok: 'sent' })
  })

  it('forgets memory, awake and asleep, and replays from one end to the other', async () => {
    const count = async () => (await t.call('worker/w', 'echo', 1)) as { value?: unknown }
    expect(await count()).toMatchObject({ value: 1 })
    expect(await count()).toMatchObject({ value: 2 })
    await t.kernel.suspend('acme/worker/w')
    await t.kernel.wipe('acme/worker/w', 'it')
    expect(await count()).toMatchObject({ value: 1 })
    await reopen()
    expect(await count()).toMatchObject({ value: 2 })
    await t.kernel.suspend('acme/worker/w')
    await reopen()
    expect(await count()).toMatchObject({ value: 3 })
    expect((await t.kernel.replay('acme/worker/w')).turns).toBe(10)
  })

  it('ends what was asked, what is slept on, what asks a person, and calls both ways, by name', async () => {
    const nap = await begin('ann', 'nap', { duration: '1h' })
    const asked = await begin('ann', 'tool', tool('mail.send'))
    await begin('bob', 'held')
    const out = await begin('cem', 'call', { to: 'boss/bob', method: 'nap', args: { duration: '1h' } })
    const into = await begin('bob', 'call', { to: 'boss/ann', method: 'nap', args: { duration: '1h' } })
    await until(async () => (await t.kernel.approvals.list('open')).length === 1)
    for (const [who, calls] of [
      ['ann', 3],
      ['bob', 2],
    ] as const)
      await until(
        async () => ((await t.kernel.view.agent(`acme/boss/${who}`)) as { open: number }).open === calls,
      )
    await Promise.all([wipe('ann'), wipe('cem')])
    const wiped = { ok: false, error: { class: 'Cancelled', code: 'Wiped' } }
    for (const one of [nap, asked, out]) expect(await one.reply).toMatchObject(wiped)
    expect(await into.reply).toMatchObject({ ok: true, value: { code: 'Wiped' } })
    expect(await t.kernel.approvals.list('open')).toEqual([])
    await until(() => !t.kernel.busy())
    expect(await ask('ann', 'tool', tool('calc.one'))).toEqual({ ok: 1 })
  })

  it('waits for what has begun in the world, which is done once and recorded', async () => {
    slow = new Promise((resolve) => {
      release = resolve
    })
    const { reply } = await begin('ann', 'tool', tool('bank.pay'))
    await until(async () =>
      JSON.stringify(await t.kernel.view.history('acme/boss/ann', {})).includes('started'),
    )
    let ended = false
    const wiping = wipe('ann').then(() => {
      ended = true
    })
    expect(await reply).toMatchObject({ ok: false, error: { code: 'Wiped' } })
    expect(ended).toBe(false)
    release()
    await wiping
    expect(paid).toEqual(['once'])
    const kinds = (await t.kernel.view.history('acme/boss/ann', {})).map(({ kind }) => kind)
    expect(kinds.indexOf('receipt')).toBeGreaterThan(kinds.indexOf('wiping'))
    expect(kinds.indexOf('wiped')).toBeGreaterThan(kinds.indexOf('receipt'))
  })

  it('goes on after a crash in the middle', async () => {
    slow = new Promise((resolve) => {
      release = resolve
    })
    await ask('ann', 'tool', tool('db.read'))
    await begin('ann', 'tool', tool('bank.pay'))
    await until(async () =>
      JSON.stringify(await t.kernel.view.history('acme/boss/ann', {})).includes('started'),
    )
    const wiping = wipe('ann')
    await until(async () =>
      JSON.stringify(await t.kernel.view.history('acme/boss/ann', {})).includes('wiping'),
    )
    const old = t
    t = await crashCopy(t, { tools: [...tools, functionTool('mail.send', 'once', () => 'mailed')] })
    release()
    await wiping
    await old.close()
    await until(async () => ((await standing('ann')) as { labels: string[] }).labels.length === 0)
    expect(await ask('ann', 'tool', tool('web.post'))).toEqual({ ok: 'sent' })
    expect(t.kernel.view.effectsInDoubt()).toMatchObject([{ resolved: null }])
  })

  it('takes accepted cards away with the ceiling that they brought; an offer can be taken anew', async () => {
    await ask('ann', 'held')
    await ask('bob', 'held')
    const calc = {
      only: [
        { tool: 'calc.*', args: '*' },
        { tool: 'agent.*', resource: '*', method: '*' },
      ],
    }
    await ask('bob', 'offer', { to: 'acme/boss/ann', narrow: calc })
    expect(await ask('ann', 'take', { allowLoss: true })).toMatchObject({ from: 'acme/boss/bob' })
    expect(await ask('ann', 'tool', tool('web.post'))).toMatchObject({ by: 'ceiling' })
    await wipe('ann')
    expect(await ask('ann', 'held')).toHaveLength(1)
    expect(await ask('ann', 'tool', tool('web.post'))).toEqual({ ok: 'sent' })
    expect(await ask('ann', 'take', { allowLoss: true })).toMatchObject({ from: 'acme/boss/bob' })
    expect(await ask('ann', 'tool', tool('web.post'))).toMatchObject({ by: 'ceiling' })
  })

  it('keeps budgets, children that were kept and their addresses; ends the others', async () => {
    await ask('ann', 'spawn', { keep: true, card: {} })
    const card = (await ask('ann', 'held')) as string[]
    const spent = () => (t.kernel.cards.get(card[0] as string) as { spent: object }).spent
    const before = spent()
    const gather = await begin('ann', 'gather', { tasks: [{}], method: 'nap', args: [{ duration: '1h' }] })
    await until(() => JSON.stringify(t.kernel.view.agents({ tenant: 'acme' })).includes('boss/ann.2'))
    await wipe('ann')
    expect(await gather.reply).toMatchObject({ error: { code: 'Wiped' } })
    expect(spent()).not.toEqual({})
    expect(Object.keys(spent())).toEqual(Object.keys(before))
    expect(await ask('ann', 'call', { to: 'boss/ann.1', method: 'held' })).toMatchObject({ ok: {} })
    await until(
      async () => ((await t.kernel.view.agent('acme/boss/ann.2')) as { state: string }).state === 'stopped',
    )
    expect(await ask('ann', 'spawn', { keep: true, card: {} })).toBe('acme/boss/ann.3')
  })

  it('is refused to an agent that is stopped or was never born', async () => {
    await expect(wipe('nobody')).rejects.toMatchObject({ code: 'NoSuchAgent' })
    const [card] = (await ask('ann', 'held')) as string[]
    await wipe('ann')
    await t.kernel.cards.revoke(card as string, 'it')
    await expect(wipe('ann')).rejects.toMatchObject({ code: 'Stopped' })
  })
})

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 10_000; Date.now() < end; await new Promise((r) => setTimeout(r, 5)))
    if (await holds()) return
  throw new Error('it did not come about')
}
