/** What users of one node rely on, one sentence a test. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const worker = {
  name: 'worker',
  file: programFile('worker.ts'),
  now: ['{ tool: test.echo, args: "*" }', '{ tool: test.pay, args: { to: { len: 20 } } }'],
}
const paid: { to: unknown; key: string }[] = []
const tools = [
  functionTool('test.echo', 'read', (args) => args),
  functionTool('test.pay', 'once', (args, key) => {
    paid.push({ to: args.to, key })
    return { id: paid.length }
  }),
]

describe('an agent', () => {
  let t: TestKernel
  beforeAll(async () => {
    t = await openTestKernel([worker], { tools })
  })
  afterAll(() => t.close())

  it('keeps its fields from call to call, and is told its own address', async () => {
    await t.call('worker/a', 'echo', 1)
    await t.call('worker/a', 'echo', 2)
    expect(await t.call('worker/a', 'status')).toEqual({
      ok: true,
      value: { turns: 2, seen: 2, address: 'acme/worker/a', key: 'a' },
    })
  })

  it('draws other random numbers than its siblings and than itself in the turn before', async () => {
    const draws = await Promise.all(['r1', 'r2', 'r1'].map((key) => t.call(`worker/${key}`, 'random')))
    const values = draws.flatMap((d) => (d.ok ? (d.value as unknown[]).slice(0, 3) : []))
    expect(new Set(values).size).toBe(9)
  })

  it('answers the same request again with the same answer, and refuses the key for other arguments', async () => {
    const call = { address: 'acme/worker/k', method: 'echo', args: { x: 1 }, idempotencyKey: 'one' }
    const first = await t.kernel.invoke(call)
    const second = await t.kernel.invoke(call)
    expect(second.id).toBe(first.id)
    expect(await second.reply).toEqual({ ok: true, value: 1 })
    await expect(t.kernel.invoke({ ...call, args: { x: 2 } })).rejects.toMatchObject({
      class: 'Conflict',
      code: 'KeyReused',
    })
    expect(await (await t.kernel.invoke({ ...call, idempotencyKey: 'two' })).reply).toEqual({
      ok: true,
      value: 2,
    })
  })

  it('runs one invocation at a time, and a shared one beside it', async () => {
    const slow = await t.kernel.invoke({ address: 'acme/worker/serial', method: 'slow', args: { ms: 300 } })
    const behind = await t.kernel.invoke({ address: 'acme/worker/serial', method: 'echo', args: 1 })
    const order: string[] = []
    const all = [slow.reply.then(() => order.push('slow')), behind.reply.then(() => order.push('echo'))]
    expect(await t.call('worker/serial', 'status')).toMatchObject({ ok: true })
    expect(order).toEqual([])
    await Promise.all(all)
    expect(order).toEqual(['slow', 'echo'])
  })

  it('waits for an event from outside, and one that came early is not lost', async () => {
    const waiting = await t.kernel.invoke({
      address: 'acme/worker/e',
      method: 'waitFor',
      args: { name: 'go' },
    })
    await t.kernel.emit('acme/worker/e', 'go', { n: 1 })
    expect(await waiting.reply).toEqual({ ok: true, value: { n: 1 } })
    await t.kernel.emit('acme/worker/e', 'early', 7)
    expect(await t.call('worker/e', 'waitFor', { name: 'early' })).toEqual({ ok: true, value: 7 })
  })

  it('is told of a cancel at its next await, and goes on afterwards', async () => {
    const { id, reply } = await t.kernel.invoke({ address: 'acme/worker/c', method: 'caught' })
    await t.call('worker/c', 'status')
    await t.kernel.cancel(id, 'changed my mind')
    expect(await reply).toMatchObject({
      ok: false,
      error: { class: 'Cancelled', message: 'changed my mind' },
    })
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(await t.call('worker/c', 'status')).toMatchObject({ ok: true, value: { seen: 1 } })
    expect(await t.call('worker/c', 'echo', 1)).toMatchObject({ ok: true })
  })

  it('survives that two invocations which wait are cancelled while a third runs', async () => {
    const hold = await t.kernel.invoke({ address: 'acme/worker/q', method: 'slow', args: { ms: 60 } })
    const waiting = await Promise.all(
      [1, 2, 3].map((i) => t.kernel.invoke({ address: 'acme/worker/q', method: 'echo', args: i })),
    )
    await Promise.all(waiting.slice(0, 2).map(({ id }) => t.kernel.cancel(id, 'not needed')))
    expect(await hold.reply).toMatchObject({ ok: true })
    expect(await waiting[0]?.reply).toMatchObject({ ok: false, error: { class: 'Cancelled' } })
    expect(await waiting[2]?.reply).toEqual({ ok: true, value: 1 })
    expect((await t.kernel.replay('acme/worker/q')).turns).toBeGreaterThan(2)
  })

  it('gives ten requests with one key, sent at once, one invocation and one answer', async () => {
    const call = { address: 'acme/worker/same', method: 'echo', args: 1, idempotencyKey: 'k' }
    const begun = await Promise.all(Array.from({ length: 10 }, () => t.kernel.begin(call)))
    expect(new Set(begun.map((b) => b.id)).size).toBe(1)
    for (const { reply } of begun) expect(await reply).toEqual({ ok: true, value: 1 })
  })

  it('is suspended when quiet and resumes where it was, its timer included', async () => {
    await t.call('worker/s', 'echo', 1)
    await t.kernel.suspend('acme/worker/s')
    expect(t.kernel.stats().live).toBeLessThan(t.kernel.stats().agents + 1)
    const nap = await t.kernel.invoke({ address: 'acme/worker/s', method: 'nap', args: { ms: 400 } })
    await new Promise((resolve) => setTimeout(resolve, 100))
    await t.kernel.suspend('acme/worker/s')
    const result = await nap.reply
    expect(result.ok && (result.value as number) >= 400).toBe(true)
    expect(await t.call('worker/s', 'status')).toMatchObject({ ok: true, value: { turns: 1 } })
  })

  it('gives an in-flight effect no second performance when its key is the same after a restart', async () => {
    const keys = paid.map((p) => p.key)
    await t.call('worker/p', 'pay', { to: 'x' })
    await t.call('worker/p', 'pay', { to: 'x' })
    const fresh = paid.slice(keys.length).map((p) => p.key)
    expect(new Set(fresh).size).toBe(2)
  })

  it('refuses arguments that do not fit the method, and takes those that do', async () => {
    expect(await t.call('worker/v', 'strict', { n: 'x' })).toMatchObject({
      ok: false,
      error: { class: 'Malformed', code: 'BadArguments', message: expect.stringMatching(/\$\.n: /) },
    })
    expect(await t.call('worker/v', 'strict', { n: 3 })).toEqual({ ok: true, value: 3 })
  })

  it('has no method that it did not declare', async () => {
    await expect(t.call('worker/m', 'constructor')).rejects.toMatchObject({
      class: 'NotFound',
      code: 'NoSuchMethod',
    })
    await expect(t.call('nobody/m', 'echo')).rejects.toMatchObject({ class: 'NotFound', code: 'NoSuchType' })
  })
})

describe('a refusal', () => {
  let t: TestKernel
  beforeAll(async () => {
    t = await openTestKernel([worker], { tools })
  })
  afterAll(() => t.close())

  it('names card, grant and effect, and has a twin that is allowed', async () => {
    const before = paid.length
    const refused = await t.call('worker/r', 'ask', { tool: 'test.pay', args: { to: 'x'.repeat(21) } })
    expect(refused).toMatchObject({
      ok: true,
      value: { name: 'Refused', code: 'NoGrant', by: 'card', missing: { tool: 'test.pay' } },
    })
    expect(paid.length).toBe(before)
    const allowed = await t.call('worker/r', 'ask', { tool: 'test.pay', args: { to: 'x'.repeat(20) } })
    expect(allowed).toMatchObject({ ok: true, value: { value: { id: before + 1 } } })
    const why = await t.kernel.view.why('last')
    expect(why).toMatchObject({ verdict: 'refuse', tool: 'test.pay', nearest: { misses: ['args'] } })
    expect((refused as { value: { effect: string } }).value.effect).toBe(why.effect)
  })

  it('is recorded in the history, once', async () => {
    await t.call('worker/h', 'ask', { tool: 'no.such', args: {} })
    const lines = await t.kernel.view.history('acme/worker/h')
    expect(lines.flatMap((l) => l.effects ?? []).map((e) => e.verdict)).toEqual([
      'refused by card (NoSuchTool)',
    ])
  })

  it('outlasts a limit that is spent: the next call is refused by limit, the one before was not', async () => {
    const { file } = worker
    const { parseManifests } = await import('@cardinal/manifests')
    const { bundleProgram } = await import('@cardinal/sdk/bundle')
    const text = `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: limited }\nspec:\n  program: ${file}\n  card:\n    now:\n      - { tool: test.echo, args: "*" }\n    limits: { calls: 2 }\n`
    await t.kernel.apply(
      parseManifests(text, 'x.yaml', { isRange: () => true, defaultsOf: t.kernel.defaultsOf }),
      new Map([['acme/limited', await bundleProgram(file)]]),
    )
    const ask = () => t.call('limited/l', 'ask', { tool: 'test.echo', args: { value: 1 } })
    expect(await ask()).toMatchObject({ value: { value: { value: 1 } } })
    expect(await ask()).toMatchObject({ value: { value: { value: 1 } } })
    expect(await ask()).toMatchObject({ value: { name: 'Refused', code: 'BudgetSpent', by: 'limit' } })
  })
})
