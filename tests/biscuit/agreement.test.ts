/** Cards, their tokens and the reference agree; the sweep in soak asks 7,000 requests. */
import { expect, it } from 'vitest'
import { agreement } from './agreement.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))

it(`a token allows exactly what its chain of cards allows, by us and by biscuit-wasm (SEED=${seed})`, async () => {
  const { allowed, refused, problems } = await agreement(seed, 30, () => {})
  expect(problems).toEqual([])
  expect(allowed + refused).toBe(30 * 20 * 2)
  // Neither answer is rare, or the agreement would say little.
  expect(Math.min(allowed, refused)).toBeGreaterThan(150)
})
