/** Kills and power cuts while a crowd is saved, put to sleep and woken, small; the full sweep is `npm run soak`. */
import { describe, expect, it } from 'vitest'
import { newSeed } from '../support/seed.ts'
import { crowdSweep } from './crowd-sweep.ts'

describe('a node on which many come and go', () => {
  it('loses nothing and does nothing twice when it is killed', { timeout: 300_000 }, async () => {
    const seed = newSeed()
    const result = await crowdSweep({ seed, ends: 6, power: false })
    expect(result.problems, `SEED=${seed}`).toEqual([])
    expect(result.ends).toBe(6)
  })

  it('loses nothing and does nothing twice when its power is cut', { timeout: 300_000 }, async () => {
    const seed = newSeed()
    const result = await crowdSweep({ seed, ends: 6, power: true })
    expect(result.problems, `SEED=${seed}`).toEqual([])
    expect(result.lostSectors).toBeGreaterThan(0)
  })

  it('would be found out if it left out the sync of its batches', { timeout: 300_000 }, async () => {
    const seed = newSeed()
    const result = await crowdSweep({ seed, ends: 24, power: true, skipSync: 'batch' })
    expect(result.problems.length, `SEED=${seed}`).toBeGreaterThan(0)
  })
})
