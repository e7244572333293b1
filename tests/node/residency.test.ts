/** Who is awake: caps that hold, and nobody's work thrown out for another's. */
import fs from 'node:fs'
import path from 'node:path'
import { layout, VirtualClock } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile } from '../support/kernel.ts'

const crowd = (tenant = 'acme') => ({
  tenant,
  name: 'crowd',
  file: programFile('crowd.ts'),
  now: ['{ tool: "test.*", args: "*" }'],
})

it('a working set larger than the cap is served whole, and the cap holds', async () => {
  const t = await openTestKernel([crowd()], { maxLive: 16, idleMs: 60_000 })
  let most = 0
  for (let round = 1; round <= 4; round++) {
    const replies = await Promise.all(
      Array.from({ length: 64 }, async (_, i) => {
        const reply = await t.call(`crowd/k${i}`, 'count')
        most = Math.max(most, t.kernel.stats().live)
        return reply
      }),
    )
    expect(replies.every((reply) => reply.ok && reply.value === round)).toBe(true)
  }
  // Whoever wakes or is born has room before: never one more, however many come at once.
  expect(most).toBeGreaterThan(8)
  expect(most).toBeLessThanOrEqual(16)
  await t.close()
})

it('whoever wakes while everybody is at work is told to come again, and is served once somebody rests', async () => {
  let letGo: () => void = () => {}
  const held = new Promise<null>((resolve) => (letGo = () => resolve(null)))
  const t = await openTestKernel([crowd()], {
    maxLive: 2,
    idleMs: 60_000,
    tools: [functionTool('test.hold', 'read', () => held)],
  })
  const busy = [t.call('crowd/a', 'hold'), t.call('crowd/b', 'hold')]
  await expect.poll(() => t.kernel.stats().live).toBe(2)
  await expect(t.call('crowd/c', 'count')).rejects.toMatchObject({
    class: 'Busy',
    code: 'Busy',
    message: expect.stringMatching(/everybody awake is at work: `live` is 2, set for the node/),
  })
  letGo()
  for (const reply of await Promise.all(busy)) expect(reply).toMatchObject({ ok: true })
  expect(await t.call('crowd/c', 'count')).toEqual({ ok: true, value: 1 })
  await t.close()
}, 30_000)

it('what is set for a tenant bounds its agents and no others', async () => {
  const t = await openTestKernel([crowd(), crowd('other')], { idleMs: 60_000 })
  const text = 'apiVersion: cardinal/v1\nkind: Limits\nmetadata: { tenant: acme }\nspec: { live: 4 }\n'
  const options = { isRange: () => true, defaultsOf: t.kernel.defaultsOf }
  await t.kernel.apply(parseManifests(text, 'limits.yaml', options), new Map())
  for (let i = 0; i < 12; i++) await t.call(`crowd/k${i}`, 'count')
  expect(t.kernel.stats().live).toBe(4)
  for (let i = 0; i < 12; i++) await t.call(`other/crowd/k${i}`, 'count')
  expect(t.kernel.stats().live).toBe(16)
  await t.close()
})

it('agents of a tenant whose turns spin make room as others do: nobody waits for the end of those turns', async () => {
  const t = await openTestKernel([crowd(), crowd('spinning')], {
    maxLive: 8,
    idleMs: 60_000,
    limits: { fuel: 4_000_000_000 },
  })
  for (let i = 0; i < 4; i++) await t.call(`spinning/crowd/quiet${i}`, 'count')
  let spinning = 4
  const spins = Array.from({ length: spinning }, async (_, i) => {
    await t.call(`spinning/crowd/s${i}`, 'spin', { rounds: 1e12 })
    spinning--
  })
  await expect.poll(() => t.kernel.stats().live).toBeGreaterThanOrEqual(7)
  for (let i = 0; i < 4; i++) expect(await t.call(`crowd/k${i}`, 'count')).toEqual({ ok: true, value: 1 })
  expect(spinning).toBe(4)
  await Promise.all(spins)
  for (let i = 0; i < 4; i++)
    expect(await t.call(`spinning/crowd/quiet${i}`, 'count')).toEqual({ ok: true, value: 2 })
  await t.close()
}, 120_000)

