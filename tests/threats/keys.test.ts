/** Threat 74: an address that exists a second time must not send the idempotency keys of the first. */
import fs from 'node:fs'
import path from 'node:path'
import { layout } from '@cardinal/kernel'
import { afterEach, expect, it } from 'vitest'
import {
  crashCopy,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
  tempFolder,
} from '../support/kernel.ts'

const worker = { name: 'worker', file: programFile('worker.ts'), now: ['{ tool: test.pay, args: "*" }'] }
const open: TestKernel[] = []
afterEach(async () => {
  for (const t of open.splice(0)) await t.close()
})

it('is given another key than the one before it on the same node, while a repeat after a crash has the same', async () => {
  const keys: string[] = []
  let free: () => void = () => {}
  const gate = new Promise<void>((resolve) => {
    free = resolve
  })
  const hanging = functionTool('test.pay', 'idempotent', async (_args, key) => {
    keys.push(key)
    await gate
  })
  const answering = functionTool('test.pay', 'idempotent', (_args, key) => keys.push(key))
  const first = await openTestKernel([worker], { tools: [hanging] })
  open.push(first)
  const call = { address: 'acme/worker/a', method: 'pay', args: { to: 'x' } }
  await first.kernel.invoke(call)
  while (keys.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))

  // The same life, gone on after a crash: the same key.
  const again = await crashCopy(first, { tools: [answering] })
  open.push(again)
  while (keys.length === 1) await new Promise((resolve) => setTimeout(resolve, 5))
  free()

  // Another life under the same address and the same node keys: another key.
  const data = tempFolder()
  fs.cpSync(layout(first.data).keys, path.join(data, 'keys'), { recursive: true })
  const recreated = await openTestKernel([worker], { tools: [answering] }, data)
  open.push(recreated)
  await (await recreated.kernel.invoke(call)).reply
  expect(keys).toHaveLength(3)
  expect(keys[1]).toBe(keys[0])
  expect(keys[2]).not.toBe(keys[0])
})
