/**
 * A judge of histories that knows no ceiling and no flow of the kernel's: it keeps who could have
 * learned what (whose next input depends on whose past), and what every card said when it was made.
 *
 * It watches each operation and its answer, asks `get`, `show` and `decide` in between, and throws at
 * the first property that does not hold. The names I1–I16 are those of `docs/cards.md`.
 */

import { type Answer, CardBook, must, type Run, SINKS } from './card-book.ts'
import {
  type AgentNotes,
  EffectBook,
  type EffectNotes,
  isCards,
  type Read,
  type ScopePart,
} from './effect-book.ts'
import { type Op, REQUESTS } from './history.ts'
import { type FullGrant, holds, inSink, overlap, type Q } from './naive.ts'

interface TurnNotes {
  readonly agent: string
  readonly caller: string | undefined
  /** Each part: grants, or the cards whose union it is. */
  readonly scope: ScopePart[]
  readonly admits?: boolean
}

export class Oracle {
  readonly #run: Run
  readonly #book: CardBook
  readonly #agents = new Map<string, AgentNotes>()
  readonly #turns = new Map<string, TurnNotes>()
  readonly #effects: EffectBook
  readonly #offers = new Map<string, ReadonlySet<Read>>()
  readonly #lapses = new Map<string, number>()
  /** What each guest that revoked a card had read by then. */
  readonly #revokers = new Map<string, Set<Read>[]>()
  /** Standing ceilings of the host's, and whom each fork is one of. */
  readonly #ceilings: { readonly target: string; readonly ceiling: readonly Partial<FullGrant>[] }[] = []
  readonly #origins = new Map<string, string>()
  #rerooted = false
  readonly #shown = new Map<string, { flow: Set<string>; labels: Set<string> }>()

