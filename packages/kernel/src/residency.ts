/**
 * Who stays awake: at most as many agents as mappings, memory and operators allow, and of those that are quiet
 * the one that was used longest ago sleeps first.
 *
 * Those who go make room ahead of need, a few at a time, so that whoever wakes rarely waits for somebody's save.
 * Where everybody is busy, waking waits for a moment and is then refused: nobody's work is thrown out for another's.
 */
import fs from 'node:fs'
import os from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { KernelError } from './errors.ts'
import type { Address } from './ids.ts'
import { type InForce, type Limits, told } from './limits.ts'

/** An agent that is awake, as room is made. */
interface Resident {
  readonly address: Address
  readonly name: string
  readonly quiet: boolean
}

/** Memory of a guest is a reservation, its image and what lies behind it. */
const MAPPINGS_A_LIVE = 3
/** Mappings of everything else: threads, libraries, SQLite, the log. */
const MAPPINGS_RESERVED = 5000
const DEFAULT_MAPPINGS = 65_530
/** Of the machine's memory, or of what the control group allows. */
const MEMORY_SHARE = 0.7
const SAMPLE_MS = 100
/** An agent takes about this much at least, whatever a sample says. */
const LEAST_BYTES = 300 << 10
/** Room is made ahead for a share of the cap, so many at a time. */
const AHEAD = 0.02
const AT_ONCE = 32
const PATIENCE_MS = 5000
const LOOK_AGAIN_MS = 5

export interface ResidencyOptions {
  /** Awake at most so many; left out: as mappings allow. */
  readonly most?: number | undefined
  /** Resident memory of the process above which agents are put to sleep; left out: a share of the machine's. */
  readonly memoryBytes?: number | undefined
}

/** How many guests may be mapped at once. */
function mostByMappings(): number {
  let allowed = DEFAULT_MAPPINGS
  try {
    allowed = Number(fs.readFileSync('/proc/sys/vm/max_map_count', 'utf8'))
  } catch {
    // Another system: its limits are wider, or are met as a host failure.
  }
  return Math.max(16, Math.floor((allowed - MAPPINGS_RESERVED) / MAPPINGS_A_LIVE))
}

function memoryAllowed(): number {
  const whole = process.constrainedMemory() || os.totalmem()
  return Math.min(whole, os.totalmem()) * MEMORY_SHARE
}

export class Residency {
  readonly most: number
  readonly #memoryBytes: number
  readonly #limits: Limits
  readonly #suspend: (name: string) => Promise<void>
  /** Quiet ones, the one that was used longest ago first. */
  readonly #quiet = new Map<string, Resident>()
  /** How many are awake, by tenant, by type, and all. */
  readonly #awake = new Map<string, number>()
  #live = 0
  #going = 0
  #sampledAt = 0
  /** Agents that are too many for the memory that there is, as the last sample says. */
  #excess = 0

  constructor(limits: Limits, suspend: (name: string) => Promise<void>, options: ResidencyOptions) {
    this.most = options.most ?? mostByMappings()
    this.#memoryBytes = options.memoryBytes ?? memoryAllowed()
    this.#limits = limits
    this.#suspend = suspend
  }

  /** Somebody is awake. */
  entered({ address }: Resident): void {
    this.#count(address, 1)
    this.#trim()
  }

  /** Somebody sleeps. */
  left({ address, name }: Resident): void {
    this.#quiet.delete(name)
    this.#count(address, -1)
  }

  #count({ tenant, type }: Address, by: number): void {
    this.#live += by
    for (const scope of [tenant, `${tenant}/${type}`]) {
      const now = (this.#awake.get(scope) ?? 0) + by
      if (now > 0) this.#awake.set(scope, now)
      else this.#awake.delete(scope)
    }
  }

  /** Somebody has nothing to do: from now on it may have to go. */
  rested(agent: Resident): void {
    this.#quiet.delete(agent.name)
    this.#quiet.set(agent.name, agent)
    this.#trim()
  }

  /** Somebody is wanted. */
  wanted(name: string): void {
    this.#quiet.delete(name)
  }

  /** Resolves once one more may be awake; `Busy` if nobody can go for too long. */
  async room(address: Address): Promise<void> {
    const until = Date.now() + PATIENCE_MS
    for (;;) {
      const full = this.#full(address)
      if (!full) return
      const victim = this.#victim(full.scope)
      if (victim !== undefined) await this.#let(victim)
      else if (Date.now() < until) await sleep(LOOK_AGAIN_MS)
      else
        throw new KernelError('Busy', 'Busy', `everybody awake is at work: ${full.why}`, {
          retryAfterMs: 1000,
        })
    }
  }

  /** What has no room for one more; `scope` is whose agents could make it. */
  #full(address: Address): { readonly scope?: string; readonly why: string } | undefined {
    if (this.#live >= this.most) return { why: told('live', { value: this.most, setFor: 'the node' }) }
    if (this.#overMemory()) return { why: 'the memory of the node is taken' }
    for (const limit of this.#liveLimits(address))
      if ((this.#awake.get(limit.scope) ?? 0) >= limit.value)
        return { scope: limit.scope, why: told('live', limit) }
    return undefined
  }

  #liveLimits(address: Address): readonly (InForce & { readonly scope: string })[] {
    return this.#limits.scopes(address, 'live').filter(({ scope }) => scope.split('/').length < 3)
  }

  #overMemory(): boolean {
    const now = Date.now()
    if (now - this.#sampledAt >= SAMPLE_MS) {
      this.#sampledAt = now
      const over = process.memoryUsage.rss() - this.#memoryBytes
      this.#excess = over > 0 ? Math.ceil(over / LEAST_BYTES) : 0
    }
    return this.#excess > 0
  }

  /** The quiet one that was used longest ago, of a tenant or a type if that is said. */
  #victim(scope: string | undefined): string | undefined {
    for (const [name, agent] of this.#quiet) {
      if (scope !== undefined && !name.startsWith(`${scope}/`)) continue
      this.#quiet.delete(name)
      if (agent.quiet) return name
    }
    return undefined
  }

  async #let(victim: string): Promise<void> {
    this.#going++
    if (this.#excess > 0) this.#excess--
    try {
      await this.#suspend(victim)
    } finally {
      this.#going--
    }
  }

  /** Lets go ahead of need. */
  #trim(): void {
    const ahead = Math.floor(this.most * AHEAD)
    while (this.#going < AT_ONCE) {
      const tight = this.#live - this.#going > this.most - ahead
      if (!tight && !this.#overMemory()) return
      const victim = this.#victim(undefined)
      if (victim === undefined) return
      void this.#let(victim).then(() => this.#trim())
    }
  }
}
