/** Answers as callers get them. */

/** The end of an invocation as its caller gets it. */
export type Reply =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: ReplyError }

export interface ReplyError {
  readonly class: string
  readonly code: string
  readonly message: string
  readonly effect?: string
  /** Of a refusal: what stood against it, and what would have allowed it. */
  readonly by?: string
  readonly missing?: unknown
  readonly stack?: string
}
