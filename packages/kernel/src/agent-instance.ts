/**
 * The instance of an agent that is awake, and its home: what its turns run on. It is saved with the agent's state,
 * and brought back from that and the record when it is lost.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { EngineFailure, type Instance, type Turn } from '@cardinal/engine'
import type { Tip } from '@cardinal/oplog'
import type { Context } from './context.ts'
import { homeUnavailable, WAL_BYTES_AWAKE } from './homes.ts'
import type { LoadedImage } from './images.ts'
import type { HomeOwner } from './open-homes.ts'
import { type Identity, type Replayed, replay } from './replay.ts'
import { Saving } from './saving.ts'
import type { AgentState } from './state.ts'

/** How soon, and how seldom at last, a home is tried again that the disk has no room for. */
const RETRY_MS = 250
const MAX_RETRY_MS = 10_000

export class AgentInstance {
  readonly #ctx: Context
  readonly #who: Identity
  readonly #image: LoadedImage
  readonly #state: AgentState
  readonly #owner: HomeOwner
  readonly #saving: Saving
  /** None: it has run nothing since the agent was born, or it is lost. */
  #now: Instance | undefined
  #hasHome: boolean
  /** Bytes of its home's write-ahead log at its last save. */
  #walBytes = 0
  readonly #putAway = new AbortController()

