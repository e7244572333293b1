/** Middleware as a manifest declares it: where it stands, and exactly one thing that it does. */
import type { AnswerSchema } from '@cardinal/tools'
import type { OwnComponent } from './component.ts'

export interface MiddlewareDeclaration {
  readonly name: string
  /** Tools that it stands before, as in grants; left out: only those of agents whose manifests name it. */
  readonly tools?: readonly string[] | undefined
  /** Lower ones stand farther out; 100 if left out. */
  readonly order?: number | undefined
  readonly redact?:
    | { readonly args?: readonly Redaction[] | undefined; readonly answer?: readonly Redaction[] | undefined }
    | undefined
  readonly rateLimit?: RateLimit | undefined
  readonly budget?: Budget | undefined
  readonly retry?: { readonly times: number; readonly firstMs: number; readonly mostMs: number } | undefined
  readonly cache?: { readonly forMs: number } | undefined
  readonly schema?:
    | { readonly args?: AnswerSchema | undefined; readonly answer?: AnswerSchema | undefined }
    | undefined
  readonly dryRun?: { readonly answer: unknown } | undefined
  readonly approval?: Approval | undefined
  readonly guardrail?: Guardrail | undefined
  readonly audit?: Record<string, never> | undefined
  /** A customer's component. */
  readonly wasm?: OwnComponent | undefined
  readonly module?: { readonly name: string; readonly with?: unknown } | undefined
}

export interface Redaction {
  /** `**` if left out: everywhere. */
  readonly path?: string | undefined
  /** In the syntax of RE2; left out with `known`: the whole value. */
  readonly pattern?: string | undefined
  readonly known?: Known | undefined
  readonly with?: string | undefined
}

export type Known = 'email' | 'iban' | 'card' | 'phone'

export interface RateLimit {
  readonly calls: number
  readonly perMs: number
  readonly by: 'agent' | 'type' | 'tenant'
  /** What is beyond waits, so long at most; left out: it is told when to come back. */
  readonly waitMs?: number | undefined
}

export interface Budget {
  readonly by: 'agent' | 'type' | 'tenant'
  /** In UTC. */
  readonly per: 'day' | 'month'
  /** By what is counted, as in the limits of cards: whole units as texts. */
  readonly most: Readonly<Record<string, string>>
}

export interface Approval {
  readonly roles: readonly string[]
  /** So many different people in the one role. */
  readonly people?: number | undefined
  readonly expiresMs?: number | undefined
  /** Only where an argument is at least so much, or is one of these. */
  readonly when?:
    | {
        readonly arg: string
        readonly atLeast?: string | undefined
        readonly in?: readonly (string | number | boolean)[] | undefined
      }
    | undefined
}

export interface Guardrail {
  /** Posted `{when, tool, args}` or `{when, tool, args, value}`; answers `{allow, reason}`. */
  readonly url: string
  readonly on: readonly ('request' | 'response')[]
}
