/** SQL in a home answers as it always did: asleep or awake, and as plain SQLite does. */
import { describe, expect, it } from 'vitest'
import { openTestKernel } from '../support/kernel.ts'
import { agree } from './agreement.ts'
import { KEEPER } from './keeper.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))

describe(`random SQL (SEED=${seed})`, () => {
  for (const kind of ['agreeing', 'all'] as const)
    it(`is answered the same asleep and awake${kind === 'agreeing' ? ', and as plain SQLite answers it' : ', whatever it tries'}`, async () => {
      const t = await openTestKernel([KEEPER], { limits: { sql: 200_000 } })
      try {
        const done = await agree(t, seed, kind, Number(process.env.STATEMENTS ?? 600))
        expect(done.problem).toBeUndefined()
        expect(done.errors.size).toBeGreaterThan(5)
        for (const who of ['sleeper', 'waker'])
          expect((await t.kernel.replay(`acme/keeper/${who}-${seed}`)).turns).toBe(done.turns - done.failed)
      } finally {
        await t.close()
      }
    }, 120_000)
})
