/** The outcome of an effect as its agent will see it. */
import type { Receipt } from '@cardinal/tools'
import type { OpenEffect } from './state.ts'
import { receiptEvent } from './wire.ts'

const MAX_EVENT_BYTES = 6 << 20

/** The bytes that the guest will see. An outcome too large for an entry becomes the error that says so. */
export function encodeOutcome(
  address: string,
  effect: OpenEffect,
  receipt: Receipt,
): { event: Buffer; outcome: Receipt } {
  const outcome: Receipt = receipt.ok
    ? receipt
    : { ok: false, error: { ...receipt.error, effect: `${address}@${effect.id}` } }
  const event = receiptEvent(effect.cid, outcome)
  if (event.length <= MAX_EVENT_BYTES) return { event, outcome }
  const cls = effect.class === 'read' ? ('Unavailable' as const) : ('Withheld' as const)
  const message = `an outcome of more than ${MAX_EVENT_BYTES} bytes`
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
