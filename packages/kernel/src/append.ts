/** Writing one entry of a chain: to the log, and to the queue of derived state behind it. */
import { type Log, type PayloadKey, sizeOfEntry, type Tip } from '@cardinal/oplog'
import type { Context } from './context.ts'

/** Where entries go; a `Context` is one. */
export type Sink = Pick<Context, 'derived' | 'clock'> & { readonly log: Pick<Log, 'append'> }

/**
 * Appends an entry after `prev` and returns the chain's new tip. It is durable only once the log
 * says so; after a crash before that it never was.
 */
export function appendEntry(
  { log, derived, clock }: Sink,
  { birth, key }: { readonly birth: Buffer; readonly key?: PayloadKey },
  prev: Tip,
  kind: string,
  meta: unknown,
  payloads: readonly Buffer[],
): Tip {
  const text = JSON.stringify(meta)
  const timeMs = clock.nowMs()
  const tip = log.append({ agent: birth, tip: prev, kind, timeMs, meta: text, payloads, ...(key && { key }) })
  const { pos, seq, hash } = tip
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
  derived.push({ pos, hash, header, bytes: sizeOfEntry(kind, text, payloads) })
  return tip
}
