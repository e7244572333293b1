/** Receipts of what was not done, or of which nobody knows. */
import type { Receipt, WireError } from './tool.ts'

export function failed(cls: WireError['class'], code: string, message: string): Receipt {
  return { ok: false, error: { class: cls, code, message } }
}

/** By the host, whatever a card says. */
export function refused(code: string, message: string): Receipt {
  return { ok: false, error: { class: 'Refused', code, by: 'middleware', message } }
}
