import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { ownFunction } from './host-tool.ts'

const own = ownFunction(`let called = 0
module.exports = async ({ how, ms }, { signal }) => {
  called++
  if (how === 'count') return called
  if (how === 'float') Promise.reject(new Error('of nobody'))
  if (how === 'long') throw Object.assign(new Error('x'.repeat(1 << 20)), { notDone: true })
  await new Promise((resolve) => setTimeout(resolve, ms))
  return signal.aborted ? 'aborted' : 'done'
}`)
afterAll(() => own.close())
const never = new AbortController().signal
const call = (args: object, ms = 5000, signal: AbortSignal = never) =>
  own.call(args, { key: 'k' }, ms, signal)

describe("the operator's own code", () => {
  it('is not called for whoever has gone already, and says that nothing was done', async () => {
    const before = JSON.parse(await call({ how: 'count' }))
    await expect(call({ how: 'count' }, 5000, AbortSignal.abort())).rejects.toMatchObject({ notDone: true })
    expect(JSON.parse(await call({ how: 'count' }))).toBe(before + 1)
  })

  it('is told of a cancel while it is at work, and goes on with what else it does', async () => {
    const controller = new AbortController()
    const cancelled = call({ ms: 300 }, 5000, controller.signal)
    const other = call({ ms: 300 })
    controller.abort()
    await expect(cancelled).rejects.toMatchObject({ notDone: false })
    expect(JSON.parse(await other)).toBe('done')
  })

  it('rejects a promise that nobody waits for, and other calls are answered', async () => {
    const other = call({ ms: 200 })
    expect(JSON.parse(await call({ how: 'float', ms: 20 }))).toBe('done')
    expect(JSON.parse(await other)).toBe('done')
  })

  it('says why in a thousand characters at most', async () => {
    await expect(call({ how: 'long' })).rejects.toMatchObject({ message: 'x'.repeat(1000), notDone: true })
  })

  it('is not called any more once it is closed', async () => {
    const closed = ownFunction('module.exports = () => 1')
    await closed.close()
    await expect(closed.call({}, { key: 'k' }, 1000, never)).rejects.toMatchObject({ notDone: true })
  })

  it('keeps no process alive that has called it', () => {
    const file = path.join(import.meta.dirname, 'host-tool.ts')
    const code = `import { ownFunction } from ${JSON.stringify(file)}
console.log(await ownFunction('module.exports = () => 1').call({}, { key: 'k' }, 1000, new AbortController().signal))`
    const ran = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
      timeout: 15_000,
      encoding: 'utf8',
    })
    expect(ran).toMatchObject({ status: 0, stdout: '1\n' })
  })
})
