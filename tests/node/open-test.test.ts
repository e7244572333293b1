/** `openTest`, as a user of the SDK tests a program. */
import { openTest } from '@cardinal/sdk/testing'
import { afterEach, expect, it } from 'vitest'
import { programFile } from '../support/kernel.ts'

let t: Awaited<ReturnType<typeof openTest>> | undefined
afterEach(() => t?.close())

it('runs a program on a real kernel with functions for tools, days in a moment, and through a crash', async () => {
  const paid: unknown[] = []
  const card = { now: [{ tool: 'test.pay', args: { to: { len: 10 } } }] }
  t = await openTest({
    program: programFile('worker.ts'),
    card,
    tools: { 'test.pay': (args) => ({ id: paid.push(args) }) },
  })
  expect(await t.invoke('pay', { to: 'DE89' })).toEqual({ id: 1 })
  expect(await t.invoke('ask', { tool: 'test.pay', args: { to: 'far too long' } })).toMatchObject({
    name: 'Refused',
  })
  const nap = await t.start('nap', { ms: 30 * 86_400_000 })
  await t.advance('29d')
  await t.advance('1d')
  expect(await nap.result).toBe(30 * 86_400_000)
  await t.crash()
  expect(await t.invoke('status')).toMatchObject({ key: 'test' })
  expect(paid).toEqual([{ to: 'DE89' }])
  expect((await t.history()).filter((l) => l.kind === 'receipt').length).toBe(2)
})
