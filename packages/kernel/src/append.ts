/** Writing one entry of an agent: to the log, and to the queue of derived state behind it. */
import type { Tip } from '@cardinal/oplog'
import type { Context } from './context.ts'
import type { Identity } from './replay.ts'

/**
 * Appends an entry after `prev` and returns the agent's new tip. It is durable only once the log
 * says so; after a crash before that it never was.
 */
export function appendEntry(
  ctx: Context,
  { birth, key }: Pick<Identity, 'birth' | 'key'>,
  prev: Tip,
  kind: string,
  meta: unknown,
  payloads: readonly Buffer[],
): Tip {
  const text = JSON.stringify(meta)
  const timeMs = ctx.clock.nowMs()
  const tip = ctx.log.append({ agent: birth, tip: prev, kind, timeMs, meta: text, payloads, key })
  const { seq } = tip
  const header = {
    agent: birth,
    seq,
    prev: prev.pos,
    timeMs,
    prevHash: prev.hash,
    kind,
    meta: text,
    digests: [],
  }
  ctx.derived.push({ pos: tip.pos, hash: tip.hash, header })
  return tip
}
