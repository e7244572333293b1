import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compareAmounts } from './amount.ts'
import type { Call, Step } from './middleware.ts'
import { rateLimit } from './rate-limit.ts'

const signal = new AbortController().signal
const at = (nowMs: number, key = 'a') => ({ tool: 't', tenant: 'acme', type: 'x', key, nowMs }) as Call

describe('a rate limit', () => {
  /** However calls come: in no window of its length are there twice as many as it lets through at once, and never more at once. */
  it('lets no more through than it says', () => {
    const gaps = fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 200 })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10 }), gaps, (calls, waits) => {
        const perMs = 1000
        const limit = rateLimit({ calls, perMs, by: 'agent' })
        const passed: number[] = []
        let now = 0
        for (const wait of waits) {
          now += wait
          const step = limit.request?.(at(now), signal) as Step
          if (step.do === 'pass') passed.push(now)
          // Who comes back when it was told to is let through.
          else
            expect(
              limit.request?.(at(now + ((step as { retryAfterMs?: number }).retryAfterMs ?? 0)), signal),
            ).toMatchObject({ do: 'pass' })
          if (step.do !== 'pass') return
        }
        for (const from of passed)
          expect(passed.filter((ms) => ms >= from && ms <= from + perMs).length).toBeLessThanOrEqual(
            calls * 2,
          )
      }),
    )
  })

  it('lets so many through at once, and then one each time that its share has passed', () => {
    const limit = rateLimit({ calls: 3, perMs: 300, by: 'agent' })
    const pass = (nowMs: number, key?: string) =>
      (limit.request?.(at(nowMs, key), signal) as Step | undefined)?.do === 'pass'
    expect([pass(0), pass(0), pass(0), pass(0), pass(0, 'b'), pass(100), pass(100)]).toEqual([
      true,
      true,
      true,
      false,
      true,
      true,
      false,
    ])
  })
})

describe('amounts', () => {
  it.each([
    ['0.10', '0.1', 0],
    ['9007199254740993', '9007199254740992', 1],
    [99.99, '100', -1],
    ['-1', '0', -1],
    ['1e3', '1', undefined],
    [{}, '1', undefined],
  ])('%s and %s compare as %s', (a, b, order) => {
    expect(compareAmounts(a, b)).toBe(order)
  })
})
