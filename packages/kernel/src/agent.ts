/**
 * One agent that is awake: its state, its instance, and the loop that runs its turns.
 *
 * Everything that happens to an agent goes through `append`, which writes the entry and folds it in
 * one step. Nothing leaves here before it is durable: replies and effects are released by the log.
 */
import { EngineFailure, type Instance } from '@cardinal/engine'
import type { PayloadKey, Tip } from '@cardinal/oplog'
import type { Receipt } from '@cardinal/tools'
import { appendEntry } from './append.ts'
import type { Timer } from './clock.ts'
import type { Context } from './context.ts'
import { type Authority, type Decided, decideEffects } from './decide.ts'
import { KernelError } from './errors.ts'
import { type Address, type EffectId, effectId, type InvocationId, showAddress } from './ids.ts'
import type { LoadedImage } from './images.ts'
import { chooseInputs } from './inputs.ts'
import { cancelledReceipt, encodeOutcome } from './outcome.ts'
import { performEffect, Stopping } from './perform.ts'
import { type Identity, replay, sealSnapshot, turnSeed } from './replay.ts'
import type { Reply, ReplyError } from './reply.ts'
import { type AgentState, fold, isQuiet, nextWake, type OpenEffect, type PendingInput } from './state.ts'
import { failedEntry, firstLine, type TurnBase, turnEntry } from './turn-entry.ts'
import { BadOutput, type GuestOutput, parseOutput, type RepliedMeta } from './wire.ts'

/** What an agent needs of the node around it. */
export interface Surroundings {
  readonly ctx: Context
  readonly released: (id: InvocationId, reply: Reply) => void
  readonly quiet: (agent: LiveAgent) => void
  readonly fatal: (error: unknown) => void
}

/** A snapshot is written after so many turns, so that no recovery repeats more. */
const SNAPSHOT_TURNS = 512
const MAX_PENDING = 4096
/** How long the `finally` of an invocation that was ended may keep the next one waiting. */
const ENDING_MS = 30_000

export class LiveAgent {
  readonly address: Address
  readonly name: string
  readonly identity: Identity
  readonly image: LoadedImage
  readonly state: AgentState
  /** Idempotency keys taken since this agent woke; older ones are in derived state. */
  readonly requestKeys = new Map<string, { same: string; invocation: InvocationId }>()
  readonly #around: Surroundings
  readonly #attempts = new Map<EffectId, AbortController>()
  readonly #afterTurn: (() => void)[] = []
  #instance: Instance | undefined
  #running: Promise<void> | undefined
  #timer: Timer | undefined
  #turnsSinceSnapshot = 0
  #stopping = false
  /** From here on somebody else may write this agent's entries. */
  #stopped = false

  constructor(
    around: Surroundings,
    address: Address,
    identity: Identity,
    image: LoadedImage,
    state: AgentState,
    instance: Instance | undefined,
  ) {
    this.#around = around
    this.address = address
    this.name = showAddress(address)
    this.identity = identity
    this.image = image
    this.state = state
    this.#instance = instance
  }

  get key(): PayloadKey {
    return this.identity.key
  }

  get full(): boolean {
    return this.state.pending.length >= MAX_PENDING
  }

