/**
 * A judge of histories that knows no ceiling and no flow of the kernel's: it keeps who could have
 * learned what (whose next input depends on whose past), and what every card said when it was made.
 *
 * It watches each operation and its answer, asks `get`, `show` and `decide` in between, and throws at
 * the first property that does not hold. The names I1–I16 are those of `docs/cards.md`.
 */
import { type Op, REQUESTS, TOOLS } from './history.ts'
import { type FullGrant, holds, inSink, type Q } from './naive.ts'

export type Answer = { ok: boolean; code?: string; verdict?: string; via?: string } & Record<string, unknown>
export type Run = (op: Op) => Answer

interface CardView {
  readonly live: boolean
  readonly parent: string | null
  readonly owner: string
  readonly now: FullGrant[]
  readonly ever: FullGrant[]
  readonly limits: { depth: number; calls?: number; expires?: number; spend?: Record<string, string> }
}

/** Something that was read: where the grants that it came through let it flow, and its labels. */
interface Read {
  readonly flows: readonly (readonly string[])[]
  readonly back: readonly string[]
  readonly labels: readonly string[]
  /** What the purge takes away. */
  readonly secret: boolean
}

interface AgentNotes {
  readonly id: string
  readonly spawner: string | undefined
  readonly births: string[]
  readonly birthReads: ReadonlySet<Read>
  reads: Set<Read>
  readonly forked: boolean
  /** `ever` of every card accepted, as it was then. */
  readonly accepted: FullGrant[][]
  readonly held: Set<string>
}

interface TurnNotes {
  readonly agent: string
  readonly caller: string | undefined
  /** Each part: grants, or the cards whose union it is. */
  readonly scope: (FullGrant[] | string[])[]
  readonly admits?: boolean
}

interface EffectNotes {
  readonly agent: string
  readonly q: Q
  readonly via: string
  readonly turns: readonly string[]
  readonly approved: string[]
  read: Read
  counted: boolean
  readonly stream: boolean
}

const SINKS = ['a.x', 'b.x', 'c.y', 'mail.z', 'model:m', 'log', 'caller:ann', 'caller:bob']
const CALLERS_AND_LOG = ['log', 'caller:ann', 'caller:bob']

export class Broken extends Error {}

function must(holds: boolean, property: string, what: () => string): void {
  if (!holds) throw new Broken(`${property}: ${what()}`)
}

function sinksOf(q: Q): string[] {
  const { sinks = [] } = (TOOLS.find((t) => t.tool === q.tool) ?? {}) as { sinks?: string[] }
  return sinks.flatMap((s) => (s === '{host}' ? (q.host === undefined ? [] : [q.host as string]) : [s]))
}

export class Oracle {
  readonly #run: Run
  readonly #agents = new Map<string, AgentNotes>()
  readonly #cards = new Map<string, { parent: string | null; minter: string | undefined; reads: Set<Read> }>()
  readonly #turns = new Map<string, TurnNotes>()
  readonly #effects = new Map<string, EffectNotes>()
  readonly #offers = new Map<string, ReadonlySet<Read>>()
  readonly #lapses = new Map<string, number>()
  readonly #revoked = new Set<string>()
  readonly #byHost = new Set<string>()
  /** What each guest that revoked a card had read by then. */
  readonly #revokers = new Map<string, Set<Read>[]>()
  readonly #spent = new Map<string, { calls: number; cents: number }>()
  readonly #views = new Map<string, CardView>()
  #rerooted = false
  readonly #shown = new Map<string, { flow: Set<string>; labels: Set<string> }>()

  constructor(run: Run) {
    this.#run = run
  }

