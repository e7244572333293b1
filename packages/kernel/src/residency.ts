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
import { isClosing, KernelError } from './errors.ts'
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
const AHEAD = 0.005
const AT_ONCE = 32
const PATIENCE_MS = 5000
const LOOK_AGAIN_MS = 50

export interface ResidencyOptions {
  /** Awake at most so many; left out: as mappings allow. */
  readonly most?: number | undefined
  /** Memory of the process's own above which agents are put to sleep; left out: a share of the machine's. */
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

/**
 * Memory that is this process's own. What agents share is counted once for each of them in the resident size, and
 * takes memory once.
 */
function ownBytes(): number {
  try {
    const [, kibibytes] = /^RssAnon:\s+(\d+) kB/m.exec(fs.readFileSync('/proc/self/status', 'utf8')) ?? []
    if (kibibytes !== undefined) return Number(kibibytes) * 1024
  } catch {
    // Another system.
  }
  return process.memoryUsage.rss()
}

/** The node as a scope of its own, beside tenants and types. */
const NODE = ''
/** Few agents are awake whatever memory says: what else the process takes is no reason to serve nobody. */
const FLOOR = 64
/** Of agents at work so many are passed over at a time, in search of one that rests. */
const PASSED_OVER = 64

/** Room for one more; it is given back unless somebody enters with it. */
export interface Room {
  readonly give: () => void
}

export class Residency {
  readonly most: number
  readonly #memoryBytes: number
  readonly #limits: Limits
  readonly #suspend: (name: string) => Promise<void>
  /** Who is awake, by tenant, by type and all: the one that was used longest ago first. */
  readonly #awake = new Map<string, Map<string, Resident>>()
  /** Room that was given and not yet taken, by the same. */
  readonly #given = new Map<string, number>()
  /** Resolves when somebody leaves or rests. */
  #change = Promise.withResolvers<void>()
  #going = 0
  #closed = false
  #sampledAt = 0
  /** Agents that are too many for the memory that there is, as the last sample says. */
  #excess = 0

  constructor(limits: Limits, suspend: (name: string) => Promise<void>, options: ResidencyOptions) {
    this.most = options.most ?? mostByMappings()
    this.#memoryBytes = options.memoryBytes ?? memoryAllowed()
    this.#limits = limits
    this.#suspend = suspend
  }

  /** Somebody is awake, with room that was given or without. */
  entered(agent: Resident, room?: Room): void {
    room?.give()
    this.#touch(agent)
    this.#trim(NODE, this.most - Math.floor(this.most * AHEAD))
    for (const { scope, value } of this.#liveLimits(agent.address)) this.#trim(scope, value)
  }

  /** Somebody sleeps. */
  left({ address, name }: Resident): void {
    for (const scope of scopesOf(address)) {
      const of = this.#awake.get(scope)
      of?.delete(name)
      if (of?.size === 0) this.#awake.delete(scope)
    }
    this.#changed()
  }

  /** Somebody has nothing to do: from now on it may have to go. */
  rested(agent: Resident): void {
    if (!this.#awake.get(NODE)?.has(agent.name)) return
    this.#touch(agent)
    this.#changed()
    this.#trim(NODE, this.most - Math.floor(this.most * AHEAD))
    for (const { scope, value } of this.#liveLimits(agent.address)) this.#trim(scope, value)
  }

  /** Somebody is wanted: others go before. */
  wanted(agent: Resident): void {
    if (this.#awake.get(NODE)?.has(agent.name)) this.#touch(agent)
  }

  #touch(agent: Resident): void {
    for (const scope of scopesOf(agent.address)) {
      const of = this.#awake.get(scope) ?? new Map<string, Resident>()
      of.delete(agent.name)
      of.set(agent.name, agent)
      this.#awake.set(scope, of)
    }
  }

  #changed(): void {
    this.#change.resolve()
    this.#change = Promise.withResolvers<void>()
  }

  #count(scope: string): number {
    return (this.#awake.get(scope)?.size ?? 0) + (this.#given.get(scope) ?? 0)
  }

  /**
   * Room for one more, once there is some; `Busy` if nobody can go for too long. `now`: nobody waits for it who could
   * be told to come again, so it is refused at once where nobody rests. `Closing` once nobody wakes any more.
   */
  async room(address: Address, now = false): Promise<Room> {
    const until = Date.now() + (now ? 0 : PATIENCE_MS)
    for (;;) {
      if (this.#closed) throw isClosing()
      const full = this.#full(address)
      if (!full) return this.#give(address)
      const victim = this.#victim(full.scope)
      if (victim !== undefined) await this.#let(victim)
      else if (Date.now() < until) await Promise.race([this.#change.promise, sleep(LOOK_AGAIN_MS)])
      else
        throw new KernelError('Busy', 'Busy', `everybody awake is at work: ${full.why}`, {
          retryAfterMs: 1000,
        })
    }
  }

  /** From here on there is room for nobody. */
  close(): void {
    this.#closed = true
    this.#changed()
  }

  #give(address: Address): Room {
    const scopes = scopesOf(address)
    const add = (by: number) => {
      for (const scope of scopes) {
        const now = (this.#given.get(scope) ?? 0) + by
        if (now > 0) this.#given.set(scope, now)
        else this.#given.delete(scope)
      }
    }
    add(1)
    let given = true
    return {
      give: () => {
        if (given) add(-1)
        given = false
      },
    }
  }

  /** What has no room for one more; `scope` is whose agents could make it. */
  #full(address: Address): { readonly scope: string; readonly why: string } | undefined {
    const live = this.#count(NODE)
    if (live >= this.most) return { scope: NODE, why: told('live', { value: this.most, setFor: 'the node' }) }
    if (live >= FLOOR && this.#overMemory()) return { scope: NODE, why: 'the memory of the node is taken' }
    for (const limit of this.#liveLimits(address))
      if (this.#count(limit.scope) >= limit.value) return { scope: limit.scope, why: told('live', limit) }
    return undefined
  }

  #liveLimits(address: Address): readonly (InForce & { readonly scope: string })[] {
    return this.#limits.scopes(address, 'live').filter(({ scope }) => scope.split('/').length < 3)
  }

  #overMemory(): boolean {
    const now = Date.now()
    if (now - this.#sampledAt >= SAMPLE_MS) {
      this.#sampledAt = now
      const over = ownBytes() - this.#memoryBytes
      this.#excess = over > 0 ? Math.ceil(over / LEAST_BYTES) : 0
    }
    return this.#excess > 0
  }

  /** The quiet one that was used longest ago. Those at work are passed over, and not looked at again soon. */
  #victim(scope: string): string | undefined {
    const of = this.#awake.get(scope)
    if (!of) return undefined
    let passed = 0
    for (const [name, agent] of of) {
      if (agent.quiet) {
        this.#touch(agent)
        return name
      }
      of.delete(name)
      of.set(name, agent)
      if (++passed >= Math.min(PASSED_OVER, of.size)) return undefined
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
  #trim(scope: string, most: number): void {
    while (this.#going < AT_ONCE) {
      const live = this.#awake.get(scope)?.size ?? 0
      const tight = live - this.#going > most || (scope === NODE && live >= FLOOR && this.#overMemory())
      const victim = tight ? this.#victim(scope) : undefined
      if (victim === undefined) return
      void this.#let(victim).then(() => this.#trim(scope, most))
    }
  }
}

/** In whose numbers an agent counts. */
function scopesOf({ tenant, type }: Address): readonly string[] {
  return [NODE, tenant, `${tenant}/${type}`]
}
