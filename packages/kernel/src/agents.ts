/**
 * Which agents are awake: waking on demand, birth at first use, suspending when quiet.
 *
 * A sleeping agent has no object, timer or handle in this process; rows only.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type AgentRow as AgentStanding, codec, cut, type Influence, isStopped } from '@cardinal/cards'
import type { PayloadKey, Pos, Tip } from '@cardinal/oplog'
import { LiveAgent, type Surroundings } from './agent.ts'
import { appendEntry } from './append.ts'
import { type AuthorityPayload, type MintedMeta, rootCardName, type Taken } from './authority-wire.ts'
import type { Timer } from './clock.ts'
import { lanes } from './context.ts'
import type { AgentRow } from './derived.ts'
import { Due } from './due.ts'
import { assert, isClosing, KernelError, wasErased } from './errors.ts'
import { fanoutBack } from './fanout.ts'
import { type Address, type EffectId, parseAddress, showAddress } from './ids.ts'
import type { LoadedImage } from './images.ts'
import { type Identity, type Replayed, replay } from './replay.ts'
import { Residency, type ResidencyOptions, type Room } from './residency.ts'
import { emptyState } from './state.ts'
import { type BirthMeta, birthEvent } from './wire.ts'

const POLL_MS = 250
const DISK_RETRY_MS = 250
const OWED_AT_ONCE = 64
const MAX_DISK_RETRY_MS = 10_000

export interface AgentsOptions extends ResidencyOptions {
  /** Overrides every manifest's idle time: 0 suspends after every turn. */
  readonly idleMs?: number
}

/** A child that the rules have made, and what its birth entry says of that. */
export interface ChildOf {
  readonly row: AgentStanding
  readonly spawned: { readonly by: string; readonly effect: EffectId }
  readonly cards: readonly MintedMeta[]
  readonly debits: readonly Taken[]
  readonly payload: AuthorityPayload
}

/** An agent that is the first to call another: by what effect, what it had read, and what that takes. */
export interface FirstUse {
  readonly by: string
  readonly effect: EffectId
  readonly told: Influence
  readonly debit: Taken
}

export class Agents {
  readonly #around: Surroundings
  readonly #options: AgentsOptions
  readonly #live = new Map<string, LiveAgent>()
  readonly #waking = new Map<string, Promise<LiveAgent>>()
  /** Being suspended or erased: whoever looks for one of these waits for the end of it. */
  readonly #suspending = new Map<string, Promise<void>>()
  readonly #births = new Map<string, Promise<LiveAgent>>()
  readonly #idle = new Map<string, Timer>()
  readonly #laneOf = lanes()
  readonly #residency: Residency
  readonly #due: Due
  /** Who has something to do and found no room. */
  readonly #owed = new Set<string>()
  #signalling: Promise<void> = Promise.resolve()
  readonly #toSignal = new Set<string>()
  /** Whose turns ran on another engine or SQLite. */
  readonly #refused = new Set<string>()
  #closed = false
  readonly #closing = new AbortController()