  /** Whether an agent's input depends on a secret. */
  touched(agent: string): boolean {
    return [...(this.#agents.get(agent)?.reads ?? [])].some((read) => read.secret)
  }

  mintedBy(card: string): string | undefined {
    return this.#cards.get(card)?.minter
  }

  /** Whether an agent runs at all; one that is stopped sees nothing. */
  stopped(agent: string): boolean {
    return this.#agents.has(agent) && this.#isStopped(agent)
  }

  /** Runs one operation and checks what it did. */
  step(op: Op): Answer {
    const probes = ['revoke', 'drop', 'tick'].includes(op.op) ? this.#probe() : undefined
    const shown = this.#receiver(op)
    const before = shown && this.#run({ op: 'show', agent: shown })
    const answer = this.#run(op)
    if (before) this.#unharmed(op, answer, before, this.#run({ op: 'show', agent: shown }))
    this.#note(op, answer)
    if (probes) this.#compare(probes, op)
    return answer
  }

  #receiver(op: Op): string | undefined {
    if (op.op === 'send' && op.to !== op.from)
      return this.#agents.has(op.to as string) ? (op.to as string) : undefined
    if (op.op === 'preview') return this.#agents.has(op.agent as string) ? (op.agent as string) : undefined
    return op.op === 'reply' ? this.#turns.get(op.id as string)?.caller : undefined
  }

  /** R7: what was refused changes nothing, and what nobody asked for costs nothing. */
  #unharmed(op: Op, answer: Answer, before: Answer, after: Answer): void {
    const what = () =>
      `${op.op} ${JSON.stringify(answer)} changed ${JSON.stringify(before)} to ${JSON.stringify(after)}`
    if (!answer.ok && op.op !== 'preview') must(JSON.stringify(before) === JSON.stringify(after), 'R7', what)
    const admitted =
      // An answer is judged by the caller as it was when it called.
      (op.op === 'reply' && this.#rerooted) ||
      op.admits !== undefined ||
      ['some', 'open'].includes(op.method as string) ||
      (op.op === 'reply' && this.#turns.get(op.id as string)?.admits === true)
    if (!admitted) must(JSON.stringify(before.keeps) === JSON.stringify(after.keeps), 'R7', what)
  }

  /** What a card says changes only when the host roots it anew; whether it lives is asked for at the end. */
  #get(card: string): CardView {
    const known = this.#views.get(card)
    if (known) return known
    const view = this.#run({ op: 'get', card }) as unknown as CardView
    if (view.owner !== undefined) this.#views.set(card, view)
    return view
  }

  #note(op: Op, answer: Answer): void {
    if (op.op === 'do' || op.op === 'approve') return this.#effect(op, answer)
    if (!answer.ok) return this.#refused(op, answer)
    const handler = this.#handlers[op.op]
    handler?.(op, answer)
  }

