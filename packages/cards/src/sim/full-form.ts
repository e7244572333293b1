/** Bounds in full form: every dimension that is not absent, and labels, flow and ask always. */
import type { Bound } from '../bound.ts'
import { showFlow } from '../flow.ts'
import { type Grant, showGrant } from '../grant.ts'

export function showFullBound(bound: Bound): Grant[] {
  return bound
    .map((box): [string, Grant] => {
      const { labels: _l, flow: _f, ask: _a, ...dimensions } = showGrant(box)
      const full: Grant = {
        ...dimensions,
        labels: box.labels === '*' ? '*' : [...box.labels].sort(),
        flow: showFlow(box.flow),
        ask: [...box.ask].sort(),
      }
      return [JSON.stringify(full), full]
    })
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([, full]) => full)
}
