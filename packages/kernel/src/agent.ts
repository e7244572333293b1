/**
 * One agent that is awake: its state, and the loop that runs its turns on its instance.
 *
 * Everything that happens to an agent goes through `append`, which writes the entry and folds it in
 * one step, with what changed of its authority. Nothing leaves the node before it is durable: replies
 * and effects are released by the log.
 */
import { type Influence, isStopped } from '@cardinal/cards'
import { EngineFailure, type HomeProblem, type HomeRows, type HomeUse, type Instance } from '@cardinal/engine'
import type { PayloadKey, Tip } from '@cardinal/oplog'
import { noActs } from './acts.ts'
import { waitingOf } from './admission.ts'
import { AgentInstance } from './agent-instance.ts'
import { answersOf, endChildren } from './answers.ts'
import { appendEntry } from './append.ts'
import type { AuthorityPayload } from './authority-wire.ts'
import type { Timer } from './clock.ts'
import type { Context } from './context.ts'
import { type Decided, decideEffects } from './decide.ts'
import { Ending } from './ending.ts'
import { KernelError } from './errors.ts'
import { encodeGiven, type HomeToTake, PAUSE_PARTS, partsOf } from './given-home.ts'
import { type ExportedHome, influenceToSign } from './home-transfer.ts'
import { type Address, type EffectId, effectId, type InvocationId, showAddress } from './ids.ts'
import type { LoadedImage } from './images.ts'
import { chooseInputs } from './inputs.ts'
import { type AgentLimits, homeOf, told } from './limits.ts'
import { cancelledReceipt } from './outcome.ts'
import { Outgoing } from './outgoing.ts'
import { type Identity, type Replayed, turnSeed } from './replay.ts'
import type { Reply, ReplyError } from './reply.ts'
import { Standing } from './standing.ts'
import { type AgentState, fold, isQuiet, nextWake, type OpenEffect, type PendingInput } from './state.ts'
import { failedEntry, firstLine, type TurnBase, type TurnUsage, turnEntry } from './turn-entry.ts'
import { Wiping } from './wiping.ts'
import { BadOutput, type GuestOutput, type HomeMeta, parseOutput } from './wire.ts'

/** What an agent needs of the node around it. */
export interface Surroundings {
  readonly ctx: Context
  readonly released: (id: InvocationId, reply: Reply) => void
  readonly quiet: (agent: LiveAgent) => void
  readonly fatal: (error: unknown) => void
  /** Takes a message of this agent to where it goes. */
  readonly dispatch: (agent: LiveAgent, effect: OpenEffect) => void
  /** Takes an answer to the agent that waits for it, with what this one has read. */
  readonly answered: (answer: Answer) => void
  /** Somebody has read more: asks that fail by that are cut. */
  readonly lowered: (tenant: string) => void
  /** Something was offered to an agent, which may be awake. */
  readonly offered: (address: string) => void
  /** Cards died or sank: whoever is stopped by that ends, and asks that fail are cut. */
  readonly sunk: (tenant: string) => void
}

/** One statement over the home of an agent, which cannot write. */
export type AskHome = (sql: string, maxRows: number) => Promise<HomeRows | HomeProblem>

/** An answer on its way to the agent that called. */
export interface Answer {
  readonly caller: string
  readonly effect: string
  readonly reply: Reply
  readonly influence: Influence | undefined
  /** It was declassified. */
  readonly bare?: boolean
  /** `address@seq`: where it was given. */
  readonly from: string
  /** The agent that stopped, which the caller may or may not see. */
  readonly stopped?: string
}

/** So many effects of a turn begin at once; the rest waits its turn among other tenants'. */
const CROWD = 16

export class LiveAgent {
  readonly address: Address
  readonly name: string
  readonly identity: Identity
  readonly image: LoadedImage
  readonly state: AgentState
  readonly standing: Standing
  readonly outgoing: Outgoing
  readonly ending: Ending
  /** Idempotency keys taken since this agent woke; older ones are in derived state. */
  readonly requestKeys = new Map<string, { same: string; invocation: InvocationId }>()
  readonly #around: Surroundings
  readonly #afterTurn: (() => void)[] = []
  readonly #wiping: Wiping
  readonly #instance: AgentInstance
  #running: Promise<void> | undefined
  #timer: Timer | undefined
  #stopping = false
  /** Effects that are allowed and wait for their turn at the kernel's thread. */
  #toBegin = 0
  /** From here on somebody else may write this agent's entries. */
  #stopped = false

