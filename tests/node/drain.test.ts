/** Another version of the kernel: it repeats nothing that ran on the one before, and says of whom. */
import fs from 'node:fs'
import { layout } from '@cardinal/kernel'
import { expect, it } from 'vitest'
import { KEEPER } from '../sql/keeper.ts'
import { crashCopy, functionTool, openTestKernel, programFile } from '../support/kernel.ts'

const crowd = { name: 'crowd', file: programFile('crowd.ts'), now: ['{ tool: "test.*", args: "*" }'] }
const never = new Promise<null>(() => {})
const hold = functionTool('test.hold', 'idempotent', () => never)
const answers = functionTool('test.hold', 'idempotent', () => null)
const other = { runsOn: { engine: 'wasmtime-99/host-7' } }
const insert = { steps: [{ exec: 'create table if not exists t(n); insert into t values (1)' }] }

/** One that was called, one with rows, one whose effect is out, and one that waits for a time. */
async function withTails() {
  const t = await openTestKernel([crowd, KEEPER], { tools: [hold], idleMs: 0 })
  expect(await t.call('crowd/plain', 'count')).toEqual({ ok: true, value: 1 })
  expect(await t.call('keeper/rows', 'do', insert)).toMatchObject({ ok: true })
  const { id } = await t.kernel.invoke({ address: 'acme/crowd/out', method: 'hold' })
  await t.kernel.invoke({ address: 'acme/crowd/nap', method: 'nap', args: { ms: 3_600_000 } })
  await expect.poll(() => t.kernel.stats().live).toBe(1)
  return { t, id }
}

const callAll = (t: { call: (agent: string, method: string, args?: unknown) => Promise<unknown> }) =>
  Promise.all([
    t.call('crowd/plain', 'count'),
    t.call('keeper/rows', 'do', insert),
    t.call('crowd/nap', 'count'),
  ])

it('whoever has turns to repeat is refused by name by another engine, and goes on under the same', async () => {
  const t = await openTestKernel([crowd], { idleMs: 600_000 })
  await t.call('crowd/plain', 'count')
  const same = await crashCopy(t, {})
  expect(await same.call('crowd/plain', 'count')).toEqual({ ok: true, value: 2 })
  await same.close()
  const changed = await crashCopy(t, other)
  await expect(changed.call('crowd/plain', 'count')).rejects.toMatchObject({
    class: 'Unavailable',
    code: 'OtherEngine',
    message: expect.stringMatching(
      /`acme\/crowd\/plain` has turns .* on the engine wasmtime-48.*; this is wasmtime-99.*run `cardinal drain`/,
    ),
  })
  // Nobody else is touched by it, and nothing was changed.
  expect(await changed.call('crowd/new', 'count')).toEqual({ ok: true, value: 1 })
  const back = await changed.reopen({ runsOn: {} })
  expect(await back.call('crowd/plain', 'count')).toEqual({ ok: true, value: 2 })
  // What the other one ran is the other one's: it stopped in order, so none of it is repeated.
  expect(await back.call('crowd/new', 'count')).toEqual({ ok: true, value: 2 })
  await back.close()
  await t.close()
})

it('what was saved outlives rows that are made anew: another build, with another engine, repeats nothing', async () => {
  const t = await openTestKernel([crowd], { idleMs: 0 })
  await t.call('crowd/plain', 'count')
  await expect.poll(() => t.kernel.stats().live).toBe(0)
  await t.call('crowd/wiped', 'count')
  await t.kernel.wipe('acme/crowd/wiped', 'it')
  await t.call('crowd/wiped', 'count')
  await t.call('crowd/wiped', 'count')
  await expect.poll(() => t.kernel.stats().live).toBe(0)
  await t.kernel.close()
  for (const end of ['', '-wal', '-shm']) fs.rmSync(layout(t.data).derived + end, { force: true })
  const after = await openTestKernel([], other, t.data)
  expect(await after.call('crowd/plain', 'count')).toEqual({ ok: true, value: 2 })
  expect(await after.call('crowd/wiped', 'count')).toEqual({ ok: true, value: 3 })
  await after.kernel.close()
  // Its twin, without what was saved, is refused.
  for (const end of ['', '-wal', '-shm']) fs.rmSync(layout(t.data).saves + end, { force: true })
  const bare = await openTestKernel([], other, t.data)
  await expect(bare.call('crowd/plain', 'count')).rejects.toMatchObject({ code: 'OtherEngine' })
  await bare.close()
})

it('one that cannot be saved is named by a drain, and those behind it are saved', async () => {
  const t = await openTestKernel([crowd], { idleMs: 600_000 })
  for (const key of ['a', 'b', 'c']) await t.call(`crowd/${key}`, 'count')
  const copy = await crashCopy(t, other)
  await copy.call('crowd/d', 'count')
  const { saved, left } = await copy.kernel.drain()
  expect(saved).toBe(1)
  expect(left.map(({ agent }) => agent).sort()).toEqual(['acme/crowd/a', 'acme/crowd/b', 'acme/crowd/c'])
  for (const { why } of left) expect(why).toMatch(/run `cardinal drain`/)
  await copy.close()
  await t.close()
})

it('after a drain, and after an end in order, another engine has nothing to repeat, whoever waits for what', async () => {
  const { t, id } = await withTails()
  // As after a kill: those that sleep have been saved, and more has come since.
  const killed = await crashCopy(t, { tools: [hold], idleMs: 600_000 })
  expect(await callAll(killed)).toMatchObject([{ ok: true, value: 2 }, { ok: true }, { ok: true, value: 1 }])
  const undrained = await crashCopy(killed, { tools: [answers], ...other })
  await expect(callAll(undrained)).rejects.toMatchObject({ code: 'OtherEngine' })
  await undrained.close()

  const { left, next } = await killed.kernel.drain()
  expect({ left, next }).toEqual({ left: [], next: undefined })
  const drained = await crashCopy(killed, { tools: [answers], ...other })
  expect(await callAll(drained)).toMatchObject([{ ok: true, value: 3 }, { ok: true }, { ok: true, value: 2 }])
  // What was out is performed again under its key, and answered.
  const result = await drained.kernel.result(id)
  expect(result.reply ?? (await result.pending)).toEqual({ ok: true, value: 1 })
  await drained.close()

  // Ended in order, with an effect still out.
  const ended = await killed.reopen({ tools: [answers], ...other })
  expect(await callAll(ended)).toMatchObject([{ ok: true, value: 3 }, { ok: true }, { ok: true, value: 2 }])
  const again = await ended.kernel.result(id)
  expect(again.reply ?? (await again.pending)).toEqual({ ok: true, value: 1 })
  await ended.close()
  await t.close()
}, 60_000)
