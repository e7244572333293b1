/** Threats 18, 46, 48 and 49, each with a twin that differs in one fact and is allowed. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const paid: unknown[] = []
const sly = {
  name: 'sly',
  file: programFile('sly.ts'),
  now: ['{ tool: test.echo, args: "*" }', '{ tool: test.pay, args: { to: [alice] } }'],
}
const tools = [
  functionTool('test.echo', 'read', (args) => args),
  functionTool('test.pay', 'once', (args) => {
    paid.push(args.to)
    return { paid: args.to }
  }),
]
const POLLUTED = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'

describe('a sly program', () => {
  let t: TestKernel
  beforeAll(async () => {
    t = await openTestKernel([sly], { tools, limits: { fuel: 2_000_000_000, memory: 64 << 20 } })
  })
  afterAll(() => t.close())

  async function goesOn(key: string): Promise<void> {
    expect(await t.call(`sly/${key}`, 'good')).toMatchObject({ ok: true })
    expect((await t.kernel.replay(`acme/sly/${key}`)).turns).toBeGreaterThan(0)
  }

  it('gets a mapped stack for a plain error, and no host object through a stack hook', async () => {
    const plain = await t.call('sly/plain', 'thrown')
    expect(plain).toMatchObject({ ok: false, error: { code: 'Thrown', message: 'Error: plain' } })
    expect(plain.ok ? '' : plain.error.stack).toMatch(/sly\.ts:\d+/)
    const hooked = await t.call('sly/hook', 'errorHook')
    expect(hooked).toMatchObject({ ok: false, error: { code: 'Thrown', message: 'Error: hooked' } })
    expect(typeof (hooked.ok ? '' : (hooked.error.stack ?? ''))).toBe('string')
    await goesOn('hook')
  })

  it('is undone when the stack of what it rejected never ends', async () => {
    expect(await t.call('sly/stack', 'good')).toEqual({ ok: true, value: 1 })
    expect(await t.call('sly/stack', 'loopingStack')).toMatchObject({
      ok: false,
      error: { code: 'OutOfFuel' },
    })
    expect(await t.call('sly/stack', 'good')).toEqual({ ok: true, value: 2 })
  })

  it('makes arrays of its own species for itself alone', async () => {
    expect(await t.call('sly/species', 'species')).toEqual({
      ok: true,
      value: { list: [2, 4, 6], made: true },
    })
    await goesOn('species')
  })

  it('may answer with a thenable, which is awaited like any promise, and fails with one that throws', async () => {
    expect(await t.call('sly/then', 'thenable')).toEqual({
      ok: true,
      value: JSON.parse('{"then":"text","n":1}'),
    })
    expect(await t.call('sly/then', 'throwingThen')).toMatchObject({
      ok: false,
      error: { code: 'Thrown', message: 'Error: then was read' },
    })
    await goesOn('then')
  })

  it('changes by a JSON hook what it says itself, and nothing of the frame around it', async () => {
    expect(await t.call('sly/json', 'jsonHook')).toEqual({ ok: true, value: 'replaced' })
    const gone = await t.call('sly/gone', 'jsonGone')
    expect(gone).toMatchObject({ ok: false })
    expect(await t.call('sly/other', 'good')).toEqual({ ok: true, value: 1 })
  })

  it('18: is decided and performed by one reading of its arguments, whatever a getter says next', async () => {
    const before = paid.length
    expect(await t.call('sly/flip', 'flipping', { first: 'mallory', later: 'alice' })).toEqual({
      ok: true,
      value: { refused: 'NoGrant' },
    })
    expect(paid.length).toBe(before)
    expect(await t.call('sly/flip', 'flipping', { first: 'alice', later: 'mallory' })).toEqual({
      ok: true,
      value: { paid: 'alice' },
    })
    expect(paid.slice(before)).toEqual(['alice'])
  })

  it('reaches nothing by eval or a made function but its own world', async () => {
    expect(await t.call('sly/reach', 'reach')).toEqual({
      ok: true,
      value: { found: [], sum: 2, made: 'undefinedundefined' },
    })
  })

  it('imports nothing at run time', async () => {
    for (const name of ['node:fs', 'fs', 'std', './sly.ts', 'https://example.com/x.js', '']) {
      expect(await t.call('sly/import', 'importing', { name }), name).toMatchObject({
        ok: false,
        error: { code: 'Thrown' },
      })
    }
    await goesOn('import')
  })

  it('cannot register another program in its place', async () => {
    expect(await t.call('sly/register', 'registering')).toMatchObject({
      ok: false,
      error: { code: 'Thrown', message: expect.stringMatching(/registered once/) },
    })
    await goesOn('register')
  })

  it('is not polluted through arguments, through what a tool answers, or through an event', async () => {
    const args = JSON.parse(POLLUTED)
    expect(await t.call('sly/args', 'fields', args)).toMatchObject({ ok: true, value: { polluted: null } })
    const asked = await t.call('sly/args', 'ask', { args })
    expect(asked).toMatchObject({ ok: true, value: { polluted: null, keys: ['__proto__', 'constructor'] } })
    await t.kernel.emit('acme/sly/args', '__proto__', args)
    expect(await t.call('sly/args', 'fields', { plain: 1 })).toEqual({
      ok: true,
      value: { polluted: null, args: { plain: 1 } },
    })
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  })

  it('has no method, and no agent has a key, by the name of an object’s own machinery', async () => {
    for (const method of ['__proto__', 'constructor', 'toString', 'then', 'hasOwnProperty'])
      await expect(t.call('sly/m', method), method).rejects.toMatchObject({ code: 'NoSuchMethod' })
    expect(await t.call('sly/__proto__', 'good')).toEqual({ ok: true, value: 1 })
    expect(await t.call('sly/constructor', 'good')).toEqual({ ok: true, value: 1 })
    await expect(t.call('__proto__/x', 'good')).rejects.toMatchObject({ class: expect.any(String) })
  })
})
