/**
 * Middleware stands between an effect and the world, on the host's side: it may change what goes out,
 * refuse it, answer in its place, make it wait or ask a person; and it sees what comes back before the agent
 * does. It holds no authority: what it sends on is decided again, and it sees neither log nor secret.
 */
import type { EffectClass, Receipt } from '@cardinal/tools'
import type { Budget } from './declaration.ts'

/** One effect on its way out. */
export interface Call {
  readonly tool: string
  /** Any JSON. */
  readonly args: unknown
  readonly effectClass: EffectClass
  readonly tenant: string
  readonly type: string
  readonly key: string
  /** `tenant/type/key@turn.index`. */
  readonly effect: string
  /** The card that it is done by. */
  readonly card: string
  /** The version of the secret that it carries; undefined: none, or one that cannot be told from others. */
  readonly secret: { readonly carried: boolean; readonly version: number | undefined }
  readonly nowMs: number
}

/** What one middleware makes of a call. */
export type Step =
  | { readonly do: 'pass' }
  | { readonly do: 'rewrite'; readonly args: unknown }
  | { readonly do: 'refuse'; readonly code: string; readonly message: string; readonly retryAfterMs?: number }
  /** `read`: it tells of the world as the tool itself would, and binds whoever has it. */
  | { readonly do: 'answer'; readonly receipt: Receipt; readonly read: boolean }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'ask'; readonly roles: readonly string[]; readonly expiresMs?: number }

/** What one middleware makes of a result: the value that goes on, or why none does. */
export type Back = { readonly value: unknown } | { readonly withhold: string }

/** How often an attempt that failed is made again, and how long it waits between. */
export interface Retry {
  readonly times: number
  readonly firstMs: number
  readonly mostMs: number
}

export interface Middleware {
  readonly name: string
  /** Changes with whatever it does. */
  readonly digest: string
  request?(call: Call, signal: AbortSignal): Step | Promise<Step>
  /** Of what was performed or answered, before the agent has it. */
  response?(call: Call, value: unknown, signal: AbortSignal): Back | Promise<Back>
  /** Told of every end, and changes nothing. */
  ended?(call: Call, receipt: Receipt): void
  readonly retry?: Retry
  /** What the decision on exactly what goes out takes, and its receipt gives back. */
  readonly budget?: Budget
  /** It reaches out of the node itself: what it is shown must be durable. */
  readonly leaves?: true
}