  /** Whether nothing is running, pending, out in the world or due: who is suspended now loses no timer. */
  get quiet(): boolean {
    if (this.#running || this.#attempts.size > 0 || !isQuiet(this.state)) return false
    return nextWake(this.state) > this.#around.ctx.clock.nowMs()
  }

  /** Writes an entry of this agent and folds it. The caller waits for durability where it matters. */
  append(kind: string, meta: unknown, payloads: readonly Buffer[]): Tip {
    if (this.#stopped) throw new KernelError('Unavailable', 'Closing', `\`${this.name}\` is being stopped`)
    const tip = appendEntry(this.#around.ctx, this.identity, this.state.tip, kind, meta, payloads)
    fold(this.state, { kind, tip, meta, payloads })
    return tip
  }

  /** Looks for something to do; called after anything was appended. */
  pump(): void {
    if (this.#running || this.#stopping) return
    if (this.state.quarantined) return
    this.#arm()
    const inputs = chooseInputs(this.state)
    if (inputs.length === 0) {
      if (this.quiet) this.#around.quiet(this)
      return
    }
    this.#running = this.#turn(inputs)
      .catch((error) => this.#around.fatal(error))
      .finally(() => {
        this.#running = undefined
        // An act may start the next turn; those behind it then wait for its end again.
        for (const act of this.#afterTurn.splice(0)) this.betweenTurns(act)
        this.pump()
      })
  }

  /** Runs `act` when no turn is under way, so that it sees what the guest saw. */
  betweenTurns(act: () => void): void {
    if (this.#running) this.#afterTurn.push(act)
    else act()
  }

  /** Takes up what an earlier run of the node left open. */
  recover(): void {
    for (const effect of [...this.state.effects.values()]) {
      if (effect.class === 'sleep') continue
      // Cancelled before it began: it must not begin now. A keyed one may have begun, and is repeated.
      if (effect.dropped && effect.class !== 'idempotent' && !effect.started)
        this.receive(effect, cancelledReceipt())
      else this.#perform(effect, true)
    }
    this.pump()
  }

  async #turn(inputs: readonly PendingInput[]): Promise<void> {
    const { ctx } = this.#around
    await ctx.log.room()
    const basis = this.state.tip
    const timeMs = Math.max(ctx.clock.nowMs(), this.state.timeMs)
    const seed = turnSeed(ctx.secret, this.identity.birth, basis.hash)
    this.#instance ??= ctx.engine.create(this.image.image, { maximumBytes: ctx.limits.memoryBytes })
    const outcome = await this.#deliver(inputs, timeMs, seed)
    const base = {
      inputs: inputs.map((i) => i.ref),
      basis: basis.seq,
      time: timeMs,
      limits: { fuel: ctx.limits.fuel, memory: ctx.limits.memoryBytes },
    }
    if (!outcome.ok) return this.#fail(inputs, base, outcome.kind, outcome.detail)
    let output: GuestOutput
    try {
      output = parseOutput(outcome.output)
    } catch (error) {
      if (!(error instanceof BadOutput)) throw error
      return this.#fail(inputs, base, error.code, error.message)
    }
    this.#commit(base, output, outcome.output, outcome.fuel)
    if (++this.#turnsSinceSnapshot >= SNAPSHOT_TURNS) await this.save()
  }

  /** A host failure is not the guest's: the attempt never happened, so it is made again from the record. */
  async #deliver(inputs: readonly PendingInput[], clockMs: number, seed: Buffer) {
    const { ctx } = this.#around
    const turn = { events: inputs.map((i) => i.bytes), clockMs, seed, fuel: ctx.limits.fuel }
    try {
      return await ctx.engine.deliver(this.#instance as Instance, this.identity.lane, turn)
    } catch (error) {
      if (!(error instanceof EngineFailure)) throw error
      await this.#rebuild()
      return ctx.engine.deliver(this.#instance as Instance, this.identity.lane, turn)
    }
  }

  #commit(base: TurnBase, output: GuestOutput, raw: Buffer, fuel: number): void {
    const { ctx } = this.#around
    const seq = this.state.tip.seq + 1
    const authority = this.authority()
    const decided = decideEffects(ctx, authority, this.state, output, seq, base.time)
    const { meta, payloads } = turnEntry(this.state, base, authority.card, decided, output, raw, fuel)
    ctx.crashPoint('turn.before')
    const tip = this.append('turn', meta, payloads)
    ctx.crashPoint('turn.appended')
    for (const id of meta.drops) this.#abandonAttempt(id)
    const answered = new Set(meta.replies.map(([id]) => id))
    ctx.log.whenDurable(tip.pos, () => {
      ctx.crashPoint('turn.durable')
      this.#release(seq, decided, output, answered)
    })
  }

  #release(
    seq: number,
    { metas, details }: Decided,
    output: GuestOutput,
    answered: ReadonlySet<InvocationId>,
  ): void {
    for (const reply of output.replies) {
      if (answered.has(reply.invocation))
        this.#around.released(reply.invocation, this.showReply(reply.ok, reply.value))
    }
    metas.forEach((meta, index) => {
      // Whoever takes this agent up again finds its effects open, and begins or ends them.
      if (meta.verdict !== 'allow' || this.#stopping) return
      const effect = this.state.effects.get(effectId(seq, index))
      if (effect && effect.class !== 'sleep' && !effect.dropped) this.#perform(effect, false)
      else if (effect?.dropped && !this.#attempts.has(effect.id)) this.receive(effect, cancelledReceipt())
    })
    const refused = details.map((d) => ({
      effect: `${this.name}@${seq}.${d.index}`,
      message: d.error.message,
    }))
    if (output.logs.length === 0 && refused.length === 0) return
    const { ctx } = this.#around
    const logs = output.logs.map(
      ([level, text]) => [level, ctx.images.mapStack(this.image.hash, text)] as const,
    )
    ctx.onTurn({ address: this.name, seq, logs, refused })
  }

  /** The turn is undone whole: inputs answered with the error, memory as it was before. */
  async #fail(inputs: readonly PendingInput[], base: TurnBase, kind: string, detail: string): Promise<void> {
    const { ctx } = this.#around
    this.#dropInstance()
    const shown = ctx.images.mapStack(this.image.hash, detail)
    const { meta, payloads, error } = failedEntry(this.state, base, inputs, kind, shown)
    const tip = this.append('turn', meta, payloads)
    ctx.crashPoint('turn.failed')
    for (const id of meta.drops) this.#abandonAttempt(id)
    const failed = { kind, detail: firstLine(shown) }
    ctx.log.whenDurable(tip.pos, () => {
      for (const id of meta.ends) this.#around.released(id, { ok: false, error })
      ctx.onTurn({ address: this.name, seq: tip.seq, logs: [], refused: [], failed })
    })
    await this.#rebuild()
  }

  /** Memory again, from the last snapshot and the record. */
  async #rebuild(): Promise<void> {
    const { ctx } = this.#around
    this.#dropInstance()
    const { tip } = this.state
    await ctx.log.untilDurable(tip.pos)
    ctx.derived.apply()
    const row = ctx.derived.findAgent(this.address)
    const snapshot = row && ctx.derived.findSnapshot(row.id)
    const back = await replay(ctx, this.identity, this.image, tip, { snapshot })
    this.#instance = back.instance
  }

  authority(): Authority {
    const { card, generation } = this.#around.ctx.control.cardOf(this.address)
    const { tenant } = this.address
    return { address: this.name, tenant, card, settings: { idempotency: generation.idempotency } }
  }

  showReply(ok: boolean, value: unknown): Reply {
    if (ok) return { ok: true, value: value ?? null }
    const error = value as ReplyError
    if (error.stack === undefined) return { ok: false, error }
    const { stack, ...rest } = error
    const shown = this.#around.ctx.images.mapStack(this.image.hash, stack)
    return { ok: false, error: shown === '' ? rest : { ...rest, stack: shown } }
  }

  #perform(effect: OpenEffect, again: boolean): void {
    const { ctx } = this.#around
    const controller = new AbortController()
    this.#attempts.set(effect.id, controller)
    const started = async () => {
      if (this.#stopping) throw new Stopping()
      const tip = this.append('started', { effect: effect.id }, [])
      await ctx.log.untilDurable(tip.pos)
    }
    const who = {
      birth: this.identity.birth,
      authority: () => this.authority(),
      started,
      signal: controller.signal,
    }
    performEffect(ctx, who, effect, again)
      .then(({ receipt, recorded }) => {
        this.#attempts.delete(effect.id)
        if (!(this.#stopping && controller.signal.aborted)) this.receive(effect, receipt)
        recorded()
      })
      .catch((error) => {
        if (!(error instanceof Stopping)) this.#around.fatal(error)
      })
  }

  /** Records the outcome of an effect; the guest sees exactly these bytes in its next turn. */
  receive(effect: OpenEffect, receipt: Receipt): void {
    const { ctx } = this.#around
    const open = this.state.effects.get(effect.id)
    if (!open) return
    const { event, outcome } = encodeOutcome(this.name, effect, receipt)
    const { class: cls, code } = outcome.ok ? { class: undefined, code: undefined } : outcome.error
    const meta = {
      effect: effect.id,
      ok: outcome.ok,
      ...(cls && { class: cls, code }),
      ...(open.dropped && { dropped: true }),
      ...(effect.class === 'sleep' && { sleep: true }),
    }
    this.append('receipt', meta, [event])
    ctx.crashPoint('receipt.appended')
    this.pump()
  }

  /** Stops an attempt that nobody waits for, unless it may change the world and has begun. */
  #abandonAttempt(id: EffectId): void {
    const effect = this.state.effects.get(id)
    if (!effect || effect.class === 'read' || !effect.started) this.#attempts.get(id)?.abort()
  }

  /** One timer an agent: its next due wait or deadline. */
  #arm(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    const due = nextWake(this.state)
    if (due === Number.POSITIVE_INFINITY) return
    this.#timer = this.#around.ctx.clock.at(due, () => this.#wake())
  }

  #wake(): void {
    const now = this.#around.ctx.clock.nowMs()
    for (const effect of [...this.state.effects.values()]) {
      if (effect.class === 'sleep' && effect.due <= now) this.receive(effect, { ok: true, value: null })
    }
    for (const invocation of [...this.state.invocations.values()]) {
      if (invocation.deadline <= now)
        this.end(invocation.id, 'TimedOut', 'TimedOut', 'the invocation took longer than its type allows')
    }
    for (const [id, until] of [...this.state.ending]) {
      if (until > now) continue
      const event = Buffer.from(JSON.stringify({ t: 'abandon', ids: [id] }))
      this.append('accepted', { what: 'abandon', invocation: id, principal: 'kernel' }, [event])
    }
    this.pump()
  }

  /** Ends an invocation by the kernel's word; a guest that already works on it is told at its next await. */
  end(id: InvocationId, cls: string, code: string, why: string): void {
    this.betweenTurns(() => {
      const open = this.state.invocations.get(id)
      if (!open) return
      const error: ReplyError = { class: cls, code, message: why }
      if (open.delivered) {
        const event = Buffer.from(JSON.stringify({ t: 'cancel', id, why }))
        this.append('accepted', { what: 'cancel', invocation: id, principal: 'kernel' }, [event])
      }
      const tip = this.append('replied', { invocation: id, code, ...this.#ending(open) }, [
        Buffer.from(JSON.stringify(error)),
      ])
      this.#around.ctx.log.whenDurable(tip.pos, () => this.#around.released(id, { ok: false, error }))
      this.pump()
    })
  }

  /** What a serial invocation that the guest knows may still do, so that nothing else sees it half done. */
  #ending({ delivered, shared }: { delivered: boolean; shared: boolean }): Partial<RepliedMeta> {
    if (!delivered) return { undelivered: true }
    return shared ? {} : { until: this.#around.ctx.clock.nowMs() + ENDING_MS }
  }

  /** Saves memory and state: a barrier between turns, at a durable entry. */
  async save(): Promise<void> {
    const { ctx } = this.#around
    if (!this.#instance) return
    const { tip } = this.state
    const state = { ...this.state }
    const memory = await ctx.engine.save(this.#instance, this.identity.lane)
    // Entries may have come in meanwhile: then state and memory are of different moments.
    if (this.state.tip.seq !== tip.seq) return
    const bytes = sealSnapshot(state, memory, this.key)
    await ctx.log.untilDurable(tip.pos)
    ctx.derived.apply()
    ctx.crashPoint('snapshot.before')
    ctx.derived.saveSnapshot(this.identity.birth, tip, bytes)
    ctx.crashPoint('snapshot.saved')
    this.#turnsSinceSnapshot = 0
  }

  /** Ends this object: nothing of the agent stays in the process. Its turn, if one runs, ends first. */
  async stop(options: { readonly save: boolean }): Promise<void> {
    this.#stopping = true
    await this.#running
    this.#timer?.cancel()
    for (const controller of this.#attempts.values()) controller.abort()
    if (options.save && !this.state.quarantined) await this.save()
    this.#dropInstance()
    this.#stopped = true
  }

  #dropInstance(): void {
    if (this.#instance) this.#around.ctx.engine.drop(this.#instance)
    this.#instance = undefined
  }
}
