/** The outcome of an effect as its agent will see it. */
import type { Receipt } from '@cardinal/tools'
import type { OpenEffect } from './state.ts'
import { receiptEvent } from './wire.ts'

const MAX_EVENT_BYTES = 6 << 20
/** Whoever reads JSON reads any depth of it; writing it takes as much of the stack. */
const MAX_DEPTH = 500

/** Without recursion, since the value is anybody's. */
function isDeeper(value: unknown, most: number): boolean {
  let level: unknown[] = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > most) return true
    const next: unknown[] = []
    for (const one of level)
      if (typeof one === 'object' && one !== null) for (const below of Object.values(one)) next.push(below)
    level = next
  }
  return false
}

/** The bytes that the guest will see. An outcome too large for an entry becomes the error that says so. */
export function encodeOutcome(
  address: string,
  effect: OpenEffect,
  receipt: Receipt,
): { event: Buffer; outcome: Receipt } {
  const outcome: Receipt = receipt.ok
    ? receipt
    : { ok: false, error: { ...receipt.error, effect: `${address}@${effect.id}` } }
  const isDeep = receipt.ok && isDeeper(receipt.value, MAX_DEPTH)
  const event = isDeep ? undefined : receiptEvent(effect.cid, outcome)
  if (event && event.length <= MAX_EVENT_BYTES) return { event, outcome }
  const cls = effect.class === 'read' ? ('Unavailable' as const) : ('Withheld' as const)
  const message = isDeep
    ? `an outcome that is nested more than ${MAX_DEPTH} deep`
    : `an outcome of more than ${MAX_EVENT_BYTES} bytes`
  return encodeOutcome(address, effect, {
    ok: false,
    error: { class: cls, code: 'AnswerTooLarge', message },
  })
}

export function cancelledReceipt(): Receipt {
  return {
    ok: false,
    error: { class: 'Cancelled', code: 'Cancelled', message: 'cancelled before it was sent' },
  }
}