  readonly #handlers: Record<string, (op: Op, answer: Answer) => void> = {
    root: (op) => {
      this.#addAgent(op.agent as string, undefined, new Set(), [op.card as string])
      this.#addCard(op.card as string, undefined)
      this.#below(op.card as string, undefined)
    },
    reroot: () => {
      this.#rerooted = true
      this.#shown.clear()
      this.#views.clear()
    },
    spawn: (op) => {
      const by = this.#agents.get(op.by as string) as AgentNotes
      const cards = op.cards as { card: string; from: string }[]
      must(tenantOf(op.agent) === tenantOf(op.by), 'I7', () => `${op.by} spawned ${op.agent}`)
      this.#addAgent(
        op.agent as string,
        by.id,
        by.reads,
        cards.map((c) => c.card),
      )
      for (const { card } of cards) {
        this.#addCard(card, by.id)
        this.#below(card, by, op)
      }
      this.#count(op, this.#via(op, by.id, { tool: 'agent.spawn', resource: tail(op.agent) }))
    },
    offer: (op) => {
      const by = this.#agents.get(op.by as string) as AgentNotes
      must(tenantOf(op.to) === tenantOf(op.by), 'I7', () => `${op.by} offered to ${op.to}`)
      this.#sees(by.id, op.to as string)
      this.#addCard(op.card as string, by.id)
      this.#below(op.card as string, by, op)
      this.#offers.set(op.card as string, new Set(by.reads))
      this.#lapses.set(op.card as string, this.#nowMs + ((op.lapses as number | undefined) ?? 86_400_000))
      this.#count(op, op.from as string)
    },
    preview: (op) => this.#join(op.agent as string, this.#offers.get(op.card as string) ?? new Set()),
    accept: (op) => {
      const agent = this.#agents.get(op.agent as string) as AgentNotes
      if (agent.held.has(op.card as string)) return
      must(this.#isLive(op.card as string), 'R4', () => `${agent.id} accepted a dead card`)
      agent.held.add(op.card as string)
      agent.accepted.push(this.#get(op.card as string).ever)
    },
    drop: (op) => this.#agents.get(op.agent as string)?.held.delete(op.card as string),
    revoke: (op) => {
      const card = op.card as string
      this.#revoked.add(card)
      if (op.by === undefined) {
        this.#byHost.add(card)
        return
      }
      const reads = (this.#agents.get(op.by as string) as AgentNotes).reads
      for (const read of reads) this.#cards.get(card)?.reads.add(read)
      this.#revokers.set(card, [...(this.#revokers.get(card) ?? []), new Set(reads)])
      for (const agent of this.#agents.values())
        if ([...agent.held].some((c) => this.#chain(c).includes(card))) this.#join(agent.id, reads)
      for (const turn of this.#turns.values())
        if (turn.scope.some((part) => isCards(part) && part.some((c) => this.#chain(c).includes(card))))
          this.#join(turn.agent, reads)
    },
    input: (op) => {
      const labels = (op.labels as string[] | undefined) ?? ['untrusted']
      const read: Read = { flows: [['*']], back: [], labels, secret: labels.includes('private') }
      if (labels.length > 0) this.#join(op.to as string, new Set([read]))
      const scope = op.scope && op.method !== 'own' ? [this.#fullForm(op.scope)] : []
      this.#turns.set(op.id as string, { agent: op.to as string, caller: undefined, scope })
    },
    send: (op) => {
      const { from, to } = op as unknown as { from: string; to: string }
      must(tenantOf(from) === tenantOf(to), 'I7', () => `${from} sent to ${to}`)
      const sender = this.#agents.get(from) as AgentNotes
      const receiver = this.#agents.get(to) as AgentNotes
      this.#sees(from, to)
      if (!this.#isStopped(to)) this.#join(to, sender.reads)
      const under = op.under ? [op.under as string] : sender.births
      const serves = this.#scopeOf(op.for)
      const scope = op.method === 'own' ? [] : [under, ...serves]
      this.#turns.set(op.id as string, { agent: to, caller: from, scope, admits: op.admits !== undefined })
      if (receiver.spawner !== from || receiver.forked)
        this.#count(op, this.#via(op, from, { tool: 'agent.send', resource: tail(to), method: op.method }))
    },
    reply: (op) => {
      const turn = this.#turns.get(op.id as string) as TurnNotes
      if (turn.caller) this.#join(turn.caller, (this.#agents.get(turn.agent) as AgentNotes).reads)
    },
    timer: (op) => {
      const scope = this.#scopeOf(op.for)
      this.#turns.set(op.id as string, { agent: op.agent as string, caller: undefined, scope })
    },
    receipt: (op) => {
      const effect = this.#effects.get(op.id as string)
      if (!effect) return
      const outcome = (op.outcome as string | undefined) ?? 'done'
      if (outcome === 'done') this.#join(effect.agent, new Set([effect.read]))
      if (outcome === 'failed') this.#uncount(effect)
    },
    fork: (op) => {
      const old = this.#agents.get(op.agent as string) as AgentNotes
      const cards = op.cards as Record<string, string>
      const as = op.as as string
      this.#addAgent(
        as,
        old.spawner,
        old.reads,
        old.births.map((c) => cards[c] as string),
      )
      const copy = this.#agents.get(as) as AgentNotes
      // That there is a fork tells of no guest: the host made it.
      Object.assign(copy, { forked: true })
      copy.accepted.push(...old.accepted)
      copy.held.clear()
      for (const card of old.held) copy.held.add(cards[card] as string)
      for (const [from, to] of Object.entries(cards)) {
        this.#addCard(to, undefined)
        must(this.#get(to).parent === from, 'R18', () => `${to} is no child of ${from}`)
      }
      const [a, b] = [old.id, as].map((agent) => this.#run({ op: 'show', agent }))
      for (const name of ['flow', 'labels', 'keeps'] as const)
        must(
          JSON.stringify(a?.[name]) === JSON.stringify(b?.[name]),
          'I15',
          () => `${name} of a fork differs`,
        )
    },
  }

  /** An answer that shows that somebody exists, or that a guest acted, tells of them. */
  #refused(op: Op, answer: Answer): void {
    if (op.op === 'send' && ['WouldTaint', 'Stopped'].includes(answer.code as string)) {
      this.#sees(op.from as string, op.to as string)
      if (answer.code === 'Stopped' && op.from !== op.to) this.#seesStop(op.from as string, op.to as string)
    }
    if (
      op.op === 'offer' &&
      ['TooManyOffers', 'OverWide', 'NoDepth', 'NowNotInEver'].includes(answer.code as string)
    )
      this.#sees(op.by as string, op.to as string)
    const byHost = this.#chain(op.card as string).some((card) => this.#byHost.has(card))
    const lapsed = this.#nowMs >= (this.#lapses.get(op.card as string) ?? Number.POSITIVE_INFINITY)
    if (
      op.op === 'accept' &&
      answer.code === 'NotLive' &&
      !byHost &&
      !lapsed &&
      !this.#expired(op.card as string)
    )
      for (const card of this.#chain(op.card as string))
        this.#join(op.agent as string, this.#cards.get(card)?.reads ?? new Set())
  }

  #seesStop(asker: string, stopped: string): void {
    // What the host or the clock did alone tells of no guest.
    for (let at: string | undefined = stopped; at; at = this.#agents.get(at)?.spawner) {
      const births = this.#agents.get(at)?.births ?? []
      if (births.every((card) => this.#chain(card).some((c) => this.#byHost.has(c)) || this.#expired(card)))
        return
    }
    for (let at: string | undefined = stopped; at; at = this.#agents.get(at)?.spawner)
      for (const card of this.#agents.get(at)?.births ?? [])
        for (const above of this.#chain(card))
          for (const reads of this.#revokers.get(above) ?? [])
            if (this.#isFree(asker, reads)) this.#join(asker, reads)
  }

  /** Whether learning these costs an agent nothing; what costs something is not shown, or other revocations sufficed. */
  #isFree(asker: string, reads: ReadonlySet<Read>): boolean {
    const { births } = this.#agents.get(asker) as AgentNotes
    const keeps = this.#run({ op: 'show', agent: asker }).keeps as string[]
    const grants = births.flatMap((card) => [...this.#get(card).now, ...this.#get(card).ever])
    return [...reads].every(
      (read) =>
        SINKS.filter((sink) => keeps.some((cell) => inSink(cell, sink))).every(
          (sink) => read.back.includes(sink) || read.flows.some((flow) => this.#flows(flow, sink)),
        ) && read.labels.every((l) => grants.every((g) => g.labels === '*' || g.labels.includes(l))),
    )
  }

  #sees(asker: string, other: string): void {
    const notes = this.#agents.get(other)
    if (notes?.spawner && !notes.forked) this.#join(asker, notes.birthReads)
  }

  #join(agent: string, reads: ReadonlySet<Read>): void {
    const notes = this.#agents.get(agent)
    if (!notes) return
    notes.reads = new Set([...notes.reads, ...reads])
  }

  #addAgent(id: string, spawner: string | undefined, reads: ReadonlySet<Read>, births: string[]): void {
    const copy = new Set(reads)
    this.#agents.set(id, {
      id,
      spawner,
      births,
      birthReads: copy,
      forked: false,
      reads: copy,
      accepted: [],
      held: new Set(births),
    })
  }

  #addCard(id: string, minter: string | undefined): void {
    this.#cards.set(id, { parent: this.#get(id).parent, minter, reads: new Set() })
  }

  #chain(card: string): string[] {
    const chain: string[] = []
    for (let at: string | null | undefined = card; at; at = this.#cards.get(at)?.parent) chain.push(at)
    return chain
  }

  #isLive(card: string): boolean {
    return !this.#chain(card).some((c) => this.#revoked.has(c)) && !this.#expired(card)
  }

  #nowMs = 0
  #expired(card: string): boolean {
    return this.#chain(card).some((c) => {
      const { expires } = this.#get(c).limits
      return expires !== undefined && this.#nowMs >= expires
    })
  }

  #isStopped(agent: string): boolean {
    for (let at: string | undefined = agent; at; at = this.#agents.get(at)?.spawner)
      if (!this.#agents.get(at)?.births.some((card) => this.#isLive(card))) return true
    return false
  }

  /** I1, I2, I11, I16: what was minted lies below its parent, its minter's cards, and in its own `ever`. */
  #below(id: string, minter: AgentNotes | undefined, op?: Op): void {
    const card = this.#get(id)
    for (const box of card.now)
      must(
        card.ever.some((e) => this.#within(box, e)),
        'I2',
        () => `now of ${id} is not in its ever`,
      )
    if (!card.parent || !minter) return
    const parent = this.#get(card.parent)
    for (const bound of ['now', 'ever'] as const)
      for (const box of card[bound])
        must(
          this.#coveredBy(box, this.#terms(card.parent, bound)),
          'I1',
          () => `${bound} of ${id} is wider than ${card.parent}: ${JSON.stringify(box)}`,
        )
    must(card.limits.depth < parent.limits.depth, 'I1', () => `depth of ${id}`)
    for (const name of ['calls', 'expires'] as const) {
      const most = parent.limits[name]
      must(most === undefined || (card.limits[name] ?? Infinity) <= most, 'I1', () => `${name} of ${id}`)
    }
    for (const [currency, most] of Object.entries(parent.limits.spend ?? {}))
      must(Number(card.limits.spend?.[currency] ?? Infinity) <= Number(most), 'I1', () => `spend of ${id}`)
    for (const q of REQUESTS) {
      if (!card.ever.some((box) => holds(box, q))) continue
      must(this.#inCeiling(minter, q), 'I11', () => `${id} allows ${JSON.stringify(q)}, its minter never`)
      for (const part of this.#scopeOf(op?.for))
        must(
          this.#inScope(part, q),
          'R1',
          () => `${id} allows ${JSON.stringify(q)}, its minter's turn does not`,
        )
    }
  }

  /** The card's bound and that of its root, if the host moved that. */
  #terms(card: string, bound: 'now' | 'ever'): FullGrant[][] {
    return [this.#get(card)[bound]]
  }

  #coveredBy(box: FullGrant, terms: FullGrant[][]): boolean {
    return terms.every((term) => term.some((other) => this.#within(box, other)))
  }

  /** Whether one grant lies in another, by all requests and sinks that there are. */
  #within(a: FullGrant, b: FullGrant): boolean {
    return (
      REQUESTS.every((q) => !holds(a, q) || holds(b, q)) &&
      SINKS.every((s) => !this.#flows(a.flow, s) || this.#flows(b.flow, s)) &&
      (b.labels === '*' || (a.labels !== '*' && a.labels.every((l) => b.labels.includes(l)))) &&
      b.ask.every((role) => a.ask.includes(role))
    )
  }

  /** Whether a flow reaches a sink; `@root` stands for what that root's own `ever` reaches. */
  #flows(flow: readonly string[], sink: string): boolean {
    const roots = flow.filter((cell) => cell.startsWith('@')).map((cell) => cell.slice(1))
    return (
      flow.some((cell) => !cell.startsWith('@') && inSink(cell, sink)) &&
      roots.every((root) => CALLERS_AND_LOG.includes(sink) || this.#rootReaches(root, sink))
    )
  }

  #rootReaches(root: string, sink: string): boolean {
    const [card] = this.#agents.get(root)?.births ?? []
    const { ever } = card === undefined ? { ever: [] } : this.#get(card)
    return ever.some((box) =>
      TOOLS.some(({ tool, sinks = [] }) => {
        const named = holds(
          {
            ...box,
            resource: undefined,
            host: undefined,
            method: undefined,
            path: undefined,
            args: '*',
          } as never,
          { tool },
        )
        return (
          named &&
          (sinks as string[]).some((s) =>
            s === '{host}'
              ? box.host !== undefined && (box.host === '*' ? inSink('host:*', sink) : inSink(box.host, sink))
              : s === sink,
          )
        )
      }),
    )
  }

  #inCeiling(agent: AgentNotes, q: Q): boolean {
    const born = agent.births.some((card) => this.#get(card).ever.some((box) => holds(box, q)))
    return born && agent.accepted.every((ever) => ever.some((box) => holds(box, q)))
  }

  #via(op: Op, agent: string, q: Q): string {
    const answer = this.#run({ op: 'decide', agent, q, ...(op.via !== undefined && { via: op.via }) } as Op)
    return (answer.via as string | undefined) ?? (op.via as string)
  }

  #fullForm(grants: unknown): FullGrant[] {
    return (grants as FullGrant[]).map((g) => ({ ...g, flow: ['*'], labels: '*', ask: g.ask ?? [] }))
  }

  #effect(op: Op, answer: Answer): void {
    if (op.op === 'approve') {
      const effect = this.#effects.get(op.id as string)
      if (!effect || !answer.ok) return
      effect.approved.push(op.role as string)
      if (answer.verdict === 'allow') this.#admitted(op.id as string, effect, answer)
      return
    }
    if (!answer.ok || answer.verdict === 'refuse') return
    const { agent, q } = op as unknown as { agent: string; q: Q }
    const effect: EffectNotes = {
      agent,
      q,
      via: answer.via as string,
      turns: (op.for as string[] | undefined) ?? [],
      approved: [],
      read: { flows: [], back: [], labels: [], secret: false },
      counted: false,
      stream: op.stream === true,
    }
    const { births, held } = this.#agents.get(agent) as AgentNotes
    if (op.via !== undefined)
      must(answer.via === op.via, 'R6', () => `done by ${answer.via}, not by ${op.via}`)
    else
      must(
        births.includes(effect.via) &&
          (births.length === 1 ||
            births.filter((c) =>
              this.#get(c).now.some((b) =>
                holds(
                  { ...b, resource: '*', host: '*', method: '*', path: '*', args: '*' },
                  { tool: q.tool, host: 'a.x', path: '/a', resource: 'a', method: 'a' },
                ),
              ),
            ).length === 1),
        'R6',
        () => `${effect.via} was chosen for ${JSON.stringify(q)}`,
      )
    must(held.has(effect.via), 'R6', () => `${agent} does not hold ${effect.via}`)
    this.#effects.set(op.id as string, effect)
    if (answer.verdict === 'allow') this.#admitted(op.id as string, effect, answer)
  }

  /** I3, I6, I8, I9, I12, I16 and R20 of an effect that was let through. */
  #admitted(id: string, effect: EffectNotes, answer: Answer): void {
    const { agent, q, via, approved } = effect
    const notes = this.#agents.get(agent) as AgentNotes
    const what = () => `${id} of ${agent} by ${via}: ${JSON.stringify(q)} ${JSON.stringify(answer)}`
    must(this.#isLive(via), 'I8', what)
    must(!this.#isStopped(agent), 'R11', what)
    must(this.#inCeiling(notes, q), 'I3', what)
    for (const card of this.#chain(via)) {
      const { now, ever } = this.#get(card)
      must(
        now.some((b) => holds(b, q) && b.ask.every((role) => approved.includes(role))),
        'I6 and I16',
        what,
      )
      must(
        ever.some((b) => holds(b, q)),
        'I6',
        what,
      )
    }
    for (const part of this.#scopeOf(effect.turns)) must(this.#inScope(part, q, approved), 'R20', what)
    const labels = new Set([...notes.reads].flatMap((read) => read.labels))
    must(
      this.#get(via).now.some(
        (b) => holds(b, q) && (b.labels === '*' || [...labels].every((l) => b.labels.includes(l))),
      ),
      'clearance',
      () => `${what()} with ${[...labels].join()}`,
    )
    for (const sink of sinksOf(q))
      for (const read of notes.reads)
        must(
          read.back.includes(sink) || read.flows.some((flow) => this.#flows(flow, sink)),
          'I9',
          () => `${what()}: what it read may not flow to ${sink}: ${JSON.stringify(read)}`,
        )
    const flows = this.#get(via)
      .now.filter((b) => holds(b, q))
      .map((b) => b.flow)
    const { yields = [] } = (TOOLS.find((t) => t.tool === q.tool) ?? {}) as { yields?: string[] }
    effect.read = { flows, back: sinksOf(q), labels: yields, secret: q.tool === 'db.read' }
    this.#charge(via, 1, cents(q))
    effect.counted = true
  }

  #scopeOf(turns: unknown): (FullGrant[] | string[])[] {
    return ((turns as string[] | undefined) ?? []).flatMap((turn) => this.#turns.get(turn)?.scope ?? [])
  }

  #inScope(part: FullGrant[] | string[], q: Q, approved?: readonly string[]): boolean {
    const grants = isCards(part) ? part.filter((c) => this.#isLive(c)).flatMap((c) => this.#get(c).now) : part
    return grants.some((b) => holds(b, q) && (!approved || b.ask.every((role) => approved.includes(role))))
  }

  #count(_op: Op, via: string): void {
    this.#charge(via, 1, 0)
  }

  #uncount(effect: EffectNotes): void {
    if (!effect.counted) return
    effect.counted = false
    for (const card of this.#chain(effect.via)) {
      const spent = this.#spent.get(card) as { calls: number; cents: number }
      spent.calls -= 1
      spent.cents -= cents(effect.q)
    }
  }

  /** I12: what a card and all below it were let to take is never more than it has. */
  #charge(via: string, calls: number, amount: number): void {
    for (const card of this.#chain(via)) {
      const spent = this.#spent.get(card) ?? { calls: 0, cents: 0 }
      spent.calls += calls
      spent.cents += amount
      this.#spent.set(card, spent)
      const { limits } = this.#get(card)
      must(spent.calls <= (limits.calls ?? Infinity), 'I12', () => `${card} did ${spent.calls} calls`)
      const most = limits.spend?.EUR
      // A root's next generation may allow less than was spent already; nothing more is spent then.
      must(
        amount === 0 || most === undefined || spent.cents <= Math.round(Number(most) * 100),
        'I12',
        () => `${card} spent ${spent.cents} cents`,
      )
    }
  }

  /** What would be decided for everybody, to compare after an act that may only take away (I13). */
  #probe(): Map<string, string> {
    const verdicts = new Map<string, string>()
    for (const agent of this.#agents.keys())
      for (const q of [REQUESTS[0], REQUESTS[4], REQUESTS[10]] as Q[]) {
        const answer = this.#run({ op: 'decide', agent, q })
        verdicts.set(JSON.stringify([agent, q]), answer.verdict as string)
      }
    return verdicts
  }

  #compare(before: Map<string, string>, op: Op): void {
    for (const [key, verdict] of this.#probe()) {
      const had = before.get(key)
      must(
        verdict !== 'allow' || had === 'allow',
        'I13',
        () => `${op.op} turned ${had} into allow for ${key}`,
      )
    }
  }

  /** I4, I5, R15: ceilings only sank, liveness is exactly that of the trees, and no stream outlives its authority. */
  settle(op: Op): void {
    if (op.op === 'tick') this.#nowMs += op.ms as number
    for (const [id] of this.#agents) {
      const show = this.#run({ op: 'show', agent: id }) as unknown as {
        stopped: boolean
        flow: string[]
        labels: string[]
        open: string[]
      }
      const flow = new Set(SINKS.filter((sink) => show.flow.some((cell) => inSink(cell, sink))))
      const labels = new Set(show.labels)
      const last = this.#shown.get(id)
      must(!last || [...flow].every((s) => last.flow.has(s)), 'I4', () => `the flow of ${id} rose`)
      must(!last || [...last.labels].every((l) => labels.has(l)), 'I4', () => `${id} lost a label`)
      this.#shown.set(id, { flow, labels })
      must(show.stopped === this.#isStopped(id), 'I5', () => `${id} is ${show.stopped ? '' : 'not '}stopped`)
    }
  }

  /** Liveness of every card, once at the end: complete and precise. And what is still open may still go on (R15). */
  end(): void {
    for (const agent of this.#agents.keys())
      for (const id of this.#run({ op: 'show', agent }).open as string[]) {
        const { q, via, turns, approved, stream, counted } = this.#effects.get(id) as EffectNotes
        if (!stream || !counted) continue
        const { spend: _, ...bare } = q
        const op = { op: 'decide', agent, q: bare, via, approved, ...(turns.length > 0 && { for: turns }) }
        const answer = this.#run(op)
        must(
          answer.verdict === 'allow' || answer.by === 'limit',
          'R15',
          () => `${id} goes on: ${JSON.stringify(answer)}`,
        )
      }
    for (const card of this.#cards.keys())
      must(
        (this.#run({ op: 'get', card }) as unknown as CardView).live === this.#isLive(card),
        'I5',
        () => `${card} is wrongly ${this.#isLive(card) ? 'dead' : 'live'}`,
      )
  }
}

function isCards(part: FullGrant[] | string[]): part is string[] {
  return typeof part[0] === 'string'
}

function cents(q: Q): number {
  return Math.round(Number((q.spend as { EUR?: string } | undefined)?.EUR ?? 0) * 100)
}

function tenantOf(address: unknown): string {
  return String(address).split('/')[0] as string
}

function tail(address: unknown): string {
  return String(address).split('/').slice(1).join('/')
}