  constructor(
    around: Surroundings,
    address: Address,
    identity: Identity,
    image: LoadedImage,
    state: AgentState,
    back: Pick<Replayed, 'instance' | 'hasHome' | 'memoryFile'> | undefined,
    row: Standing['row'],
  ) {
    this.#around = around
    this.address = address
    this.name = showAddress(address)
    this.identity = identity
    this.image = image
    this.state = state
    this.#instance = new AgentInstance(around.ctx, identity, image, state, this, back)
    around.ctx.images.hold(image)
    around.ctx.admission.changed(address, waitingOf(state))
    const who = { address, name: this.name, birth: identity.birth, state, methods: image.methods }
    this.standing = new Standing(around.ctx, who, row)
    this.outgoing = new Outgoing(around, this)
    this.ending = new Ending(around, this)
    this.#wiping = new Wiping(around, this)
  }

  get key(): PayloadKey {
    return this.identity.key
  }

  get stopping(): boolean {
    return this.#stopping
  }

  /** Whether nothing is running, pending, out in the world or due: who is suspended now loses no timer. */
  get quiet(): boolean {
    const now = this.#around.ctx.clock.nowMs()
    if (this.#running || this.#toBegin > 0 || this.outgoing.busy || this.state.wiping) return false
    // Whoever is held runs nothing, whatever waits for it.
    if (this.state.held) return true
    if (!isQuiet(this.state, now)) return false
    return nextWake(this.state, now) > now
  }

  /**
   * Writes an entry of this agent and folds it, with what changed of its authority since the last one.
   * The caller waits for durability where it matters.
   */
  append(kind: string, meta: object, payloads: readonly Buffer[], more: AuthorityPayload = {}): Tip {
    if (this.#stopped) throw new KernelError('Unavailable', 'Closing', `\`${this.name}\` is being stopped`)
    const change: AuthorityPayload = { ...this.standing.change(), ...more }
    const changed = Object.keys(change).length > 0
    const said = changed ? { ...meta, auth: 1 } : meta
    const all = changed ? [...payloads, Buffer.from(JSON.stringify(change))] : payloads
    const tip = appendEntry(this.#around.ctx, this.identity, this.state.tip, kind, said, all)
    const waiting = waitingOf(this.state)
    fold(this.state, { kind, tip, meta: said, payloads: all })
    this.#around.ctx.admission.changed(this.address, waitingOf(this.state) - waiting)
    this.standing.sync()
    return tip
  }

  /** Looks for something to do; called after anything was appended. */
  pump(): void {
    if (this.#running || this.#stopping || this.state.quarantined || this.state.stopped) return
    if (isStopped(this.standing.world, this.standing.row)) {
      this.ending.halt()
      if (this.state.stopped) this.#wiping.giveUp()
      return
    }
    if (this.state.wiping) {
      const begins = this.#wiping.goOn()
      if (begins === undefined) return
      if (begins === 'given') {
        this.#occupy(this.#takeGiven())
        return
      }
      this.#instance.forget().catch(this.#around.fatal)
    }
    this.#arm()
    if (this.state.held) {
      if (this.quiet) this.#around.quiet(this)
      return
    }
    this.ending.announceOffers()
    const inputs = chooseInputs(this.state)
    if (inputs.length === 0) {
      if (this.quiet) this.#around.quiet(this)
      return
    }
    this.#occupy(this.#turn(inputs))
  }

  /** Runs `act` when no turn is under way, so that it sees what the guest saw. */
  betweenTurns(act: () => void): void {
    if (this.#running) this.#afterTurn.push(act)
    else act()
  }

  /** The host freezes the agent, or lets it go on: what is out ends, and nothing new begins meanwhile. */
  hold(held: boolean, principal: string): Promise<void> {
    return new Promise((resolve) => {
      this.betweenTurns(() => {
        if (this.state.held !== held) this.append(held ? 'held' : 'released', { by: principal }, [])
        this.#around.ctx.log.whenDurable(this.state.tip.pos, resolve)
        if (!held) this.outgoing.due(this.#around.ctx.clock.nowMs())
        this.pump()
      })
    })
  }

  /**
   * An operator looks at the home, between turns, and all that he asks is of one moment. What he said is on
   * record before anything of it is shown, and with it whatever put the rows there.
   */
  look<T>(said: string, principal: string, act: (ask: AskHome) => Promise<T>): Promise<T> {
    const { ctx } = this.#around
    return this.#look(async (instance) => {
      const tip = this.append('looked', { by: principal }, [Buffer.from(said)])
      const clockMs = Math.max(ctx.clock.nowMs(), this.state.timeMs)
      const sqlSteps = this.limits.sql.value
      const ask: AskHome = async (sql, maxRows) =>
        this.#instance.hasHome
          ? ctx.engine.readHome(instance, this.identity.lane, { sql, maxRows, sqlSteps, clockMs })
          : { code: 1, error: 'the agent has stored nothing yet' }
      const found = act(ask)
      // Whatever becomes of it, nobody is told before it is on record.
      await Promise.allSettled([found])
      await ctx.log.untilDurable(tip.pos)
      return found
    })
  }

  /** How large the home is, and what SQLite finds wrong with it. */
  checkHome(): Promise<{
    readonly bytes: number
    readonly walBytes: number
    readonly problems: readonly string[]
  }> {
    const { ctx } = this.#around
    return this.#look(async (instance) => {
      const problems = this.#instance.hasHome ? await ctx.engine.checkHome(instance, this.identity.lane) : []
      return { ...ctx.homes.sizeOf(this.identity.birth), problems }
    })
  }

  /** Takes the place of a turn: nothing of the agent runs meanwhile. */
  #look<T>(act: (instance: Instance) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.betweenTurns(() => {
        const looking = async () => {
          if (this.#stopping)
            throw new KernelError('Unavailable', 'Closing', `\`${this.name}\` is being put away`)
          return act(await this.#instance.require())
        }
        this.#occupy(
          looking().then(resolve, async (error) => {
            reject(this.#around.ctx.homes.toTell(error, this.name))
            // What failed in the engine has lost its instance: it comes back from what is saved.
            if (error instanceof EngineFailure) await this.#instance.rebuild()
          }),
        )
      })
    })
  }

  /** Whatever runs in the place of a turn; then whoever waited for its end, then the next turn. */
  #occupy(work: Promise<void>): void {
    this.#running = work
      .catch((error) => {
        // Put away while it waits for room on the disk: whoever wakes it waits again.
        if (this.#stopping && error instanceof KernelError && error.code === 'HomeUnavailable') return
        this.#around.fatal(error)
      })
      .finally(() => {
        this.#running = undefined
        // An act may start the next turn; those behind it then wait for its end again.
        for (const act of this.#afterTurn.splice(0)) this.betweenTurns(act)
        this.pump()
        this.#around.ctx.homes.open.trim()
      })
  }

  /**
   * Writes the home, as it stands between two turns, into a file. Resolves with what it is signed with, once
   * it is on record that somebody took it.
   */
  exportHome(to: string, principal: string): Promise<ExportedHome> {
    const { ctx } = this.#around
    return this.#look(async (instance) => {
      if (!this.#instance.hasHome)
        throw new KernelError('NotFound', 'NoHome', `\`${this.name}\` has stored nothing yet`)
      const { pos, seq } = this.append('looked', { by: principal }, [Buffer.from('home export')])
      const signed = influenceToSign(this.standing.world, this.standing.row)
      await this.#instance.exportHome(instance, to)
      await ctx.log.untilDurable(pos)
      return { seq, setUp: !this.state.pending.some(({ kind }) => kind === 'birth'), ...signed }
    })
  }

  /**
   * Begins anew with a home that was exported: its bytes go into the log, and then, in the same step as
   * `check` says that it still may, the agent is wiped.
   */
  async importHome(home: HomeToTake, principal: string, check: () => void): Promise<void> {
    const { ctx } = this.#around
    const setUp = home.header.image === this.image.hash ? 'same' : 'other'
    const wiped = await this.#look(async () => {
      check()
      const parts: [number, string][] = []
      for (const part of partsOf(home.database)) {
        await ctx.log.room()
        const { pos, hash } = this.append('part', {}, [part])
        ctx.crashPoint('import.part')
        // Others go on meanwhile, however large it is.
        if (parts.push([pos, hash.toString('hex')]) % PAUSE_PARTS === 0)
          await new Promise((resolve) => setImmediate(resolve))
      }
      ctx.crashPoint('import.parts')
      check()
      return {
        begun: this.#wiping.beginNow(principal, { payload: encodeGiven(home, home.influence, parts), setUp }),
      }
    })
    await wiped.begun
    // Whoever is told that it is there finds it there.
    await new Promise<void>((resolve) => this.betweenTurns(resolve))
  }

  /** The host lets the agent begin anew; resolves when it has. */
  wipe(principal: string): Promise<void> {
    return this.#wiping.begin(principal)
  }

  /** Takes up what an earlier run of the node left open. */
  recover(): void {
    this.outgoing.recover()
    this.pump()
  }

  async #turn(inputs: readonly PendingInput[]): Promise<void> {
    const { ctx } = this.#around
    await ctx.log.room()
    const basis = this.state.tip
    const timeMs = Math.max(ctx.clock.nowMs(), this.state.timeMs)
    const seed = turnSeed(ctx.secret, this.identity.birth, basis.hash)
    const { limits } = this
    const homeBytes = this.homeBytes
    const { fuel, memory, sql, wall } = limits
    const bounds = { fuel: fuel.value, memoryBytes: memory.value, sqlSteps: sql.value, homeBytes }
    const turn = { events: inputs.map((i) => i.bytes), clockMs: timeMs, seed, ...bounds }
    const outcome = await this.#instance.run(turn, wall.value)
    if ('denied' in outcome && outcome.denied) this.#noteMemory(limits)
    const base = {
      inputs: inputs.map((i) => i.ref),
      basis: basis.seq,
      time: timeMs,
      limits: { fuel: fuel.value, memory: memory.value, effects: limits.effects.value },
    }
    if (!outcome.ok) {
      const { kind, detail, ends } = outcome
      return this.#fail(inputs, base, kind, withLimit(kind, detail, limits), ends)
    }
    let output: GuestOutput
    try {
      output = parseOutput(outcome.output, limits)
    } catch (error) {
      if (!(error instanceof BadOutput)) throw error
      return this.#fail(inputs, base, error.code, error.message)
    }
    const home = outcome.home && homeMeta(outcome.home, { steps: sql.value, bytes: homeBytes })
    this.#commit(base, output, outcome.output, { fuel: outcome.fuel, home })
    await this.#instance.ran(outcome.micros)
  }

  /** Which version of its manifest is in force, where it is another than at its birth. */
  get generation(): { readonly generation?: number } {
    const { tenant, type } = this.address
    const now = this.#around.ctx.control.findGeneration(tenant, type)?.generation
    return now === undefined || now === this.state.birth?.generation ? {} : { generation: now }
  }

  /** What its home may take: the least that one of its birth cards grants, or that is set for it. */
  get homeBytes(): number {
    return homeOf(this.limits, this.standing.row.births).value
  }

  /** Whoever watches is told what the program was refused; the program itself may catch it. */
  #noteMemory({ memory }: AgentLimits): void {
    const text = `it wanted more memory than it may have: ${told('memory', memory)}`
    const { seq } = this.state.tip
    this.#around.ctx.onTurn({ address: this.name, seq, logs: [['warn', text]], refused: [], asked: [] })
  }

  /** What bounds it now. */
  get limits(): AgentLimits {
    return this.#around.ctx.limits.of(this.address)
  }

  /** Decisions, answers and ends of one turn, and its entry: one step, in which nothing else happens. */
  #commit(base: TurnBase, output: GuestOutput, raw: Buffer, usage: TurnUsage): void {
    const { ctx } = this.#around
    const seq = this.state.tip.seq + 1
    const actor = this.standing.actor()
    const acts = noActs()
    const decided = decideEffects(ctx, actor, output, { ...base, seq }, acts)
    const answers = answersOf(this, output.replies, acts)
    endChildren(
      this,
      answers.map(({ id }) => id),
      acts,
      ctx,
    )
    const [first] = this.standing.row.births
    const { meta, payloads } = turnEntry(
      this.state,
      base,
      first?.id ?? '',
      decided,
      answers,
      output,
      raw,
      usage,
    )
    const said = { ...meta, ...this.generation, ...this.ending.metaOf(acts) }
    ctx.control.noteRunsOn('engine', ctx.runsOn.engine)
    if (usage.home) ctx.control.noteRunsOn('sqlite', ctx.runsOn.sqlite)
    ctx.crashPoint('turn.before')
    const tip = this.append('turn', said, payloads, this.ending.payloadOf(acts))
    ctx.crashPoint('turn.appended')
    for (const id of meta.drops) this.outgoing.abandon(id)
    this.ending.told(tip, acts)
    for (const answer of answers) this.ending.passOn(answer, tip)
    this.outgoing.dispatch(seq, decided.metas)
    this.#mediate(seq, decided, (effect) => !this.outgoing.leaves(effect))
    ctx.log.whenDurable(tip.pos, () => {
      ctx.crashPoint('turn.durable')
      for (const answer of answers) if (answer.shown) this.#around.released(answer.id, answer.shown)
      this.#release(seq, decided, output)
    })
  }

  /** What stands before the effects of a turn, for those that `now` says; others wait until it is durable. */
  #mediate(seq: number, { metas }: Decided, now: (effect: OpenEffect) => boolean): void {
    metas.forEach(({ mediated }, index) => {
      const effect = mediated && this.state.effects.get(effectId(seq, index))
      if (effect && !effect.mediated?.done && !this.outgoing.isOut(effect.id) && now(effect))
        this.outgoing.mediate(effect)
    })
  }

  #release(seq: number, decided: Decided, output: GuestOutput): void {
    const { metas, details } = decided
    if (!this.#stopping) this.#mediate(seq, decided, () => true)
    const begun = metas.flatMap(({ verdict, mediated, class: cls }, index) =>
      verdict === 'allow' && !mediated && cls !== 'sleep' && cls !== 'call' && cls !== 'spawn'
        ? [effectId(seq, index)]
        : [],
    )
    for (const id of begun.slice(0, CROWD)) this.#perform(id)
    for (const id of begun.slice(CROWD)) {
      this.#toBegin++
      this.#around.ctx.pace.add(this.address.tenant, () => {
        this.#toBegin--
        this.#perform(id)
      })
    }
    const refused = details.flatMap((d) =>
      d.error ? [{ effect: `${this.name}@${seq}.${d.index}`, message: d.error.message }] : [],
    )
    const asked = metas.flatMap((meta, index) =>
      meta.verdict === 'ask' ? [`${this.name}@${seq}.${index}`] : [],
    )
    if (output.logs.length === 0 && refused.length === 0 && asked.length === 0) return
    const { ctx } = this.#around
    const logs = output.logs.map(
      ([level, text]) => [level, ctx.images.mapStack(this.image.hash, text)] as const,
    )
    ctx.onTurn({ address: this.name, seq, logs, refused, asked })
  }

  /** Begins an effect that is allowed, or ends one that nobody waits for any more. */
  #perform(id: EffectId): void {
    // Whoever takes this agent up again finds its effects open, and begins or ends them.
    const effect = this.#stopping ? undefined : this.state.effects.get(id)
    if (!effect || this.outgoing.isOut(id)) return
    if (effect.dropped) this.outgoing.receive(effect, cancelledReceipt(), false)
    else this.outgoing.perform(effect, false)
  }

  /**
   * The turn is undone whole: inputs answered with the error, memory as it was before. `ends`: its guest still runs,
   * and whoever waits for it is answered now; nothing else of the agent begins before that has ended.
   */
  async #fail(
    inputs: readonly PendingInput[],
    base: TurnBase,
    kind: string,
    detail: string,
    ends?: Promise<unknown>,
  ): Promise<void> {
    const { ctx } = this.#around
    this.#instance.drop()
    const shown = ctx.images.mapStack(this.image.hash, detail)
    const { meta, payloads, error } = failedEntry(this.state, base, inputs, kind, shown)
    const acts = noActs()
    const answers = answersOf(
      this,
      meta.ends.map((invocation) => ({ invocation, ok: false, value: error })),
      acts,
    )
    endChildren(this, meta.ends, acts, ctx)
    const withheld = answers.filter((a) => a.refused !== undefined).map((a) => a.id)
    const said = { ...meta, ...this.ending.metaOf(acts), ...(withheld.length > 0 && { withheld }) }
    const tip = this.append('turn', said, payloads, this.ending.payloadOf(acts))
    ctx.crashPoint('turn.failed')
    for (const id of meta.drops) this.outgoing.abandon(id)
    this.ending.told(tip, acts)
    for (const answer of answers) this.ending.passOn(answer, tip)
    const failed = { kind, detail: firstLine(shown) }
    ctx.log.whenDurable(tip.pos, () => {
      for (const { id, shown: reply } of answers) if (reply) this.#around.released(id, reply)
      ctx.onTurn({ address: this.name, seq: tip.seq, logs: [], refused: [], asked: [], failed })
    })
    // What comes of it is nobody's any more, and neither is its failure.
    await ends?.catch(() => {})
    await this.#instance.rebuild()
  }

  showReply(ok: boolean, value: unknown): Reply {
    if (ok) return { ok: true, value: value ?? null }
    const error = value as ReplyError
    if (error.stack === undefined) return { ok: false, error }
    const { stack, ...rest } = error
    const shown = this.#around.ctx.images.mapStack(this.image.hash, stack)
    return { ok: false, error: shown === '' ? rest : { ...rest, stack: shown } }
  }

  /** One timer an agent: its next due wait or deadline, or the end of its cards. */
  #arm(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    const due = Math.min(this.#nextDue(), this.standing.diesMs)
    if (due === Number.POSITIVE_INFINITY) return
    this.#timer = this.#around.ctx.clock.at(due, () => this.#wake())
  }

  /** Of a held agent only invocations come to an end. */
  #nextDue(): number {
    if (!this.state.held) return nextWake(this.state, this.#around.ctx.clock.nowMs())
    return Math.min(Number.POSITIVE_INFINITY, ...[...this.state.invocations.values()].map((i) => i.deadline))
  }

  #wake(): void {
    const now = this.#around.ctx.clock.nowMs()
    if (!this.state.held) this.outgoing.due(now)
    for (const invocation of [...this.state.invocations.values()]) {
      if (invocation.deadline <= now)
        this.ending.end(
          invocation.id,
          'TimedOut',
          'TimedOut',
          'the invocation took longer than its type allows',
        )
    }
    for (const [id, until] of [...this.state.ending]) {
      if (until > now) continue
      const event = Buffer.from(JSON.stringify({ t: 'abandon', ids: [id] }))
      this.append('accepted', { what: 'abandon', invocation: id, principal: 'kernel' }, [event])
    }
    this.pump()
  }

  /** Begins with the home that was given, as a replay would; and keeps it, so that none has to. */
  async #takeGiven(): Promise<void> {
    await this.#instance.rebuild()
    await this.#instance.save()
  }

  /** Ends this object: nothing of the agent stays in the process. Its turn, if one runs, ends first. */
  async stop(options: { readonly save: boolean }): Promise<void> {
    this.#stopping = true
    this.#instance.putAway()
    // What waited for its end may take its place.
    while (this.#running) await this.#running
    this.#wiping.giveUp()
    this.#timer?.cancel()
    this.outgoing.abortAll()
    if (options.save && !this.state.quarantined && !this.state.stopped) await this.#instance.save()
    this.#instance.end()
    this.#stopped = true
    const { images, admission, authority } = this.#around.ctx
    images.letGo(this.image)
    admission.changed(this.address, -waitingOf(this.state))
    authority.sleep(this.standing.row)
  }

  /** Saves what is there between two turns; what is open or out stays so. */
  async checkpoint(): Promise<void> {
    if (await this.#look(() => this.#instance.save())) return
    throw new KernelError('Unavailable', 'NotSaved', `\`${this.name}\` could not be saved: is the disk full?`)
  }

  /** Saves and closes the home, which takes descriptors, until a turn needs it again. False: not now. */
  parkHome(): boolean {
    if (this.#running || this.#stopping || !this.#instance.now || this.state.wiping) return false
    this.#occupy(this.#instance.park())
    return true
  }
}

/** What failed a turn, with the limit that it met. */
function withLimit(kind: string, detail: string, limits: AgentLimits): string {
  const name = LIMIT_OF[kind]
  if (name === undefined) return detail
  const [first = '', ...rest] = detail.split('\n')
  return [`${first} (${told(name, limits[name])})`, ...rest].join('\n')
}

const LIMIT_OF: Readonly<Record<string, 'fuel' | 'memory' | 'wall' | 'sql' | undefined>> = {
  OutOfFuel: 'fuel',
  OutOfMemory: 'memory',
  OutOfTime: 'wall',
  SqlSteps: 'sql',
}

function homeMeta(use: HomeUse, bounds: Pick<HomeMeta, 'steps' | 'bytes'>): HomeMeta {
  const stops = use.stops.map(({ call, row, kind }) => [call, row, kind] as const)
  return { digest: use.digest.toString('hex'), ...bounds, ...(stops.length > 0 && { stops }) }
}