it('whoever comes due is woken though others spin and more of them wait than the engine takes', async () => {
  const t = await openTestKernel([crowd(), crowd('spinning')], { idleMs: 0, limits: { fuel: 4_000_000_000 } })
  // More than are woken at a time.
  const naps = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      t.kernel.invoke({ address: `acme/crowd/nap${i}`, method: 'nap', args: { ms: 1000 } }),
    ),
  )
  await expect.poll(() => t.kernel.stats().live).toBe(0)
  let spinning = 24
  const spins = Array.from({ length: spinning }, async (_, i) => {
    await t.call(`spinning/crowd/s${i}`, 'spin', { rounds: 1e12 })
    spinning--
  })
  for (const { reply } of naps) expect(await reply).toEqual({ ok: true, value: 1 })
  expect(spinning).toBeGreaterThan(8)
  await Promise.all(spins)
  await t.close()
}, 60_000)

it('two thousand that are due at once all run, each once, and whoever calls meanwhile is answered', async () => {
  const clock = new VirtualClock(Date.now())
  const t = await openTestKernel([crowd()], { clock, idleMs: 0 })
  const many = 2000
  const waits = await Promise.all(
    Array.from({ length: many }, (_, i) =>
      t.kernel.invoke({ address: `acme/crowd/t${i}`, method: 'nap', args: { ms: 60_000 } }),
    ),
  )
  await expect.poll(() => t.kernel.stats().live, { timeout: 20_000 }).toBe(0)
  clock.moveTo(clock.nowMs() + 60_001)
  const drained = t.kernel.poll()
  expect(await t.call('crowd/visitor', 'count')).toEqual({ ok: true, value: 1 })
  expect(t.kernel.overdue()).toBeGreaterThan(0)
  await drained
  const replies = await Promise.all(waits.map(({ reply }) => reply))
  expect(replies.every((reply) => reply.ok && reply.value === 1)).toBe(true)
  await expect.poll(() => t.kernel.overdue()).toBe(0)
  await t.close()
}, 60_000)

it('a start reads the end of the log, whatever lies before; and all of it where rows are of another log', async () => {
  let t = await openTestKernel([crowd()], { segmentBytes: 1 << 20, idleMs: 0 })
  for (let i = 0; i < 40; i++)
    await Promise.all(
      Array.from({ length: 50 }, (_, k) => t.call(`crowd/k${k}`, 'say', { text: 'x'.repeat(500) })),
    )
  await t.kernel.close()
  const { log, derived } = layout(t.data)
  const segments = fs
    .readdirSync(log)
    .filter((name) => name.endsWith('.seg'))
    .sort()
  expect(segments.length).toBeGreaterThan(3)
  // Bytes that only a reader of everything sees.
  const second = path.join(log, segments[1] as string)
  const clean = fs.readFileSync(second)
  const altered = Buffer.from(clean)
  altered[altered.length >> 1] = (altered[altered.length >> 1] as number) ^ 1
  fs.writeFileSync(second, altered)
  t = await openTestKernel([], { segmentBytes: 1 << 20 }, t.data)
  expect(await t.call('crowd/k1', 'count')).toEqual({ ok: true, value: 1 })
  await t.kernel.close()
  for (const end of ['', '-wal', '-shm']) fs.rmSync(derived + end, { force: true })
  await expect(openTestKernel([], { segmentBytes: 1 << 20 }, t.data)).rejects.toMatchObject({
    code: 'LogCorrupt',
  })
  fs.writeFileSync(second, clean)
  t = await openTestKernel([], { segmentBytes: 1 << 20 }, t.data)
  expect(await t.call('crowd/k1', 'count')).toEqual({ ok: true, value: 2 })
  await t.close()
}, 60_000)

it('a thousand agents that are made, run and destroyed leave no descriptor, mapping or thread', async () => {
  const t = await openTestKernel([crowd()], {
    idleMs: 60_000,
    tools: [functionTool('test.echo', 'read', (args) => args)],
  })
  const held = () => ({
    descriptors: fs.readdirSync('/proc/self/fd').length,
    mappings: fs.readFileSync('/proc/self/maps', 'utf8').split('\n').length,
    threads: fs.readdirSync('/proc/self/task').length,
  })
  const cycles = async (from: number, count: number) => {
    for (let i = from; i < from + count; i += 20)
      await Promise.all(
        Array.from({ length: 20 }, async (_, k) => {
          await t.call(`crowd/c${i + k}`, 'ask')
          await t.kernel.erase(`acme/crowd/c${i + k}`)
        }),
      )
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
  await cycles(0, 300)
  const before = held()
  await cycles(300, 1000)
  const after = held()
  expect(t.kernel.stats().live).toBe(0)
  expect(after.descriptors - before.descriptors).toBeLessThanOrEqual(2)
  expect(after.threads - before.threads).toBeLessThanOrEqual(2)
  // Three for each that stays would be three thousand.
  expect(after.mappings - before.mappings).toBeLessThanOrEqual(100)
  await t.close()
}, 120_000)
