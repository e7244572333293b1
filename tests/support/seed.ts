/** Randomness of tests: a new seed each run, printed, and taken from `SEED` to repeat a failure. */

export function newSeed(): number {
  return Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
}

/** A small generator (mulberry32), so that a seed means the same everywhere. */
export function rng(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
