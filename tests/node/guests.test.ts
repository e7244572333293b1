/** Threats 46 to 49: what a hostile program does to its node. Each is answered, recorded and undone. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const program = { name: 'hostile', file: programFile('hostile.ts'), now: ['{ tool: test.echo, args: "*" }'] }
const worker = { name: 'worker', file: programFile('worker.ts'), now: ['{ tool: test.echo, args: "*" }'] }
const tools = [functionTool('test.echo', 'read', (args) => args)]
const limits = { fuel: 2_000_000_000, memory: 64 << 20 }

/** What stops each method. The state it changed before that is gone afterwards. */
const undone: Record<string, string[]> = {
  loop: ['OutOfFuel'],
  allocate: ['OutOfFuel', 'Thrown'],
  flood: ['TooManyEffects'],
  rejected: ['UnhandledRejection'],
  substring: ['OutOfFuel'],
  bigints: ['OutOfFuel', 'Thrown'],
  nested: ['OutOfFuel'],
  sparse: ['OutOfFuel', 'Thrown'],
  regexp: ['OutOfFuel'],
  microtasks: ['OutOfFuel'],
  logFlood: ['TooManyLogs'],
  bigOutput: ['OutputTooLarge'],
  handles: ['OutOfFuel', 'Thrown'],
  promiseBomb: ['OutOfFuel', 'Thrown', 'OutOfMemory', 'Trap', 'UnhandledRejection', 'Exception'],
  fillBytes: ['OutOfFuel'],
  fillSparse: ['OutOfFuel', 'Thrown', 'OutOfMemory'],
  strings: ['OutOfFuel', 'Thrown', 'OutOfMemory'],
  timers: ['OutOfFuel', 'TooManyEffects', 'OutputTooLarge'],
  sql: ['SqlSteps', 'HomeFull', 'Thrown'],
}

describe('a hostile program', () => {
  let t: TestKernel
  let slow: TestKernel
  beforeAll(async () => {
    t = await openTestKernel([program, worker], { tools, limits })
    slow = await openTestKernel([program, worker], { tools, limits, compiler: 'quick' })
  })
  afterAll(async () => {
    await t.close()
    await slow.close()
  })

  for (const [method, codes] of Object.entries(undone)) {
    it(`${method} ends with a typed error, the same under two compilers, and its turn is undone`, async () => {
      await t.call(`hostile/${method}`, 'good')
      const first = await t.call(`hostile/${method}`, method)
      const again = await t.call(`hostile/${method}-2`, method)
      const other = await slow.call(`hostile/${method}`, method)
      expect(first.ok).toBe(false)
      if (first.ok || again.ok || other.ok) throw new Error('a hostile turn succeeded')
      expect(codes).toContain(first.error.code)
      expect([again.error.code, other.error.code]).toEqual([first.error.code, first.error.code])
      // A thrown error is an answer and keeps its state; a failed turn is undone.
      if (first.error.code !== 'Thrown')
        expect(await t.call(`hostile/${method}`, 'count')).toEqual({ ok: true, value: 1 })
      expect(await t.call(`hostile/${method}`, 'good')).toMatchObject({ ok: true })
      expect((await t.kernel.replay(`acme/hostile/${method}`)).turns).toBeGreaterThan(0)
    })
  }

  for (const [method, code] of [
    ['throws', 'Thrown'],
    ['garbage', 'NotJson'],
    ['cyclic', 'NotJson'],
    ['recurse', 'Thrown'],
    ['proxies', 'Thrown'],
  ] as const) {
    it(`${method} is answered with ${code}, and the agent goes on`, async () => {
      expect(await t.call('hostile/answers', method)).toMatchObject({ ok: false, error: { code } })
      expect(await t.call('hostile/answers', 'good')).toMatchObject({ ok: true })
    })
  }

  it('poisons prototypes without reaching its own effects, its replies or another agent', async () => {
    expect(await t.call('hostile/poison', 'poison')).toEqual({ ok: true, value: 'poisoned' })
    expect(await t.call('hostile/clean', 'good')).toEqual({ ok: true, value: 1 })
    const after = await t.call('hostile/poison', 'count')
    expect(after.ok ? after.value : after.error.class).toBe(0)
  })

  it('finds nothing of the host, by name or by a constructed function', async () => {
    expect(await t.call('hostile/globals', 'globals')).toEqual({ ok: true, value: [] })
    expect(await t.call('hostile/globals', 'constructorEscape')).toEqual({
      ok: true,
      value: 'undefined'.repeat(4),
    })
  })

  it('is not polluted through its arguments', async () => {
    const args = JSON.parse('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}')
    expect(await t.call('hostile/args', 'polluted', args)).toEqual({
      ok: true,
      value: { own: ['__proto__', 'constructor'], inherited: null },
    })
  })

  it('does not stop its neighbours while it spins', async () => {
    await t.call('worker/neighbour', 'echo', 0)
    const answered: string[] = []
    const spinning = t.call('hostile/spin', 'loop').then((reply) => {
      answered.push('spinner')
      expect(reply).toMatchObject({ ok: false, error: { code: 'OutOfFuel' } })
    })
    expect(await t.call('worker/neighbour', 'echo', 1)).toMatchObject({ ok: true })
    answered.push('neighbour')
    await spinning
    expect(answered).toEqual(['neighbour', 'spinner'])
  })
})
