import { afterAll, describe, expect, it } from 'vitest'
import type { Call } from './middleware.ts'
import { ModuleHost } from './module-host.ts'

const signal = new AbortController().signal
const call = { tool: 'bank.pay', args: { amount: 1 } } as unknown as Call
const hosts: ModuleHost[] = []
const host = (code: string) => {
  const made = new ModuleHost(code)
  hosts.push(made)
  return made
}
afterAll(() => Promise.all(hosts.map((one) => one.close())))

describe("an operator's module", () => {
  it('is given the call and its configuration, and what it gives goes on', async () => {
    const own = host(`module.exports.default = {
      request: (call, config) => call.args.amount > config.most ? { do: 'refuse', code: 'TooMuch', message: 'no' } : { do: 'pass' },
      response: async (call, value) => ({ value: { ...value, seen: call.tool } }),
    }`)
    expect(await own.make({ most: 1 }).request?.(call, signal)).toEqual({ do: 'pass' })
    expect(await own.make({ most: 0 }).request?.(call, signal)).toMatchObject({
      do: 'refuse',
      code: 'TooMuch',
    })
    expect(await own.make({}).response?.(call, { id: 1 }, signal)).toEqual({
      value: { id: 1, seen: 'bank.pay' },
    })
  })

  it('fails its call where it throws, and goes on', async () => {
    const own = host(
      `let n = 0; exports.request = () => { if (n++ === 0) throw new Error('once'); return { do: 'pass' } }`,
    )
    await expect(own.make(null).request?.(call, signal)).rejects.toThrow('once')
    expect(await own.make(null).request?.(call, signal)).toEqual({ do: 'pass' })
  })

  it.each([
    ['spins', 'for (;;);'],
    ['takes all memory', 'const all = []; for (;;) all.push(new Array(1e6).fill(all.length))'],
    ['ends its process', 'process.exit(0)'],
  ])(
    'fails what it was asked where it %s, and is there again for the next',
    { timeout: 30_000 },
    async (_what, act) => {
      const own = host(`exports.request = (call) => { if (call.args.bad) { ${act} } return { do: 'pass' } }`)
      const bad = { ...call, args: { bad: true } } as unknown as Call
      await expect(own.make(null).request?.(bad, signal)).rejects.toThrow()
      expect(await own.make(null).request?.(call, signal)).toEqual({ do: 'pass' })
    },
  )

  it('has a digest of its code', () => {
    expect(host('exports.a = 1').digest).not.toBe(host('exports.a = 2').digest)
    expect(host('exports.a = 1').digest).toBe(host('exports.a = 1').digest)
  })
})
