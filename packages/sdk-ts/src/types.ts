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
}

export interface Ref {
  readonly address: string
}

/** A running effect: a promise of its result that can be cancelled. */
export interface Call<T> extends Promise<T> {
  readonly id: string
  cancel(why?: string): Promise<void>
}

export interface Opts {
  via?: Card
  timeout?: Duration
}

/** Narrowed by generated types; without them any tool takes and gives JSON. */
export interface Tools {
  // biome-ignore lint/suspicious/noExplicitAny: programs declare tools of any shape by merging into this interface
  [name: string]: { in: any; out: any }
}

/** An agent's own handle to a card. It is a number for the kernel and confers nothing by itself. */
export interface Card {
  readonly id: string
  tool<N extends keyof Tools>(name: N, args: Tools[N]['in'], o?: Opts): Call<Tools[N]['out']>
  readonly fetch: typeof fetch
}

export type { Grant }
