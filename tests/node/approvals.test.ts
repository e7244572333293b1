/** Effects that ask a person: they wait, are approved on their digest, denied, or cut. */
import { VirtualClock } from '@cardinal/kernel'
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
let paid: unknown[] = []
const tools = [
  { ...functionTool('bank.pay', 'once', (args) => ({ id: paid.push(args) })), sinks: ['bank.example'] },
  { ...functionTool('db.read', 'read', () => 'rows'), yields: ['private'] },
]
const PAY = '{ tool: bank.pay, args: "*", ask: [approver] }'
const READ = '{ tool: db.read, args: "*", flow: [log, "caller:*"] }'
const TEST_PAY = '{ tool: test.pay, args: "*", ask: [approver] }'
const TALK = '{ tool: agent.*, resource: "*", method: "*" }'
const boss = (now: readonly string[]) => ({
  name: 'boss',
  file: programFile('boss.ts'),
  now,
  limits: '{ depth: 4 }',
})

beforeEach(async () => {
  paid = []
  t = await openTestKernel([boss([PAY, READ, TALK])], { tools })
})
/** Whatever happened is decided again from the log, and comes out the same. */
afterEach(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

/** Begins a payment, and waits until it asks. */
async function pay(who = 'ann', amount = 5) {
  const { reply } = await t.kernel.invoke({
    address: `acme/boss/${who}`,
    method: 'tool',
    args: { name: 'bank.pay', args: { amount } },
  })
  return { reply, approval: await one() }
}

async function one() {
  for (let i = 0; ; i++) {
    const [first] = await t.kernel.approvals.list()
    if (first) return first
    if (i > 400) throw new Error('nothing asks')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

describe('a payment that asks', () => {
  it('waits, shows exactly what it is, and is made once it is approved', async () => {
    const { reply, approval } = await pay()
    expect(approval).toMatchObject({
      tool: 'bank.pay',
      args: { amount: 5 },
      ask: [['approver']],
      state: 'open',
    })
    expect(paid).toEqual([])
    await t.kernel.approvals.approve(approval.id, approval.digest.slice(0, 6), undefined, 'operator')
    expect(await reply).toEqual({ ok: true, value: { ok: { id: 1 } } })
    expect(paid).toEqual([{ amount: 5 }])
    expect(await t.kernel.approvals.get(approval.id)).toMatchObject({
      state: 'approved',
      approved: ['approver'],
    })
  })

  it('is not made on another digest, nor as a role that it does not ask, nor twice', async () => {
    const { reply, approval } = await pay()
    const { approvals } = t.kernel
    await expect(approvals.approve(approval.id, 'ffff', undefined, 'operator')).rejects.toMatchObject({
      code: 'OtherDigest',
    })
    await expect(approvals.approve(approval.id, '', undefined, 'operator')).rejects.toMatchObject({
      code: 'OtherDigest',
    })
    await expect(approvals.approve(approval.id, approval.digest, 'boss', 'operator')).rejects.toMatchObject({
      code: 'BadRole',
    })
    expect(paid).toEqual([])
    await approvals.approve(approval.id, approval.digest, 'approver', 'operator')
    await reply
    await expect(
      approvals.approve(approval.id, approval.digest, 'approver', 'operator'),
    ).rejects.toMatchObject({ code: 'AlreadyDecided' })
    expect(paid.length).toBe(1)
  })

  it('is refused by a person, and not made', async () => {
    const { reply, approval } = await pay()
    await t.kernel.approvals.deny(approval.id, 'operator', 'not today')
    expect(await reply).toMatchObject({
      ok: true,
      value: { error: 'Refused', code: 'Denied', by: 'person', message: 'not today' },
    })
    expect(paid).toEqual([])
  })

  it('waits over a crash, and is made once then', async () => {
    const { approval } = await pay()
    const old = t
    t = await crashCopy(t, { tools })
    await old.close()
    const [again] = await t.kernel.approvals.list()
    expect(again).toEqual(approval)
    await t.kernel.approvals.approve(approval.id, approval.digest, undefined, 'operator')
    await expect.poll(() => paid.length).toBe(1)
    const old2 = t
    t = await crashCopy(t, { tools })
    await old2.close()
    expect(await t.kernel.approvals.list()).toEqual([])
    expect(paid.length).toBe(1)
  })

  it('waits for two days over three restarts, its agent asleep, while a shared method answers', async () => {
    const START = Date.parse('2026-03-01T00:00:00Z')
    const HOUR = 3_600_000
    const clock = new VirtualClock(START)
    await t.close()
    const worker = {
      name: 'worker',
      file: programFile('worker.ts'),
      now: [TEST_PAY],
      spec: '  timeout: 7d\n',
    }
    const own = [functionTool('test.pay', 'once', (args) => ({ id: paid.push(args) }))]
    t = await openTestKernel([worker], { tools: own, clock })
    const { id } = await t.kernel.invoke({ address: 'acme/worker/ann', method: 'pay', args: { to: 'bo' } })
    const before = await one()
    for (const hours of [16, 32, 48]) {
      clock.moveTo(START + hours * HOUR)
      await t.kernel.poll()
      const old = t
      t = await crashCopy(t, { tools: own, clock })
      await old.close()
      expect(await t.kernel.approvals.list()).toEqual([before])
      expect(await t.call('worker/ann', 'status', null)).toMatchObject({ ok: true })
      expect(await t.kernel.suspend('acme/worker/ann')).toBe(true)
      expect(t.kernel.stats().live).toBe(0)
    }
    expect(paid).toEqual([])
    await t.kernel.approvals.approve(before.id, before.digest, undefined, 'operator')
    await expect.poll(async () => (await t.kernel.result(id)).state).toBe('done')
    expect(paid).toEqual([{ to: 'bo' }])
  })

  it('ends with the time of its call, where that is shorter: then nobody can approve it', async () => {
    const START = Date.parse('2026-03-01T00:00:00Z')
    const clock = new VirtualClock(START)
    await t.close()
    const worker = {
      name: 'worker',
      file: programFile('worker.ts'),
      now: [TEST_PAY],
      spec: '  timeout: 1d\n',
    }
    const own = [functionTool('test.pay', 'once', (args) => ({ id: paid.push(args) }))]
    t = await openTestKernel([worker], { tools: own, clock })
    const { reply } = await t.kernel.invoke({ address: 'acme/worker/ann', method: 'pay', args: { to: 'bo' } })
    const before = await one()
    const approve = () => t.kernel.approvals.approve(before.id, before.digest, undefined, 'operator')
    clock.moveTo(START + 25 * 3_600_000)
    // At once: the call has ended, and its agent has not heard of that yet.
    await expect(approve()).rejects.toMatchObject({ code: 'AlreadyDecided' })
    expect(await reply).toMatchObject({ ok: false, error: { class: 'TimedOut' } })
    await expect(approve()).rejects.toMatchObject({ code: 'AlreadyDecided' })
    await t.kernel.poll()
    await expect(approve()).rejects.toMatchObject({ code: 'AlreadyDecided' })
    expect(paid).toEqual([])
  })

  it('is cut when the card under it sinks, whether its agent sleeps or not', async () => {
    const { reply } = await pay()
    await t.kernel.suspend('acme/boss/ann')
    expect(t.kernel.stats().live).toBe(0)
    await applyPrograms(t.kernel, [boss([READ, TALK])])
    expect(await reply).toMatchObject({ ok: true, value: { error: 'Refused', code: 'Cut' } })
    expect(await t.kernel.approvals.list()).toEqual([])
  })

  it('is cut when its agent reads what may not flow there', async () => {
    const { reply } = await pay()
    // `held` is shared, `tool` is not: another method reads meanwhile.
    await t.kernel.cards.confine({ target: 'acme/boss', flow: ['log', 'caller:*'] }, 'operator')
    expect(await reply).toMatchObject({ ok: true, value: { error: 'Refused', code: 'Cut' } })
    expect(paid).toEqual([])
  })
})

describe('a child of a card that asks, three levels down', () => {
  it('63: is still asked', async () => {
    const child = {
      keep: true,
      card: {
        now: [
          { tool: 'bank.pay', args: '*' },
          { tool: 'agent.*', resource: '*', method: '*' },
        ],
      },
    }
    const limits = (depth: number) => ({ ...child, card: { ...child.card, limits: { depth } } })
    await t.call('boss/ann', 'spawn', limits(3))
    await t.call('boss/ann.1', 'spawn', limits(2))
    await t.call('boss/ann.1.1', 'spawn', limits(1))
    const { reply, approval } = await pay('ann.1.1.1')
    expect(approval.ask).toEqual([['approver']])
    await t.kernel.approvals.approve(approval.id, approval.digest, undefined, 'operator')
    expect(await reply).toMatchObject({ ok: true, value: { ok: { id: 1 } } })
  })
})

describe('what the record says of it', () => {
  it('names who approved, and what cut it where nobody could', async () => {
    const first = await pay()
    await t.kernel.approvals.approve(first.approval.id, first.approval.digest, undefined, 'operator')
    await first.reply
    expect(await t.kernel.view.why(first.approval.effect)).toMatchObject({
      verdict: 'ask',
      approvals: [{ role: 'approver', by: 'operator' }],
    })
    const { reply, approval } = await pay('bob')
    await t.kernel.cards.confine({ target: 'acme/boss/bob', egress: ['nowhere.example'] }, 'it')
    expect(await reply).toMatchObject({ value: { code: 'Cut', by: 'flow' } })
    expect(await t.kernel.view.why(approval.effect)).toMatchObject({
      by: 'flow',
      code: 'Cut',
      grantedBy: expect.stringContaining('the host, where it confined it'),
    })
  })

  it('says of an answer that was kept from somebody outside why, and what it would have reached', async () => {
    await applyPrograms(t.kernel, [boss([PAY, READ.replace(', "caller:*"', ''), TALK])])
    const { id, reply } = await t.kernel.invoke({
      address: 'acme/boss/cem',
      method: 'tool',
      args: { name: 'db.read', args: {} },
    })
    expect(await reply).toMatchObject({ error: { code: 'WouldFlow' } })
    for (const ref of ['last', id])
      expect(await t.kernel.view.why(ref)).toMatchObject({
        effect: id,
        by: 'flow',
        code: 'WouldFlow',
        missing: ['caller:local'],
      })
    expect(JSON.stringify(await t.kernel.view.history('acme/boss/cem'))).toContain(
      `answered ${id}, which was kept back (`,
    )
    const heard = await t.kernel.invoke({ address: 'acme/boss/dan', method: 'held' })
    await heard.reply
    await expect(t.kernel.view.why(heard.id)).rejects.toMatchObject({ code: 'NoSuchEffect' })
  })
})
