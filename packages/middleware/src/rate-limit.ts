/** So many calls in a time, for an agent, a type or a tenant. Kept in memory: a restart begins anew. */
import { LRUCache } from 'lru-cache'
import { whose } from './budget.ts'
import type { RateLimit } from './declaration.ts'
import type { Middleware } from './middleware.ts'

/** Windows that are kept at once; whoever was not heard of for longest is forgotten. */
const MAX_WINDOWS = 100_000

export function rateLimit({ calls, perMs, by, waitMs = 0 }: RateLimit): Omit<Middleware, 'name' | 'digest'> {
  /** When the last of the calls that were let through would be due if they came evenly (GCRA). */
  const due = new LRUCache<string, number>({ max: MAX_WINDOWS })
  const each = perMs / calls
  return {
    request: (call) => {
      const key = `${call.tool} ${whose(call, by)}`
      const next = Math.max(due.get(key) ?? 0, call.nowMs) + each
      const early = next - call.nowMs - perMs
      if (early > waitMs)
        return {
          do: 'refuse',
          code: 'RateLimited',
          message: `more than ${calls} calls in ${perMs} ms`,
          retryAfterMs: Math.ceil(early),
        }
      due.set(key, next)
      return early > 0 ? Promise.resolve({ do: 'wait', ms: Math.ceil(early) } as const) : { do: 'pass' }
    },
  }
}
