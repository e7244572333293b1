/** The types that programs write against; they hold no code. */
import type { Grant } from './errors.ts'

export type Json = null | boolean | number | string | Json[] | { [k: string]: Json }
export type Duration = `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`
/** JSON Schema, or any Standard Schema (zod). */
export type Schema = { readonly [k: string]: unknown } | { readonly '~standard': unknown }

/** Declares one entry point of an agent. What is not declared cannot be called. */
export interface Method {
  readonly in?: Schema
  readonly out?: Schema
  readonly about?: string
  /** May run while another invocation awaits; turns never overlap. */
  readonly shared?: boolean
  readonly authority?: 'caller' | 'own'
  /** What callers may add to this agent by calling it; left out: nothing that costs it anything. */
  readonly admits?: Admits
}

/** Labels that may be added, and sinks that must remain; `"*"`: whatever it costs. */
export type Admits = '*' | { labels?: string[]; flow?: string[] }

export interface Ref {
  readonly address: string
}

/** A running effect: a promise of its result that can be cancelled. */
export interface Call<T> extends Promise<T> {
  readonly id: string
  cancel(why?: string): Promise<void>
}

export interface Opts {
  /** The card that it is done by; left out: the birth card. */
  via?: Card
  timeout?: Duration
  /** For calls of agents: the other one acts within this card. Left out: within the birth cards. */
  under?: Card
  /** Idempotency: a second call of the same method with the same key is the first one. */
  key?: string
  /** Sends after a durable delay, which no crash forgets. */
  after?: Duration
  /** Sends and does not wait for an answer. */
  detach?: boolean
  /** What the answer may add to this agent. */
  admits?: Admits
}

/** An agent as others call it: its address, and its methods as calls. */
export type Stub<A> = Ref & {
  [M in keyof A as A[M] extends (...args: never[]) => unknown ? M : never]: A[M] extends (
    input: infer I,
  ) => infer O
    ? (input: I, options?: Opts) => Call<Awaited<O>>
    : never
}

/** So many, or so many each day or month (UTC). */
type Limit<T> = T | { max: T; per: 'day' | 'month' }

export interface Limits {
  depth?: number
  /** Milliseconds since 1970, or a time as `2027-01-31T12:00:00Z`. */
  expires?: number | string
  calls?: Limit<number>
  /** What `declassify` may let out, all in all. */
  bits?: Limit<number>
  /** How often a person may be asked. */
  asks?: Limit<number>
  /** Agents alive below. */
  fanout?: number
  bytesOut?: Limit<number | string>
  tokens?: Limit<number>
  homeBytes?: Limit<number | string>
  logBytes?: Limit<number | string>
  /** Exact decimals by currency. */
  spend?: Record<string, Limit<string>>
}

/** How a card is narrowed. What is left out is the parent's; `only` is both bounds. */
export interface Narrow {
  only?: Grant[]
  now?: Grant[]
  ever?: Grant[]
  limits?: Limits
  /** Narrows what would be too wide, instead of refusing it. */
  clip?: boolean
}

/** What would be decided on a call. */
export interface Verdict {
  readonly verdict: 'allow' | 'ask' | 'refuse'
  readonly card?: string
  readonly ask?: string[][]
  readonly by?: string
  readonly code?: string
  readonly message?: string
  readonly missing?: Grant
  /** The grant that came nearest, and the dimensions in which it fell short. */
  readonly nearest?: { readonly grant: Grant; readonly misses: readonly string[] }
}

/** A card that another agent offers. Looking at it takes on what that agent had read. */
export interface Offer {
  readonly from: Ref
  readonly id: string
  preview(): Promise<{ now: Grant[]; ever: Grant[]; digest: string }>
  /** Takes the card, which binds this agent to its `ever` for good. `expect` is the digest of the preview. */
  accept(o: { expect: string; allowLoss?: boolean }): Promise<Card>
}

/** Narrowed by generated types; without them any tool takes and gives JSON. */
export interface Tools {
  // biome-ignore lint/suspicious/noExplicitAny: programs declare tools of any shape by merging into this interface
  [name: string]: { in: any; out: any }
}

/** An agent's own handle to a card. Its id is for people and confers nothing. */
export interface Card {
  readonly id: string
  tool<N extends keyof Tools>(name: N, args: Tools[N]['in'], o?: Opts): Call<Tools[N]['out']>
  readonly fetch: typeof fetch
  /** A narrower card of one's own. */
  derive(narrow: Narrow): Promise<Card>
  /** Offers a narrower card to another agent, which never tells whether it took it. */
  offer(to: Ref, narrow: Narrow): Promise<void>
  /** Gives up what the card allows; what it bound stays bound. */
  drop(): Promise<void>
  /** Kills a card that this agent minted, and all below it. */
  revoke(): Promise<void>
  /** What would be decided now, by this card; nothing happens. */
  explain(tool: string, args: Json): Promise<Verdict>
}

/** A tool as a program may offer it to a model. */
export interface ToolInfo {
  readonly name: string
  readonly about: string
  readonly effect?: 'read' | 'idempotent' | 'once'
  /** JSON Schemas. */
  readonly in: { readonly [k: string]: Json }
  readonly out?: { readonly [k: string]: Json }
  readonly sinks: readonly string[]
  readonly yields: readonly string[]
  /** As a command line says it. */
  readonly help: string
}

export type { Grant }
