/**
 * What a tool is to the kernel: it translates arguments into a request that cards decide on, and
 * performs it. It sees neither the guest nor the log, so it can forge no receipt.
 */
import type { GrantDefaults, Request } from '@cardinal/cards'
import type { OpenSecret } from '@cardinal/secrets'
import type { NoteEgress } from './egress-way.ts'
import type { SecretBinding } from './secret-slot.ts'

/** What an effect takes from the budgets of its card and of all above it. */
interface Cost {
  readonly calls: number
  readonly bytesOut: number
  /** The most that a model may take. */
  readonly tokens?: number
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
  /** The code of a refusal: well-formed, and never allowed, whatever a card says. */
  readonly code?: string
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
  /** Whether further requests may be made for it: where middleware saw the first, it has not seen those. */
  readonly follows: boolean
  /** Decides a further request of the same effect: a redirect hop. Returns why not, or nothing; on record by then. */
  readonly decide: (request: Request) => Promise<WireError | undefined>
  /** Puts on record what a program of the tool asks of the world, as the tool's own card decided it. */
  readonly egress: NoteEgress
  /**
   * Opens the secret that the effect was decided for, or says why it cannot be had. It lives in this
   * attempt only: nothing of it goes into a receipt.
   */
  readonly secret: (ref: string) => Promise<OpenSecret | WireError>
  /** Notes what the other side calls this request, for whoever asks it about that later. */
  readonly upstream: (id: string) => void
  /** Notes that an answer held the secret. */
  readonly masked: (secret: OpenSecret) => void
  /** Puts what a service answered with into the vault; durable once it resolves. */
  readonly capture: (ref: string, value: string) => Promise<WireError | undefined>
  /** Shows whoever watches what has come so far; the agent has only the result. */
  readonly progress?: (text: string) => void
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

/** What an effect took of budgets, where it is less than was reserved. */
export interface Used {
  readonly tokens?: number
  /** Exact decimals by currency. */
  readonly spend?: Readonly<Record<string, string>>
}

export type Receipt =
  | { readonly ok: true; readonly value: unknown; readonly used?: Used }
  /** `spent`: what was reserved may have been spent all the same. */
  | { readonly ok: false; readonly error: WireError; readonly spent?: true }

/** Standing declarations of one agent type that shape its effects. */
export interface ToolSettings {
  /** Which requests carry an idempotency key, and in which header. */
  readonly idempotency: readonly {
    readonly host: string
    readonly method: readonly string[]
    readonly header: string
  }[]
  /** Handles of secrets, by the name that the program knows them by. */
  readonly secrets: Readonly<Record<string, SecretBinding>>
  /** A name may stand in the query more than once: whoever made the request bounded its parts before. */
  readonly repeats?: true
  /** The key of the agent, which names of secrets may hold. */
  readonly key: string
}

export interface Tool {
  readonly name: string
  readonly about: string
  readonly defaults: GrantDefaults
  /** Changes with whatever it does; left out: it is part of the node. */
  readonly version?: string
  /** JSON Schemas of what it takes and gives, where they are known. */
  readonly input?: object
  readonly output?: object
  /** Left out where it depends on the arguments. */
  readonly effect?: EffectClass
  /** Every place that arguments can be carried to; `{host}` is the host of the request, `{model}` the model that it names. */
  readonly sinks: readonly string[]
  /** Labels of what it answers. */
  readonly yields: readonly string[]
  translate(args: unknown, settings: ToolSettings): Translated | BadArguments
  /** Performs once. Never throws for what the world does; a throw is a defect of the tool. */
  perform(plan: unknown, attempt: Attempt): Promise<Receipt>
}
