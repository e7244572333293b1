/**
 * What a tool is to the kernel: it translates arguments into a request that cards decide on, and
 * performs it. It sees neither the guest nor the log, so it can forge no receipt.
 */
import type { GrantDefaults, Request } from '@cardinal/cards'

/** What an effect takes from the budgets of its card and of all above it. */
interface Cost {
  readonly calls: number
  readonly bytesOut: number
  /** Exact decimals by currency: reserved before, and given back if it is proven not to have been done. */
  readonly spend?: Readonly<Record<string, string>>
}

/** How an effect may be repeated: freely, with the same key, or never. */
export type EffectClass = 'read' | 'idempotent' | 'once'

/** An effect as it will go out; `plan` is the tool's own and is made anew from the arguments after a crash. */
export interface Translated {
  readonly request: Request
  readonly cost: Cost
  readonly effectClass: EffectClass
  readonly plan: unknown
}

/** Arguments that are no request of this tool. */
export interface BadArguments {
  readonly bad: string
}

export interface Attempt {
  readonly idempotencyKey: string
  /** Resolves once it is on record that the attempt begins; a `once` effect waits for it, then and not before anything leaves. */
  readonly started: () => Promise<void>
  /**
   * Resolves once the outcome of this attempt is on record. What bounds how many attempts run at a
   * time is given back then and not before, or a crash could leave more in doubt than ran.
   */
  readonly recorded: Promise<void>
  /** Decides a further request of the same effect: a redirect hop. Returns why not, or nothing. */
  readonly decide: (request: Request) => WireError | undefined
  readonly signal: AbortSignal
}

/** The shape in which errors reach a guest. */
export interface WireError {
  readonly class:
    | 'Refused'
    | 'Unavailable'
    | 'Indeterminate'
    | 'Withheld'
    | 'Malformed'
    | 'Cancelled'
    | 'Stopped'
  readonly code: string
  readonly message: string
  readonly effect?: string
  readonly by?: string
  readonly missing?: unknown
  readonly retryAfterMs?: number
}

export type Receipt =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: WireError }

/** Standing declarations of one agent type that shape its effects. */
export interface ToolSettings {
  /** Which requests carry an idempotency key, and in which header. */
  readonly idempotency: readonly {
    readonly host: string
    readonly method: readonly string[]
    readonly header: string
  }[]
}

export interface Tool {
  readonly name: string
  readonly about: string
  readonly defaults: GrantDefaults
  /** Every place that arguments can be carried to; `{host}` is the host of the request. */
  readonly sinks: readonly string[]
  /** Labels of what it answers. */
  readonly yields: readonly string[]
  translate(args: unknown, settings: ToolSettings): Translated | BadArguments
  /** Performs once. Never throws for what the world does; a throw is a defect of the tool. */
  perform(plan: unknown, attempt: Attempt): Promise<Receipt>
}
