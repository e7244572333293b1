/** A bound: a finite union of boxes, kept as an antichain. */
import { type Box, boxHas, boxLeq, boxMeet, boxMisses, type Dimension, type Request } from './box.ts'
import { CardError } from './errors.ts'

export type Bound = readonly Box[]

export const MAX_CARD_BOXES = 64
export const MAX_CEILING_BOXES = 1024
const MAX_PAIRS = 1024

/** Drops every box that lies in another. */
export function normalise(boxes: Bound): Bound {
  const kept: Box[] = []
  for (const box of boxes) {
    if (kept.some((k) => boxLeq(box, k))) continue
    for (let i = kept.length - 1; i >= 0; i--) if (boxLeq(kept[i] as Box, box)) kept.splice(i, 1)
    kept.push(box)
  }
  return kept
}

/** Whether every box of `a` lies in one box of `b`. */
export function leq(a: Bound, b: Bound): boolean {
  return a.every((x) => b.some((y) => boxLeq(x, y)))
}

/** What both allow. `TooManyGrants` if neither lies in the other and more than `pairs` pairs have something in common. */
export function meet(a: Bound, b: Bound, pairs: number = MAX_PAIRS): Bound {
  if (leq(a, b)) return a
  if (leq(b, a)) return b
  const both: Box[] = []
  for (const x of a) {
    for (const y of b) {
      const common = boxMeet(x, y)
      if (!common) continue
      both.push(common)
      if (both.length > pairs) throw new CardError('TooManyGrants', '', `a meet of more than ${pairs} grants`)
    }
  }
  return normalise(both)
}

/** Whether some box holds the request. */
export function has(bound: Bound, q: Request): boolean {
  return bound.some((box) => boxHas(box, q))
}

/** The box that comes nearest to holding the request, and in what it falls short; undefined for an empty bound. */
export function nearest(bound: Bound, q: Request): { index: number; misses: Dimension[] } | undefined {
  let best: { index: number; misses: Dimension[] } | undefined
  bound.forEach((box, index) => {
    const misses = boxMisses(box, q)
    // A grant of another tool is never near, however little else it asks.
    const distance = misses.length + (misses.includes('tool') ? 100 : 0)
    const bestDistance = best
      ? best.misses.length + (best.misses.includes('tool') ? 100 : 0)
      : Number.POSITIVE_INFINITY
    if (distance < bestDistance) best = { index, misses }
  })
  return best
}
