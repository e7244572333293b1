/**
 * Waking those who sleep: whoever was in the middle of something when the node ended, and from then on whoever
 * comes due. One of these serves all agents; who sleeps has no timer.
 *
 * Few wake at a time, and others are served in between: a million that are due at once are only a long queue.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from './context.ts'
import type { AgentRow } from './derived.ts'

const POLL_MS = 250
const AT_ONCE = 16
/** Nobody more is woken while so many turns, saves and looks wait for the engine, but for so long at most: some never end. */
const BACKLOG = 8
const MOST_WAIT_MS = 20
/** Up to so many that were in the middle of something are awake before the node is open. */
const BEFORE_OPEN = 256

export interface Wakers {
  readonly isLive: (address: string) => boolean
  /** Never throws for what is the agent's own affair. False: there is no room for it now. */
  readonly wake: (row: AgentRow) => Promise<boolean>
  /** Wakes who found no room before. */
  readonly before: () => Promise<void>
  /** Whoever of a tenant is stopped by cards that have ended is to be told. */
  readonly sunk: (tenant: string) => void
  readonly fatal: (error: unknown) => void
}

export class Due {
  readonly #ctx: Context
  readonly #wakers: Wakers
  #poll: NodeJS.Timeout | undefined
  #soon: NodeJS.Timeout | undefined
  #polling: Promise<void> | undefined
  #recovering: Promise<void> = Promise.resolve()
  #closed = false
  /** Cards that ended by then are dealt with. */
  #expiredUntil = 0

  constructor(ctx: Context, wakers: Wakers) {
    this.#ctx = ctx
    this.#wakers = wakers
  }

  /** Takes up what was under way; resolves when the node may be used, which does not wait for thousands. */
  async start(): Promise<void> {
    const { derived } = this.#ctx
    const rows = [...derived.agentsWithWork(), ...derived.answeredCallers()]
    await this.#wakeAll(rows.slice(0, BEFORE_OPEN))
    this.#recovering = this.#wakeAll(rows.slice(BEFORE_OPEN)).catch(this.#wakers.fatal)
    const tick = () => {
      if (!this.#polling) void this.poll().catch(this.#wakers.fatal)
    }
    this.#poll = setInterval(tick, POLL_MS).unref()
  }

  /** `full` are tenants that have no room: nobody of theirs is tried again in this look. Left out: each is tried, and owed. */
  async #wakeAll(rows: readonly AgentRow[], full?: Set<string>): Promise<void> {
    for (let i = 0; i < rows.length && !this.#closed; i += AT_ONCE) {
      const some = rows.slice(i, i + AT_ONCE).filter(({ tenant }) => !full?.has(tenant))
      const wake = async (row: AgentRow) => {
        if (!(await this.#wakers.wake(row))) full?.add(row.tenant)
      }
      await Promise.all(some.map(wake))
      // Whoever calls from outside comes in between, and not behind all that is due.
      await new Promise((resolve) => setImmediate(resolve))
      const until = performance.now() + MOST_WAIT_MS
      while (this.#ctx.engine.pending > BACKLOG && performance.now() < until) await sleep(1)
    }
  }

  /** Wakes who is due by now; one that is called while another runs waits for that, and then looks itself. */
  async poll(): Promise<void> {
    while (this.#polling) await this.#polling
    this.#polling = this.#look().finally(() => {
      this.#polling = undefined
    })
    await this.#polling
  }

  async #look(): Promise<void> {
    const { clock, derived } = this.#ctx
    const now = clock.nowMs()
    await this.#wakers.before()
    await this.#expire(now)
    const full = new Set<string>()
    let after = { due: -1, agent: 0 }
    while (!this.#closed) {
      const due = derived.dueAfter(after, now, AT_ONCE)
      const last = due.at(-1)
      if (!last) break
      after = last
      const ids = new Set(due.map(({ agent }) => agent))
      const rows = [...ids].flatMap((id) => derived.findAgentByRow(id) ?? [])
      const asleep = rows.filter((row) => !this.#wakers.isLive(row.address) && !row.quarantined)
      await this.#wakeAll(asleep, full)
    }
    this.#arm()
  }

  /** Whoever is due before the next look is not kept waiting for it. */
  #arm(): void {
    const next = this.#ctx.derived.nextDue()
    const waitMs = next === undefined ? POLL_MS : next - this.#ctx.clock.nowMs()
    if (this.#closed || waitMs >= POLL_MS || waitMs <= 0) return
    clearTimeout(this.#soon)
    this.#soon = setTimeout(() => void this.poll().catch(this.#wakers.fatal), waitMs).unref()
  }

  /** Cards have come to their end: asks under them are cut, and whoever is stopped by that ends, asleep or not. */
  async #expire(nowMs: number): Promise<void> {
    const { derived, control } = this.#ctx
    const after = this.#expiredUntil
    if (nowMs <= after) return
    this.#expiredUntil = nowMs
    const tenants = new Set(derived.tenantsOfExpired(after, nowMs))
    for (const { tenant, card } of control.generations()) {
      const { expires } = card.limits
      if (expires !== undefined && expires > after && expires <= nowMs) tenants.add(tenant)
    }
    for (const tenant of tenants) this.#wakers.sunk(tenant)
    const rows = derived.expiredAgents(after, nowMs)
    await this.#wakeAll(rows.filter((row) => !this.#wakers.isLive(row.address)))
  }

  /** Nobody is woken from here on. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#poll)
    clearTimeout(this.#soon)
    await this.#recovering
    await this.#polling?.catch(() => {})
  }
}
