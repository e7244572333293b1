/** Power cuts, small; the full sweep is `npm run soak`. */
import { describe, expect, it } from 'vitest'
import { newSeed } from '../support/seed.ts'
import { powerSweep } from './power-sweep.ts'

describe('a node that loses power', () => {
  it('loses no acknowledged invocation and pays nothing twice, whatever was not synced', {
    timeout: 300_000,
  }, async () => {
    const seed = newSeed()
    const result = await powerSweep({ seed, cuts: 10 })
    expect(result.problems, `SEED=${seed}`).toEqual([])
    expect(result.cuts).toBe(10)
    expect(result.lostSectors).toBeGreaterThan(0)
    expect(result.lostRenames).toBeGreaterThan(0)
  })

  it('would be found out if it left out the sync of its batches', { timeout: 300_000 }, async () => {
    const seed = newSeed()
    const result = await powerSweep({ seed, cuts: 20, skipSync: 'batch' })
    expect(result.problems.length, `SEED=${seed}`).toBeGreaterThan(0)
  })

  it('would be found out if it left out the sync of a new segment’s name', { timeout: 300_000 }, async () => {
    const seed = newSeed()
    // The name is safe once the folder is synced for any reason, so each cut comes to a fresh one.
    const result = await powerSweep({ seed, cuts: 20, cutsARound: 1, skipSync: 'folder' })
    expect(result.problems.length, `SEED=${seed}`).toBeGreaterThan(0)
  })
})
