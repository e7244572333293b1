/** Erasing one agent: what it takes away, from whom, and what a crash in the middle leaves to do. */
import fs from 'node:fs'
import path from 'node:path'
import { layout } from '@cardinal/kernel'
import type { Tool } from '@cardinal/tools'
import { afterEach, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const worker = { name: 'worker', file: programFile('worker.ts'), now: ['{ tool: test.echo, args: "*" }'] }
const tools = [functionTool('test.echo', 'read', (args) => args)]
const DESTROYED = 2
const RECORD = 96

let t: TestKernel
afterEach(() => t.close())

/** How many key records are destroyed, by their first byte. */
function destroyed(): number {
  const slots = fs.readFileSync(path.join(layout(t.data).keys, 'slots'))
  let count = 0
  for (let at = 0; at < slots.length; at += RECORD) if (slots[at] === DESTROYED) count++
  return count
}

describe('erasing an agent', () => {
  it('ends what is open with `Stopped`, now and after a restart, and leaves its neighbour waiting', async () => {
    t = await openTestKernel([worker], { tools })
    const call = { method: 'waitFor', args: { name: 'go' } }
    const gone = await t.kernel.invoke({ address: 'acme/worker/gone', ...call })
    const kept = await t.kernel.invoke({ address: 'acme/worker/kept', ...call })
    await t.kernel.erase('acme/worker/gone')
    const stopped = { ok: false, error: { class: 'Stopped', code: 'KeyDestroyed' } }
    expect(await gone.reply).toMatchObject(stopped)
    t = await t.reopen()
    expect(await t.kernel.result(gone.id)).toMatchObject({ state: 'failed', reply: stopped })
    await expect(t.call('worker/gone', 'status')).rejects.toMatchObject({ code: 'KeyDestroyed' })
    await t.kernel.emit('acme/worker/kept', 'go', 1)
    const found = await t.kernel.result(kept.id)
    expect(found.reply ?? (await found.pending)).toEqual({ ok: true, value: 1 })
  })

  it('works on one that sleeps, once', async () => {
    t = await openTestKernel([worker], { tools })
    await t.call('worker/a', 'echo', 1)
    await t.kernel.suspend('acme/worker/a')
    await t.kernel.erase('acme/worker/a')
    expect(destroyed()).toBe(1)
    expect(await t.kernel.view.agent('acme/worker/a')).toMatchObject({ state: 'erased' })
    await expect(t.kernel.erase('acme/worker/a')).rejects.toMatchObject({ code: 'KeyDestroyed' })
    await expect(t.kernel.erase('acme/worker/nobody')).rejects.toMatchObject({ code: 'NoSuchAgent' })
    expect(destroyed()).toBe(1)
  })

  it('takes back an effect whose turn was not durable yet, and keeps the log whole', async () => {
    let sent = 0
    let erasing: Promise<void> | undefined
    const echo = functionTool('test.echo', 'read', () => ++sent)
    const crashPoint = (name: string) => {
      if (name === 'turn.appended') erasing ??= t.kernel.erase('acme/worker/a')
    }
    t = await openTestKernel([worker], { tools: [echo], crashPoint })
    const begun = await t.kernel.invoke({ address: 'acme/worker/a', method: 'echo', args: 1 })
    expect(await begun.reply).toMatchObject({ ok: false, error: { code: 'KeyDestroyed' } })
    await erasing
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(sent).toBe(0)
    t = await t.reopen({ crashPoint: () => {} })
    expect(await t.call('worker/b', 'echo', 1)).toEqual({ ok: true, value: 1 })
    expect(sent).toBe(1)
  })

  it('is not written behind by a tool that begins late', async () => {
    let began = 0
    const late: Tool = {
      ...functionTool('test.echo', 'once', () => null),
      perform: async (_plan, attempt) => {
        began++
        await new Promise((resolve) => setTimeout(resolve, 60))
        await attempt.started()
        return { ok: true, value: null }
      },
    }
    t = await openTestKernel([worker], { tools: [late] })
    const begun = await t.kernel.invoke({ address: 'acme/worker/a', method: 'echo', args: 1 })
    begun.reply.catch(() => {})
    while (began === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    await t.kernel.erase('acme/worker/a')
    await new Promise((resolve) => setTimeout(resolve, 100))
    t = await t.reopen()
    expect(await t.kernel.view.agent('acme/worker/a')).toMatchObject({ state: 'erased' })
  })

  for (const point of ['erase.durable', 'erase.destroyed']) {
    it(`is ended by the next start when the node dies at ${point}`, async () => {
      let armed = true
      const crashPoint = (name: string) => {
        if (armed && name === point) throw new Error(`died at ${name}`)
      }
      t = await openTestKernel([worker], { tools, crashPoint })
      await t.call('worker/a', 'echo', 'secret')
      await t.call('worker/b', 'echo', 'other')
      await expect(t.kernel.erase('acme/worker/a')).rejects.toThrow(/died/)
      expect(destroyed()).toBe(point === 'erase.durable' ? 0 : 1)
      armed = false
      t = await t.reopen()
      expect(destroyed()).toBe(1)
      expect(await t.kernel.view.agent('acme/worker/a')).toMatchObject({ state: 'erased' })
      await expect(t.kernel.view.history('acme/worker/a')).rejects.toMatchObject({ code: 'KeyDestroyed' })
      expect(await t.call('worker/b', 'status')).toMatchObject({ ok: true, value: { turns: 1 } })
    })
  }
})