  constructor(run: Run) {
    this.#run = run
    this.#book = new CardBook(run, (agent) => this.#agents.get(agent)?.births ?? [])
    this.#effects = new EffectBook(this.#book, {
      agent: (id) => this.#agents.get(id) as AgentNotes,
      scopeOf: (turn) => this.#turns.get(turn)?.scope ?? [],
      isStopped: (id) => this.#isStopped(id),
      inCeiling: (notes, q) => this.#inCeiling(notes, q),
    })
  }

  /** Whether an agent's input depends on a secret. */
  touched(agent: string): boolean {
    return [...(this.#agents.get(agent)?.reads ?? [])].some((read) => read.secret)
  }

  mintedBy(card: string): string | undefined {
    return this.#book.cards.get(card)?.minter
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

  #note(op: Op, answer: Answer): void {
    if (op.op === 'do' || op.op === 'approve') return this.#effects.note(op, answer)
    if (!answer.ok) return this.#refused(op, answer)
    const handler = this.#handlers[op.op]
    handler?.(op, answer)
  }

  readonly #handlers: Record<string, (op: Op, answer: Answer) => void> = {
    root: (op) => {
      this.#addAgent(op.agent as string, undefined, new Set(), [op.card as string])
      this.#book.addCard(op.card as string, undefined)
      this.#below(op.card as string, undefined)
    },
    reroot: () => {
      this.#rerooted = true
      this.#shown.clear()
      this.#book.forget()
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
        this.#book.addCard(card, by.id)
        this.#below(card, by, op)
      }
      this.#book.charge(this.#via(op, by.id, { tool: 'agent.spawn', resource: tail(op.agent) }), 1, 0)
    },
    offer: (op) => {
      const by = this.#agents.get(op.by as string) as AgentNotes
      must(tenantOf(op.to) === tenantOf(op.by), 'I7', () => `${op.by} offered to ${op.to}`)
      this.#sees(by.id, op.to as string)
      this.#book.addCard(op.card as string, by.id)
      this.#below(op.card as string, by, op)
      this.#offers.set(op.card as string, new Set(by.reads))
      this.#lapses.set(
        op.card as string,
        this.#book.nowMs + ((op.lapses as number | undefined) ?? 86_400_000),
      )
      this.#book.charge(op.from as string, 1, 0)
    },
    preview: (op) => this.#join(op.agent as string, this.#offers.get(op.card as string) ?? new Set()),
    accept: (op) => {
      const agent = this.#agents.get(op.agent as string) as AgentNotes
      if (agent.held.has(op.card as string)) return
      must(this.#book.isLive(op.card as string), 'R4', () => `${agent.id} accepted a dead card`)
      agent.held.add(op.card as string)
      agent.accepted.push(this.#book.get(op.card as string).ever)
    },
    drop: (op) => this.#agents.get(op.agent as string)?.held.delete(op.card as string),
    revoke: (op) => {
      const card = op.card as string
      this.#book.revoked.add(card)
      if (op.by === undefined) {
        this.#book.byHost.add(card)
        return
      }
      const reads = (this.#agents.get(op.by as string) as AgentNotes).reads
      this.#revokers.set(card, [...(this.#revokers.get(card) ?? []), new Set(reads)])
      for (const agent of this.#agents.values())
        if ([...agent.held].some((c) => this.#book.chain(c).includes(card))) this.#join(agent.id, reads)
      for (const turn of this.#turns.values())
        if (turn.scope.some((part) => isCards(part) && part.some((c) => this.#book.chain(c).includes(card))))
          this.#join(turn.agent, reads)
    },
    input: (op) => {
      const labels = (op.labels as string[] | undefined) ?? ['untrusted']
      const read: Read = { flows: [['*']], back: [], labels, secret: labels.includes('private') }
      if (labels.length > 0) this.#join(op.to as string, new Set([read]))
      const scope = op.scope && op.method !== 'own' ? [fullForm(op.scope)] : []
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
      const serves = this.#effects.scopeOf(op.for)
      const scope = op.method === 'own' ? [] : [under, ...serves]
      this.#turns.set(op.id as string, { agent: to, caller: from, scope, admits: op.admits !== undefined })
      if (receiver.spawner !== from)
        this.#book.charge(
          this.#via(op, from, { tool: 'agent.send', resource: tail(to), method: op.method }),
          1,
          0,
        )
    },
    reply: (op) => {
      const turn = this.#turns.get(op.id as string) as TurnNotes
      if (turn.caller) this.#join(turn.caller, (this.#agents.get(turn.agent) as AgentNotes).reads)
    },
    timer: (op) => {
      const scope = this.#effects.scopeOf(op.for)
      this.#turns.set(op.id as string, { agent: op.agent as string, caller: undefined, scope })
    },
    receipt: (op) => {
      const effect = this.#effects.get(op.id as string)
      if (!effect) return
      const outcome = (op.outcome as string | undefined) ?? 'done'
      if (outcome === 'done') this.#join(effect.agent, new Set([effect.read]))
      if (outcome === 'failed') this.#effects.uncount(effect)
    },
    confine: (op) => {
      const { target, ceiling } = op as unknown as { target: string; ceiling?: Partial<FullGrant>[] }
      if (ceiling) this.#ceilings.push({ target, ceiling })
    },
    fork: (op) => {
      this.#origins.set(op.as as string, op.agent as string)
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
      // That there is a fork tells as much as that there is an original, and no more.
      Object.assign(copy, { birthReads: old.birthReads })
      copy.accepted.push(...old.accepted)
      copy.held.clear()
      for (const card of old.held) copy.held.add(cards[card] as string)
      for (const [from, to] of Object.entries(cards)) {
        this.#book.addCard(to, undefined)
        must(this.#book.get(to).parent === from, 'R18', () => `${to} is no child of ${from}`)
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
    const byHost = this.#book.chain(op.card as string).some((card) => this.#book.byHost.has(card))
    const lapsed = this.#book.nowMs >= (this.#lapses.get(op.card as string) ?? Number.POSITIVE_INFINITY)
    if (
      op.op === 'accept' &&
      answer.code === 'NotLive' &&
      !byHost &&
      !lapsed &&
      !this.#book.expired(op.card as string)
    )
      for (const card of this.#book.chain(op.card as string))
        for (const reads of this.#revokers.get(card) ?? []) this.#join(op.agent as string, reads)
  }

  #seesStop(asker: string, stopped: string): void {
    // What the host or the clock did alone tells of no guest.
    for (let at: string | undefined = stopped; at; at = this.#agents.get(at)?.spawner) {
      const births = this.#agents.get(at)?.births ?? []
      if (
        births.every(
          (card) => this.#book.chain(card).some((c) => this.#book.byHost.has(c)) || this.#book.expired(card),
        )
      )
        return
    }
    for (let at: string | undefined = stopped; at; at = this.#agents.get(at)?.spawner)
      for (const card of this.#agents.get(at)?.births ?? [])
        for (const above of this.#book.chain(card))
          for (const reads of this.#revokers.get(above) ?? [])
            if (this.#isFree(asker, reads)) this.#join(asker, reads)
  }

  /** Whether learning these costs an agent nothing; what costs something is not shown, or other revocations sufficed. */
  #isFree(asker: string, reads: ReadonlySet<Read>): boolean {
    const { births } = this.#agents.get(asker) as AgentNotes
    const keeps = this.#run({ op: 'show', agent: asker }).keeps as string[]
    const grants = [
      ...births.flatMap((card) => this.#book.get(card).now),
      ...this.#confinedTo(
        asker,
        births.flatMap((card) => this.#book.get(card).ever),
      ),
    ]
    return [...reads].every(
      (read) =>
        SINKS.filter((sink) => keeps.some((cell) => inSink(cell, sink))).every(
          (sink) => read.back.includes(sink) || read.flows.some((flow) => this.#book.flows(flow, sink)),
        ) && read.labels.every((l) => grants.every((g) => g.labels === '*' || g.labels.includes(l))),
    )
  }

  /** What the host's confinements leave of grants: of each, what it has in common with one of every ceiling. */
  #confinedTo(agent: string, grants: readonly FullGrant[]): Pick<FullGrant, 'labels'>[] {
    const names = new Set<string>()
    const add = (id: string | undefined): void => {
      if (id === undefined || names.has(id)) return
      const [tenant, type] = id.split('/')
      for (const name of [id, `${tenant}/${type}`, tenant as string]) names.add(name)
      add(this.#agents.get(id)?.spawner)
      add(this.#origins.get(id))
    }
    add(agent)
    const ceilings = this.#ceilings.filter(({ target }) => names.has(target))
    type Met = { readonly of: readonly Partial<FullGrant>[]; readonly labels: '*' | string[] }
    let left: Met[] = grants.map((grant) => ({ of: [grant], labels: grant.labels }))
    for (const { ceiling } of ceilings)
      left = left.flatMap(({ of, labels }) =>
        ceiling
          .filter((grant) => of.every((one) => overlap(one, grant)))
          .map(({ labels: cleared = '*', ...grant }) => ({
            of: [...of, grant],
            labels: labels === '*' ? cleared : labels.filter((l) => cleared === '*' || cleared.includes(l)),
          })),
      )
    return left
  }

  #sees(asker: string, other: string): void {
    const notes = this.#agents.get(other)
    if (notes?.spawner) this.#join(asker, notes.birthReads)
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
      reads: copy,
      accepted: [],
      held: new Set(births),
    })
  }

  #isStopped(agent: string): boolean {
    for (let at: string | undefined = agent; at; at = this.#agents.get(at)?.spawner)
      if (!this.#agents.get(at)?.births.some((card) => this.#book.isLive(card))) return true
    return false
  }

  /** I1, I2, I11, I16: what was minted lies below its parent, its minter's cards, and in its own `ever`. */
  #below(id: string, minter: AgentNotes | undefined, op?: Op): void {
    const card = this.#book.get(id)
    for (const box of card.now)
      must(
        card.ever.some((e) => this.#book.within(box, e)),
        'I2',
        () => `now of ${id} is not in its ever`,
      )
    if (!card.parent || !minter) return
    const parent = this.#book.get(card.parent)
    for (const bound of ['now', 'ever'] as const)
      for (const box of card[bound])
        must(
          parent[bound].some((other) => this.#book.within(box, other)),
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
      for (const part of this.#effects.scopeOf(op?.for))
        must(
          this.#effects.inScope(part, q),
          'R1',
          () => `${id} allows ${JSON.stringify(q)}, its minter's turn does not`,
        )
    }
  }

  #inCeiling(agent: AgentNotes, q: Q): boolean {
    const born = agent.births.some((card) => this.#book.get(card).ever.some((box) => holds(box, q)))
    return born && agent.accepted.every((ever) => ever.some((box) => holds(box, q)))
  }

  #via(op: Op, agent: string, q: Q): string {
    const answer = this.#run({ op: 'decide', agent, q, ...(op.via !== undefined && { via: op.via }) } as Op)
    return (answer.via as string | undefined) ?? (op.via as string)
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
    if (op.op === 'tick') this.#book.nowMs += op.ms as number
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
    for (const card of this.#book.cards.keys())
      must(
        this.#run({ op: 'get', card }).live === this.#book.isLive(card),
        'I5',
        () => `${card} is wrongly ${this.#book.isLive(card) ? 'dead' : 'live'}`,
      )
  }
}

function tenantOf(address: unknown): string {
  return String(address).split('/')[0] as string
}

function tail(address: unknown): string {
  return String(address).split('/').slice(1).join('/')
}

/** A grant of a scope counts by its request and its ask alone. */
function fullForm(grants: unknown): FullGrant[] {
  return (grants as FullGrant[]).map((g) => ({ ...g, flow: ['*'], labels: '*', ask: g.ask ?? [] }))
}
