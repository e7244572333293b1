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
    tools: all,
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
  t = await crashCopy(t, { tools: all })
  await old.close()
}

const all = [...tools, functionTool('mail.send', 'once', () => 'mailed')]

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
    stall()
    const { reply } = await begin('ann', 'tool', tool('bank.pay'))
    await until(() => said('ann', 'started'))
    expect(await t.kernel.suspend('acme/boss/ann')).toBe(false)
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

  it('goes on after a crash in the middle, whoever looks or not', async () => {
    stall()
    await ask('ann', 'tool', tool('db.read'))
    await begin('ann', 'tools', { all: [tool('bank.pay'), ...Array(4).fill(tool('mail.send'))] })
    await until(async () => (await t.kernel.approvals.list('open')).length === 4)
    await until(() => said('ann', 'started'))
    const wiping = wipe('ann')
    await until(() => said('ann', 'wiping'))
    const old = t
    t = await crashCopy(t, { tools: all })
    release()
    await wiping
    await old.close()
    // Its history is read from the record: that wakes nobody.
    await until(() => said('ann', 'begins anew'))
    expect(t.kernel.view.effectsInDoubt()).toMatchObject([{ resolved: null }])
    expect(await ask('ann', 'tool', tool('web.post'))).toEqual({ ok: 'sent' })
  })

  it('takes nothing in meanwhile, and says so to whoever brings it; afterwards it does', async () => {
    stall()
    await ask('bob', 'held')
    await begin('ann', 'tool', tool('bank.pay'))
    await until(() => said('ann', 'started'))
    const wiping = wipe('ann')
    await until(() => said('ann', 'wiping'))
    const refused = { class: 'Unavailable', code: 'Wiping' }
    await expect(begin('ann', 'held')).rejects.toMatchObject(refused)
    await expect(t.kernel.emit('acme/boss/ann', 'go', 1)).rejects.toMatchObject(refused)
    const [like] = (await ask('bob', 'held')) as string[]
    const mint = () => t.kernel.cards.mint({ like: like as string, attach: 'acme/boss/ann' }, 'it')
    await expect(mint()).rejects.toMatchObject(refused)
    for (const opts of [{}, { detach: true }])
      expect(await ask('bob', 'call', { to: 'boss/ann', method: 'held', opts })).toMatchObject({
        error: 'Unavailable',
        code: 'Wiping',
      })
    release()
    await wiping
    await t.kernel.emit('acme/boss/ann', 'go', 1)
    expect(await mint()).toMatchObject({ live: true })
    expect(await ask('bob', 'call', { to: 'boss/ann', method: 'held' })).toMatchObject({ ok: {} })
  })

  it('ends thousands that wait', async () => {
    await ask('ann', 'held')
    await t.kernel.hold('acme/boss/ann', true, 'it')
    const waiting = await Promise.all(Array.from({ length: 4000 }, () => begin('ann', 'held')))
    await wipe('ann')
    for (const { reply } of waiting)
      expect(await reply).toMatchObject({ ok: false, error: { code: 'Wiped' } })
    await t.kernel.hold('acme/boss/ann', false, 'it')
    expect(await ask('ann', 'tool', tool('calc.one'))).toEqual({ ok: 1 })
  })

  it('begins nothing that was approved as it began; what it ends for good is told', async () => {
    for (const who of ['a', 'b', 'c', 'd', 'e']) {
      const { reply } = await begin(who, 'tool', tool('mail.send'))
      await until(async () => (await t.kernel.approvals.list('open')).length === 1)
      const [open] = await t.kernel.approvals.list('open')
      if (!open) throw new Error('an approval')
      const approved = t.kernel.approvals.approve(open.id, open.digest, 'approver', 'eve')
      const [, wiped] = await Promise.allSettled([approved, wipe(who)])
      expect(wiped.status).toBe('fulfilled')
      expect(await reply).toBeDefined()
      const kinds = (await t.kernel.view.history(`acme/boss/${who}`)).map(({ kind }) => kind)
      expect(kinds.slice(kinds.indexOf('wiping'))).not.toContain('started')
      expect(kinds).toContain('wiped')
    }
  })

  it('is refused where the agent is ended meanwhile, which then sleeps', async () => {
    stall()
    const [card] = (await ask('ann', 'held')) as string[]
    await begin('ann', 'tool', tool('bank.pay'))
    await until(() => said('ann', 'started'))
    const wiping = expect(wipe('ann')).rejects.toMatchObject({ code: 'Stopped' })
    await until(() => said('ann', 'wiping'))
    await t.kernel.cards.revoke(card as string, 'it')
    release()
    await wiping
    await until(() => !t.kernel.busy())
    expect(await t.kernel.suspend('acme/boss/ann')).toBe(true)
  })

  it('gives back no birth card that the agent had dropped', async () => {
    await ask('ann', 'drop', { card: 0 })
    expect(await ask('ann', 'tool', tool('calc.one'))).toMatchObject({ code: 'NoSuchCard' })
    await wipe('ann')
    await reopen()
    expect(await ask('ann', 'tool', tool('calc.one'))).toMatchObject({ code: 'NoSuchCard' })
    await ask('bob', 'held')
    await wipe('bob')
    expect(await ask('bob', 'tool', tool('calc.one'))).toEqual({ ok: 1 })
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

/** Payments wait from here on until `release`. */
function stall(): void {
  slow = new Promise((resolve) => {
    release = resolve
  })
}

async function said(who: string, what: string): Promise<boolean> {
  return JSON.stringify(await t.kernel.view.history(`acme/boss/${who}`, {})).includes(what)
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 10_000; Date.now() < end; await new Promise((r) => setTimeout(r, 5)))
    if (await holds()) return
  throw new Error('it did not come about')
}
