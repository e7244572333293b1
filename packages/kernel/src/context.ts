/** What every part of a running node shares. Made once, by `node.ts`. */
import type { Engine } from '@cardinal/engine'
import { hmacSha256, type KeySlots, type Log } from '@cardinal/oplog'
import type { Tool } from '@cardinal/tools'
import type { Admission } from './admission.ts'
import type { Authority } from './authority.ts'
import type { Chains } from './chains.ts'
import type { Clock, Timer } from './clock.ts'
import type { Control } from './control.ts'
import type { Derived } from './derived.ts'
import type { Homes } from './homes.ts'
import type { HostSecrets } from './host-secrets.ts'
import type { Images } from './images.ts'
import type { Limits } from './limits.ts'
import type { MemoryFiles } from './memory-files.ts'
import type { Meters } from './meters.ts'
import type { Pace } from './pace.ts'
import type { Progress } from './progress.ts'
import type { RunsOn } from './runs-on.ts'
import type { Waits } from './waits.ts'

export interface Context {
  readonly log: Log
  readonly derived: Derived
  readonly engine: Engine
  readonly images: Images
  readonly homes: Homes
  readonly memoryFiles: MemoryFiles
  readonly secrets: HostSecrets
  readonly control: Control
  readonly authority: Authority
  readonly chains: Chains
  readonly meters: Meters
  readonly waits: Waits
  readonly slots: KeySlots
  /** The tool of this name that a tenant's agents have: the kernel's own, or one that is declared for the tenant. */
  readonly findTool: (tenant: string, name: string) => Tool | undefined
  /** All tools that a tenant's agents could have. */
  readonly toolsOf: (tenant: string) => Tool[]
  /** Whether an agent's end is on record, by its address. */
  readonly isStopped: (agent: string) => boolean
  readonly clock: Clock
  readonly limits: Limits
  readonly admission: Admission
  /** What turns run on here. */
  readonly runsOn: RunsOn
  /** Seeds turns and idempotency keys; never leaves the kernel. */
  readonly secret: Buffer
  /** Called at every point where a crash must do no harm; tests end the process here. */
  readonly crashPoint: (name: string) => void
  readonly onTurn: (event: TurnEvent) => void
  /** Told what an operator should know, and nobody else need. */
  readonly onNotice: (text: string) => void
  readonly progress: Progress
  readonly pace: Pace
  /** Told what a tool threw instead of answering. */
  readonly onBroken: (effect: string, tool: string, error: unknown) => void
}

/** What somebody who watches the node is told, after it is durable. */
export interface TurnEvent {
  readonly address: string
  readonly seq: number
  readonly logs: readonly (readonly [string, string])[]
  readonly refused: readonly { readonly effect: string; readonly message: string }[]
  /** Effects that wait for a person. */
  readonly asked: readonly string[]
  readonly failed?: { readonly kind: string; readonly detail: string }
}

/**
 * Time never runs backwards in a node's log, over restarts too, and stands still within a step: what is
 * decided in it and the entry that says so are of one moment.
 */
export class SteadyClock implements Clock {
  readonly #clock: Clock
  #last = 0
  #known = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  readonly nowMs = (): number => {
    if (this.#known) return this.#last
    this.#last = Math.max(this.#last, this.#clock.nowMs())
    this.#known = true
    queueMicrotask(() => {
      this.#known = false
    })
    return this.#last
  }

  at(dueMs: number, callback: () => void): Timer {
    return this.#clock.at(dueMs, callback)
  }

  /** The log has seen this moment: a clock that was set back since revives no card and no budget. */
  notBefore(timeMs: number): void {
    this.#last = Math.max(this.#last, timeMs)
  }

  /** How far the machine's clock is behind; time stands still until it has caught up. */
  get behindMs(): number {
    return Math.max(0, this.#last - this.#clock.nowMs())
  }
}

/** HMAC over parts whose boundaries the caller makes unmistakable. */
export function hmac(key: Buffer, ...parts: readonly (string | Buffer)[]): Buffer {
  return hmacSha256(
    key,
    Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part))),
  )
}

/** The lane of a tenant at the engine: a small number that stays. */
export function lanes(): (tenant: string) => { readonly lane: number; readonly fresh: boolean } {
  const known = new Map<string, number>()
  return (tenant) => {
    const lane = known.get(tenant)
    if (lane !== undefined) return { lane, fresh: false }
    known.set(tenant, known.size + 1)
    return { lane: known.size, fresh: true }
  }
}