  constructor(around: Omit<Surroundings, 'quiet' | 'lowered' | 'sunk' | 'offered'>, options: AgentsOptions) {
    this.#around = {
      ...around,
      quiet: (agent) => this.#becameQuiet(agent),
      lowered: (tenant) => this.#cutAsks(tenant),
      sunk: (tenant) => this.sunk(tenant),
      offered: (address) => this.#live.get(address)?.pump(),
    }
    this.#options = options
    const { ctx, fatal } = around
    const suspend = async (name: string) => {
      const agent = this.#live.get(name)
      if (agent) await this.suspend(agent)
    }
    this.#residency = new Residency(ctx.limits, suspend, options)
    this.#due = new Due(ctx, {
      isLive: (address) => this.#live.has(address),
      wake: (row) => this.#wakeQuietly(row),
      before: () => this.#payOwed(),
      sunk: (tenant) => this.sunk(tenant),
      fatal,
    })
  }

  get liveCount(): number {
    return this.#live.size
  }

  busy(): boolean {
    return (
      this.#waking.size > 0 ||
      this.#suspending.size > 0 ||
      [...this.#live.values()].some((agent) => !agent.quiet)
    )
  }

  findLive(address: Address): LiveAgent | undefined {
    return this.#live.get(showAddress(address))
  }

  /** Whether an agent's end is on record. Of one that sleeps all entries are applied. */
  isStopped(name: string): boolean {
    const live = this.#live.get(name)
    if (live) return live.state.stopped
    return this.#around.ctx.derived.findAgent(parseAddress(name))?.stopped === 1
  }

  /** The agent, awake; undefined if it was never born. `own`: the kernel itself wants it, and comes again if there is no room. */
  async find(address: Address, own = false): Promise<LiveAgent | undefined> {
    const name = showAddress(address)
    for (;;) {
      const suspending = this.#suspending.get(name)
      if (!suspending) break
      await suspending
    }
    const live = this.#live.get(name)
    if (live) {
      this.#cancelIdle(name)
      return live
    }
    const waking = this.#waking.get(name)
    if (waking) return waking
    const row = this.#around.ctx.derived.findAgent(address)
    return row ? this.wake(row, own) : undefined
  }

  /** The agent, awake, born now if it never was. */
  async require(address: Address): Promise<LiveAgent> {
    const found = await this.find(address)
    if (found) return found
    const name = showAddress(address)
    const birthing = this.#births.get(name)
    if (birthing) {
      await birthing
      return this.require(address)
    }
    const birth = this.#birthUnlessBorn(address).finally(() => this.#births.delete(name))
    this.#births.set(name, birth)
    return birth
  }

  /** Only one of these runs for an address, so nobody is born between the look and the birth. */
  async #birthUnlessBorn(address: Address): Promise<LiveAgent> {
    const { ctx } = this.#around
    ctx.control.requireGeneration(address.tenant, address.type)
    const room = await this.#residency.room(address)
    try {
      // Whatever was applied while somebody waited for room is what it is born with.
      const generation = ctx.control.requireGeneration(address.tenant, address.type)
      const image = await ctx.images.get(generation.image)
      return (
        (await this.find(address)) ??
        this.#bornNow(address) ??
        this.#birth(address, image, generation.generation)
      )
    } finally {
      room.give()
    }
  }

  /** Whoever was born while somebody waited for a look at its address. */
  #bornNow(address: Address): LiveAgent | undefined {
    return this.#live.get(showAddress(address))
  }

  #birth(
    address: Address,
    image: Awaited<ReturnType<Surroundings['ctx']['images']['get']>>,
    generation: number,
    first?: FirstUse,
  ): LiveAgent {
    const { ctx } = this.#around
    if (this.#closed) throw isClosing()
    const key = ctx.slots.create(ctx.control.tenantKey(address.tenant))
    const identity = this.#identity(address, randomBytes(16), key)
    const name = showAddress(address)
    const row = ctx.authority.bornRoot(address, name, rootCardName(identity.birth), first?.told)
    const meta: BirthMeta = {
      ...address,
      generation,
      image: image.hash,
      slot: key.slot,
      ...(first && { first: { by: first.by, effect: first.effect }, debits: [first.debit] }),
    }
    const payload = first ? { influence: codec.encodeInfluence(first.told) } : {}
    return this.#begin(address, identity, image, row, meta, payload)
  }

  /** Born because an agent was the first to call it; `permit` says what that one had read, if it may. */
  async firstUse(address: Address, permit: () => FirstUse | undefined): Promise<LiveAgent | undefined> {
    const generation = this.#around.ctx.control.findGeneration(address.tenant, address.type)
    if (!generation) return undefined
    const image = await this.#around.ctx.images.get(generation.image)
    const born = (await this.find(address)) ?? this.#bornNow(address)
    if (born) return born
    // Somebody else's birth of it is under way: it is there in a moment.
    if (this.#births.has(showAddress(address))) return this.require(address)
    const first = permit()
    return first && this.#birth(address, image, generation.generation, first)
  }

  /** A child whose row the rules have just made: its birth and its cards are one entry. */
  bear(address: Address, image: LoadedImage, generation: number, child: ChildOf): LiveAgent {
    const { ctx } = this.#around
    if (this.#closed) throw isClosing()
    const key = ctx.slots.create(ctx.control.tenantKey(address.tenant))
    const identity = this.#identity(address, randomBytes(16), key)
    const { row, payload, ...said } = child
    const meta: BirthMeta = { ...address, generation, image: image.hash, slot: key.slot, ...said }
    ctx.authority.born(row)
    return this.#begin(address, identity, image, row, meta, payload)
  }

  #begin(
    address: Address,
    identity: Identity,
    image: LoadedImage,
    row: AgentStanding,
    meta: BirthMeta,
    payload: AuthorityPayload,
  ): LiveAgent {
    // Two births of one address would leave a log that no row can hold.
    const name = showAddress(address)
    assert(!this.#live.has(name) && !this.#around.ctx.derived.findAgent(address), 'an address is born once')
    const state = emptyState(identity.birth)
    if (meta.cards) state.holding.births = meta.cards.map((card) => card.id)
    const agent = new LiveAgent(this.#around, address, identity, image, state, undefined, row)
    agent.append('birth', meta, [birthEvent(address, state.holding.births)], payload)
    this.#enter(agent)
    return agent
  }

  #enter(agent: LiveAgent, room?: Room): void {
    this.#live.set(agent.name, agent)
    this.#residency.entered(agent, room)
  }

  #leave(agent: LiveAgent): void {
    this.#live.delete(agent.name)
    this.#residency.left(agent)
  }

  /** Brings a sleeping agent back and takes up what it left open. */
  wake(row: AgentRow, own = false): Promise<LiveAgent> {
    const { address: name } = row
    const known = this.#waking.get(name)
    if (known) return known
    const waking = this.#wake(row, own).finally(() => this.#waking.delete(name))
    this.#waking.set(name, waking)
    return waking
  }

  async #wake(row: AgentRow, own: boolean): Promise<LiveAgent> {
    const address = { tenant: row.tenant, type: row.type, key: row.key }
    if (row.erased) throw wasErased(row.address)
    if (row.quarantined)
      throw new KernelError(
        'Diverged',
        'Quarantined',
        `\`${row.address}\` is quarantined; see \`cardinal history ${row.address}\``,
      )
    const room = await this.#residency.room(address, own)
    try {
      return await this.#wakeIn(room, address, row)
    } finally {
      room.give()
    }
  }

  async #wakeIn(room: Room, address: Address, row: AgentRow): Promise<LiveAgent> {
    const { ctx } = this.#around
    const identity = this.#identity(
      address,
      row.birth,
      ctx.slots.open(row.slot, ctx.control.tenantKey(row.tenant)),
    )
    const image = await ctx.images.get(row.image)
    const tip = { pos: row.pos, seq: row.seq, hash: row.hash }
    try {
      const back = await this.#bringBack(identity, image, tip)
      const standing = ctx.authority.wake(address, row.address, back.state.holding)
      const agent = new LiveAgent(this.#around, address, identity, image, back.state, back, standing)
      this.#enter(agent, room)
      agent.recover()
      ctx.homes.open.trim()
      return agent
    } catch (error) {
      if (error instanceof KernelError && error.class === 'Diverged') {
        await this.#quarantine(identity, tip, error)
      }
      throw error
    }
  }

  /** Where the disk has no room for what is repeated, it waits for room, as one that is awake does. */
  async #bringBack(identity: Identity, image: LoadedImage, tip: Tip): Promise<Replayed> {
    const { ctx } = this.#around
    const { homes } = ctx
    for (let waitMs = DISK_RETRY_MS; ; waitMs = Math.min(2 * waitMs, MAX_DISK_RETRY_MS)) {
      try {
        const back = await replay(ctx, identity, image, tip, {
          snapshot: ctx.derived.saves.find(identity.birth),
        })
        homes.waiting.delete(identity)
        return back
      } catch (error) {
        const waits = homes.isOfDisk(error) && homes.isFull(error) && !this.#closed
        if (!waits) {
          homes.waiting.delete(identity)
          throw homes.toTell(error, identity.address)
        }
        homes.waiting.add(identity)
      }
      await sleep(waitMs, undefined, { signal: this.#closing.signal }).catch(() => {})
    }
  }

  /** Keeps everything, runs nothing: the entry holds the diff, and the agent answers with it from now on. */
  async #quarantine(identity: Identity, tip: Tip, error: KernelError): Promise<void> {
    const said = Buffer.from(error.message)
    const { ctx } = this.#around
    const quarantined = appendEntry(ctx, identity, tip, 'quarantined', { seq: error.details.seq ?? 0 }, [
      said,
    ])
    // Nobody may wake it from its older row again, or its chain would fork.
    await this.#untilApplied(quarantined.pos)
  }

  #identity(address: Address, birth: Buffer, key: PayloadKey): Identity {
    return { address: showAddress(address), birth, key, lane: this.#lane(address.tenant) }
  }

  /** The tenant's lane at the turn threads, with the share that is set for it. */
  #lane(tenant: string): number {
    const { engine, limits } = this.#around.ctx
    const { lane, fresh } = this.#laneOf(tenant)
    if (fresh) engine.setWeight(lane, limits.ofTenant(tenant).weight.value)
    return lane
  }

  /** Limits of a tenant have changed. */
  reweigh(tenant: string): void {
    const { engine, limits } = this.#around.ctx
    engine.setWeight(this.#lane(tenant), limits.ofTenant(tenant).weight.value)
  }

  #becameQuiet(agent: LiveAgent): void {
    const { ctx } = this.#around
    const idleMs =
      this.#options.idleMs ??
      ctx.control.findGeneration(agent.address.tenant, agent.address.type)?.idleMs ??
      0
    if (idleMs === 0) {
      void this.suspend(agent)
      return
    }
    this.#cancelIdle(agent.name)
    this.#residency.rested(agent)
    this.#idle.set(
      agent.name,
      ctx.clock.at(ctx.clock.nowMs() + idleMs, () => void this.suspend(agent)),
    )
  }

  #cancelIdle(name: string): void {
    const live = this.#live.get(name)
    if (live) this.#residency.wanted(live)
    this.#idle.get(name)?.cancel()
    this.#idle.delete(name)
  }

  /** Saves and forgets a quiet agent. One that is no longer quiet stays. */
  async suspend(agent: LiveAgent): Promise<void> {
    const { ctx } = this.#around
    const { tip } = agent.state
    if (!agent.quiet) return
    // Rows must know everything before the object is gone, or the agent would wake at an older entry.
    await ctx.log.untilDurable(tip.pos)
    ctx.derived.apply()
    if ((ctx.derived.applied?.pos ?? 0) < tip.pos) return
    // Whoever was just handed this agent acts on it before the next macrotask; then it has another tip.
    await new Promise((resolve) => setImmediate(resolve))
    if (!agent.quiet || agent.state.tip !== tip || this.#live.get(agent.name) !== agent || this.#closed)
      return
    this.#cancelIdle(agent.name)
    this.#leave(agent)
    const done = agent.stop({ save: true })
    this.#suspending.set(agent.name, done)
    try {
      await done
    } catch (error) {
      this.#around.fatal(error)
    } finally {
      this.#suspending.delete(agent.name)
    }
  }

  /** Cards of a tenant died or sank: whoever is stopped by that ends, and asks that fail are cut. */
  sunk(tenant: string): void {
    this.#cutAsks(tenant)
    for (const agent of [...this.#live.values()]) if (agent.address.tenant === tenant) agent.pump()
    // Somebody may wait for one that sleeps. Not before the entry is there that stops it.
    if (this.#toSignal.has(tenant)) return
    this.#toSignal.add(tenant)
    this.#signalling = this.#signalling
      .then(() => this.#signal(tenant))
      .catch((error) => this.#around.fatal(error))
  }

  async #signal(tenant: string): Promise<void> {
    const { ctx } = this.#around
    // Whatever sinks from here on is signalled anew.
    this.#toSignal.delete(tenant)
    if (this.#closed) return
    await ctx.log.untilDurable((ctx.log.end - 1) as Pos)
    if (this.#closed) return
    ctx.derived.apply()
    for (const row of ctx.derived.agentsWaiting(tenant)) {
      if (this.#live.has(row.address)) continue
      const standing = ctx.authority.of(tenant).agents.get(row.address)
      if (standing && (isStopped(ctx.authority.of(tenant), standing) || ctx.derived.hasAsk(row.id)))
        await this.#wakeQuietly(row)
      if (this.#closed) return
    }
    this.#cutAsks(tenant)
  }

  #cutAsks(tenant: string): void {
    const world = this.#around.ctx.authority.of(tenant)
    let pending = false
    for (const effect of world.effects.values()) if (!effect.open) pending = true
    if (!pending) return
    for (const key of cut(world)) {
      const at = key.lastIndexOf('@')
      this.#live.get(key.slice(0, at))?.outgoing.cut(key.slice(at + 1) as EffectId)
    }
  }

  /**
   * Destroys an agent's key: what it ever said or was told is unreadable from now on, in every copy
   * of the log. On record before it is done; after a crash in between, the next start ends it.
   */
  async erase(address: Address): Promise<void> {
    const name = showAddress(address)
    for (;;) {
      const busy = this.#suspending.get(name) ?? this.#waking.get(name) ?? this.#births.get(name)
      if (!busy) break
      await busy.then(
        () => {},
        () => {},
      )
    }
    const erasing = this.#erase(address).finally(() => this.#suspending.delete(name))
    this.#suspending.set(name, erasing)
    await erasing
  }

  async #erase(address: Address): Promise<void> {
    const { ctx, released } = this.#around
    const name = showAddress(address)
    const live = this.#live.get(name)
    if (live) {
      this.#cancelIdle(name)
      this.#leave(live)
      await live.stop({ save: false })
      await this.#untilApplied(live.state.tip.pos)
    }
    const row = ctx.derived.findAgent(address)
    if (!row) throw new KernelError('NotFound', 'NoSuchAgent', `no agent \`${name}\``)
    if (row.erased) throw wasErased(name)
    const open = ctx.derived.openInvocations(row.id)
    const key = ctx.slots.open(row.slot, ctx.control.tenantKey(row.tenant))
    const tip = { pos: row.pos, seq: row.seq, hash: row.hash }
    const stood = ctx.authority.of(address.tenant).agents.get(name)
    ctx.authority.erased(address, name)
    const refunds = stood
      ? fanoutBack(ctx.authority.of(address.tenant), stood.births, () => row.stopped === 1)
      : []
    const erased = appendEntry(
      ctx,
      { birth: row.birth, key },
      tip,
      'erased',
      refunds.length > 0 ? { refunds } : {},
      [],
    )
    this.sunk(address.tenant)
    await ctx.log.untilDurable(erased.pos)
    ctx.crashPoint('erase.durable')
    await this.#untilApplied(erased.pos)
    const error = wasErased(name).toReply()
    for (const id of open) released(id, { ok: false, error })
    const reply = { ok: false as const, error }
    for (const { caller, effect } of ctx.derived.callsTo(name))
      this.#around.answered({
        caller,
        effect,
        reply,
        influence: undefined,
        from: `${name}@${row.seq}`,
        stopped: name,
      })
    await this.#finishErasure(row)
  }

  /** Rows are behind while the disk is full; acting on old ones would fork the agent's chain. */
  async #untilApplied(pos: Pos): Promise<void> {
    const { log, derived } = this.#around.ctx
    await log.untilDurable(pos)
    for (derived.apply(); (derived.applied?.pos ?? 0) < pos; derived.apply()) {
      if (this.#closed)
        throw new KernelError('Unavailable', 'DiskFull', 'the disk is full, and the node is being stopped')
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  /** May be repeated: each step finds what it did before. */
  async #finishErasure(row: AgentRow): Promise<void> {
    const { ctx } = this.#around
    ctx.derived.saves.remove(row.birth)
    await ctx.memoryFiles.removeAll(row.birth)
    await ctx.homes.remove(ctx.homes.fileOf(row.birth))
    ctx.slots.destroy(row.slot)
    ctx.crashPoint('erase.destroyed')
    const pos = ctx.control.note('erased', { agent: row.birth.toString('hex') })
    await ctx.log.untilDurable(pos)
  }

  /** Takes up what the last run left, and from then on whatever comes due. */
  async start(): Promise<void> {
    const { ctx } = this.#around
    for (const row of ctx.derived.halfErased()) await this.#finishErasure(row)
    for (const { caller, effect, callee, waits } of ctx.derived.calls())
      if (waits) ctx.waits.add(caller, effect, callee)
    await this.#due.start()
  }

  /** Wakes sleeping agents whose timers are due. */
  pollDue(): Promise<void> {
    return this.#due.poll()
  }

  /**
   * Wakes an agent for the kernel's own sake. A quarantined one is on record, and must not keep the others from
   * waking; one for which there is no room now is woken later. False: that.
   */
  async #wakeQuietly(row: Pick<AgentRow, 'address'>): Promise<boolean> {
    if (this.#refused.has(row.address)) return true
    try {
      await this.find(parseAddress(row.address), true)
      return true
    } catch (error) {
      if (error instanceof KernelError && error.class === 'Busy') {
        this.owe(row.address)
        return false
      }
      if (error instanceof KernelError && /^Other(Engine|Sqlite)$/.test(error.code)) {
        // Nothing of this process will bring it back: it is said once, and not tried every moment.
        this.#around.ctx.onNotice(error.message)
        this.#refused.add(row.address)
        return true
      }
      const known = error instanceof KernelError || (error as { code?: string }).code === 'KeyDestroyed'
      if (!known) this.#around.fatal(error)
      return true
    }
  }

  /** There is no room for an agent that has something to do: it is woken as soon as there is. */
  owe(address: string): void {
    this.#owed.add(address)
  }

  async #payOwed(): Promise<void> {
    for (const address of [...this.#owed].slice(0, OWED_AT_ONCE)) {
      this.#owed.delete(address)
      // Those behind it would find no more room than it has.
      if (!(await this.#wakeQuietly({ address }))) return
    }
  }

  /** Waits until nothing is under way, then saves everybody. */
  async close(graceMs: number): Promise<void> {
    await this.#due.close()
    const until = Date.now() + graceMs
    while (Date.now() < until && [...this.#live.values()].some((a) => !a.quiet))
      await new Promise((r) => setTimeout(r, 20))
    this.#closed = true
    this.#closing.abort()
    this.#residency.close()
    await this.#signalling
    for (const timer of this.#idle.values()) timer.cancel()
    // Whoever has room already wakes and is saved too; nobody else is given any. Others do not wait for it.
    const coming = Promise.allSettled([...this.#waking.values(), ...this.#births.values()])
    await this.#stopAll()
    await coming
    await this.#stopAll()
    await Promise.allSettled([...this.#suspending.values()])
  }

  async #stopAll(): Promise<void> {
    const all = [...this.#live.values()]
    this.#live.clear()
    await Promise.all(all.map((agent) => agent.stop({ save: true })))
  }
}
