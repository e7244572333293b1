/**
 * Answers a read as it was answered before. Kept for one agent and one card, and for one version of the
 * secret that the request carried: who could not ask is not answered, and neither is who can no longer.
 */
import { LRUCache } from 'lru-cache'
import type { Call, Middleware } from './middleware.ts'

const MAX_BYTES = 32 << 20

export function cache({ forMs }: { readonly forMs: number }): Omit<Middleware, 'name' | 'digest'> {
  const kept = new LRUCache<string, { text: string; untilMs: number }>({
    maxSize: MAX_BYTES,
    sizeCalculation: ({ text }, key) => text.length + key.length + 1,
  })
  return {
    request: (call) => {
      const found = mayKeep(call) ? kept.get(keyOf(call)) : undefined
      if (!found || found.untilMs <= call.nowMs) return { do: 'pass' }
      return { do: 'answer', receipt: { ok: true, value: JSON.parse(found.text) }, read: true }
    },
    response: (call, value) => {
      if (mayKeep(call)) {
        const text = JSON.stringify(value)
        // One that is too large for the whole cache is not kept.
        if (text.length < MAX_BYTES / 8) kept.set(keyOf(call), { text, untilMs: call.nowMs + forMs })
      }
      return { value }
    },
  }
}

function mayKeep({ effectClass, secret }: Call): boolean {
  return effectClass === 'read' && (!secret.carried || secret.version !== undefined)
}

function keyOf({ tool, args, tenant, type, key, card, secret }: Call): string {
  return JSON.stringify([tool, args, tenant, type, key, card, secret.version ?? 0])
}
