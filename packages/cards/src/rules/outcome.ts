/** What an act comes to. A refusal is a value; it changes nothing but what its answer shows the asker. */

export interface Refusal {
  readonly ok: false
  readonly code: string
  readonly by?: string
  readonly missing?: unknown
}

export type Outcome<T = object> = ({ readonly ok: true } & T) | Refusal

export function no(code: string, missing?: unknown, by?: string): Refusal {
  return { ok: false, code, ...(by !== undefined && { by }), ...(missing !== undefined && { missing }) }
}

export const DONE: Outcome = { ok: true }