  /** `owner`: whoever closes its home when others need descriptors. `back`: what the agent was woken with. */
  constructor(
    ctx: Context,
    who: Identity,
    image: LoadedImage,
    state: AgentState,
    owner: HomeOwner,
    back: Pick<Replayed, 'instance' | 'hasHome' | 'memoryFile'> | undefined,
  ) {
    this.#ctx = ctx
    this.#who = who
    this.#image = image
    this.#state = state
    this.#owner = owner
    this.#now = back?.instance
    this.#hasHome = back?.hasHome ?? false
    this.#saving = new Saving(ctx, who, back?.memoryFile)
    if (this.#hasHome) ctx.homes.open.used(owner)
  }

  get now(): Instance | undefined {
    return this.#now
  }

  /** The agent has stored something: its memory is saved in its home, with what it stored. */
  get hasHome(): boolean {
    return this.#hasHome
  }

  /** For whoever looks at it between two turns. */
  async require(): Promise<Instance> {
    if (!this.#now) await this.rebuild()
    // It may be closed, and is opened by whoever looks.
    if (this.#hasHome) this.#ctx.homes.open.used(this.#owner)
    return this.#now as Instance
  }

  /**
   * Runs a turn. A host failure is not the guest's: the attempt never happened, so it is made again from the record.
   * `ends`: the turn took longer than it may, and still runs.
   */
  async run(turn: Turn, wallMs: number) {
    const { engine, homes } = this.#ctx
    this.#now ??= engine.create(this.#image.image, { home: homes.fileOf(this.#who.birth) })
    let failed = 0
    for (let attempt = 1; ; attempt++) {
      try {
        const running = engine.deliver(this.#now as Instance, this.#who.lane, turn)
        const outcome = await within(running, wallMs)
        if (outcome === 'late')
          return { ok: false as const, kind: 'OutOfTime', detail: 'it took too long', ends: running }
        homes.waiting.delete(this)
        if (outcome.ok && outcome.home) {
          this.#hasHome = true
          homes.open.used(this.#owner)
        }
        return { ...outcome, ends: undefined }
      } catch (error) {
        if (!(error instanceof EngineFailure)) throw error
        if (homes.isOfDisk(error)) await this.#waitForDisk(attempt, error)
        else if (++failed > 1) {
          if (!error.ofHome) throw error
          // Twice over a home that was made anew: it is what the guest does there, not what the host lacks.
          return { ok: false as const, kind: 'HomeFailed', detail: error.message, ends: undefined }
        }
        await this.rebuild()
      }
    }
  }

  /** A turn of so long is on record, and would have to be repeated: saves, once that costs less. */
  async ran(micros: number): Promise<void> {
    this.#saving.ran(micros)
    if (this.#saving.isDue) await this.save()
  }

  /** What the disk did not let it do is tried again, ever more seldom; while it is full the node takes nothing new in. */
  async #waitForDisk(attempt: number, error: unknown): Promise<void> {
    const { homes } = this.#ctx
    const { waiting } = homes
    if (homes.isFull(error)) waiting.add(this)
    else waiting.delete(this)
    this.drop()
    const waitMs = Math.min(RETRY_MS * 2 ** (attempt - 1), MAX_RETRY_MS)
    // Whoever puts it away does not wait for the end of that.
    await sleep(waitMs, undefined, { signal: this.#putAway.signal }).catch(() => {})
    if (!this.#putAway.signal.aborted) return
    waiting.delete(this)
    throw homes.toTell(error, this.#who.address)
  }

  /**
   * Memory again, from the last snapshot and the record. Where the disk has no room for what is repeated, it
   * waits for room: nothing has failed that the record would know of.
   */
  async rebuild(): Promise<void> {
    const { homes } = this.#ctx
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#bringBack()
        homes.waiting.delete(this)
        return
      } catch (error) {
        if (!homes.isOfDisk(error)) throw error
        await this.#waitForDisk(attempt, error)
      }
    }
  }

  async #bringBack(): Promise<void> {
    const { derived, homes, log } = this.#ctx
    this.drop()
    const { tip } = this.#state
    await log.untilDurable(tip.pos)
    derived.apply()
    const snapshot = derived.saves.find(this.#who.birth)
    const back = await replay(this.#ctx, this.#who, this.#image, tip, { snapshot })
    this.#now = back.instance
    this.#hasHome = back.hasHome
    if (this.#hasHome) homes.open.used(this.#owner)
    this.#saving.restart()
  }

  /**
   * Saves memory, state and home as one: a barrier between turns, at a durable entry. What is taken in
   * meanwhile comes after it. A host that cannot write saves nothing; then more is repeated later.
   */
  async save(): Promise<boolean> {
    const instance = this.#now
    // It has run nothing since it was born.
    if (!instance) return true
    return this.#saving.save(
      this.#state,
      () => this.#ctx.engine.save(instance, this.#who.lane),
      (tip, bytes) => (this.#hasHome ? this.#saveHome(tip, bytes) : this.#saveRow(tip, bytes)),
    )
  }

  /** Whether it is kept. */
  async #saveRow(tip: Tip, bytes: Buffer): Promise<boolean> {
    const { derived } = this.#ctx
    derived.apply()
    return derived.saves.keep(this.#who.birth, tip, bytes)
  }

  /** Whether it is kept. */
  async #saveHome({ seq, hash }: Tip, bytes: Buffer): Promise<boolean> {
    const { engine, homes } = this.#ctx
    const instance = this.#now as Instance
    try {
      this.#walBytes = await engine.commitHome(instance, this.#who.lane, { seq, hash, bytes })
      homes.open.used(this.#owner)
      if (this.#walBytes <= WAL_BYTES_AWAKE || this.#putAway.signal.aborted) return true
      await engine.checkpointHome(instance, this.#who.lane)
      return true
    } catch (error) {
      if (!(error instanceof EngineFailure)) throw error
      // The instance is gone with it. Whoever is put away comes back from the save before.
      this.drop()
      if (!this.#putAway.signal.aborted) await this.rebuild()
      return false
    }
  }

  /** Writes the home into a file, as it stands now. */
  async exportHome(instance: Instance, to: string): Promise<void> {
    await this.save()
    // One that could not be saved was brought back from its log.
    if (this.#now !== instance)
      throw homeUnavailable(`the home of \`${this.#who.address}\` could not be saved`)
    await this.#ctx.engine.exportHome(instance, this.#who.lane, to)
  }

  /** Saves and closes the home until a turn needs it again. */
  async park(): Promise<void> {
    const { engine, homes } = this.#ctx
    const before = this.#now as Instance
    try {
      await this.save()
      // One whose save failed was brought back with its turns uncommitted, and stays open.
      if (this.#now === before) await engine.parkHome(before, this.#who.lane)
    } finally {
      homes.open.closed(this.#owner)
    }
    if (this.#now !== before && this.#hasHome) homes.open.used(this.#owner)
  }

  /** The agent begins anew. Nobody has its home open, so that it is gone before anything new is stored. */
  async forget(): Promise<void> {
    const { homes } = this.#ctx
    const had = this.#hasHome
    this.drop()
    this.#hasHome = false
    const removed = had ? homes.remove(homes.fileOf(this.#who.birth)) : undefined
    await Promise.all([this.#saving.forget(), removed])
  }

  drop(): void {
    this.#ctx.homes.open.closed(this.#owner)
    if (this.#now) this.#ctx.engine.drop(this.#now)
    this.#now = undefined
  }

  /** From here on nothing waits for room on a disk. */
  putAway(): void {
    this.#putAway.abort()
  }

  /** The agent sleeps. */
  end(): void {
    const { homes } = this.#ctx
    this.drop()
    if (this.#hasHome) homes.asleep(homes.fileOf(this.#who.birth), this.#walBytes)
  }
}

/** What comes of it in time; `late` if nothing has. */
async function within<T>(work: Promise<T>, ms: number): Promise<T | 'late'> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, ms, 'late')
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
