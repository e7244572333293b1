/**
 * What the oracle knows of effects, and what must hold of each that was let through. Who had learned what
 * by then is the oracle's; what cards say is the book's.
 */
import { type Answer, type CardBook, must } from './card-book.ts'
import { type Op, TOOLS } from './history.ts'
import { type FullGrant, holds, type Q } from './naive.ts'

/** Something that was read: where the grants that it came through let it flow, and its labels. */
export interface Read {
  readonly flows: readonly (readonly string[])[]
  readonly back: readonly string[]
  readonly labels: readonly string[]
  /** What the purge takes away. */
  readonly secret: boolean
}

export interface AgentNotes {
  readonly id: string
  readonly spawner: string | undefined
  readonly births: string[]
  readonly birthReads: ReadonlySet<Read>
  reads: Set<Read>
  /** `ever` of every card accepted, as it was then. */
  readonly accepted: FullGrant[][]
  readonly held: Set<string>
}

/** Grants, or cards whose union it is. */
export type ScopePart = FullGrant[] | string[]

export interface EffectNotes {
  readonly agent: string
  readonly q: Q
  readonly via: string
  readonly turns: readonly string[]
  readonly approved: string[]
  read: Read
  counted: boolean
  readonly stream: boolean
}

interface Known {
  readonly agent: (id: string) => AgentNotes
  readonly scopeOf: (turn: string) => ScopePart[]
  readonly isStopped: (agent: string) => boolean
  readonly inCeiling: (agent: AgentNotes, q: Q) => boolean
}

export class EffectBook {
  readonly #book: CardBook
  readonly #known: Known
  readonly #effects = new Map<string, EffectNotes>()

  constructor(book: CardBook, known: Known) {
    this.#book = book
    this.#known = known
  }

  get(id: string): EffectNotes | undefined {
    return this.#effects.get(id)
  }

  note(op: Op, answer: Answer): void {
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
    const { births, held } = this.#known.agent(agent)
    if (op.via !== undefined)
      must(answer.via === op.via, 'R6', () => `done by ${answer.via}, not by ${op.via}`)
    else
      must(
        births.includes(effect.via) &&
          (births.length === 1 ||
            births.filter((c) =>
              this.#book
                .get(c)
                .now.some((b) =>
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
    const notes = this.#known.agent(agent)
    const what = () => `${id} of ${agent} by ${via}: ${JSON.stringify(q)} ${JSON.stringify(answer)}`
    must(this.#book.isLive(via), 'I8', what)
    must(!this.#known.isStopped(agent), 'R11', what)
    must(this.#known.inCeiling(notes, q), 'I3', what)
    for (const card of this.#book.chain(via)) {
      const { now, ever } = this.#book.get(card)
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
    for (const part of this.scopeOf(effect.turns)) must(this.inScope(part, q, approved), 'R20', what)
    const labels = new Set([...notes.reads].flatMap((read) => read.labels))
    must(
      this.#book
        .get(via)
        .now.some((b) => holds(b, q) && (b.labels === '*' || [...labels].every((l) => b.labels.includes(l)))),
      'clearance',
      () => `${what()} with ${[...labels].join()}`,
    )
    for (const sink of sinksOf(q))
      for (const read of notes.reads)
        must(
          read.back.includes(sink) || read.flows.some((flow) => this.#book.flows(flow, sink)),
          'I9',
          () => `${what()}: what it read may not flow to ${sink}: ${JSON.stringify(read)}`,
        )
    const flows = this.#book
      .get(via)
      .now.filter((b) => holds(b, q))
      .map((b) => b.flow)
    const { yields = [] } = (TOOLS.find((t) => t.tool === q.tool) ?? {}) as { yields?: string[] }
    effect.read = { flows, back: sinksOf(q), labels: yields, secret: q.tool === 'db.read' }
    this.#book.charge(via, 1, cents(q))
    effect.counted = true
  }

  scopeOf(turns: unknown): ScopePart[] {
    return ((turns as string[] | undefined) ?? []).flatMap((turn) => this.#known.scopeOf(turn))
  }

  inScope(part: ScopePart, q: Q, approved?: readonly string[]): boolean {
    const grants = isCards(part)
      ? part.filter((c) => this.#book.isLive(c)).flatMap((c) => this.#book.get(c).now)
      : part
    return grants.some((b) => holds(b, q) && (!approved || b.ask.every((role) => approved.includes(role))))
  }

  uncount(effect: EffectNotes): void {
    if (!effect.counted) return
    effect.counted = false
    for (const card of this.#book.chain(effect.via)) {
      const spent = this.#book.spent.get(card) as { calls: number; cents: number }
      spent.calls -= 1
      spent.cents -= cents(effect.q)
    }
  }
}

function sinksOf(q: Q): string[] {
  const { sinks = [] } = (TOOLS.find((t) => t.tool === q.tool) ?? {}) as { sinks?: string[] }
  return sinks.flatMap((s) => (s === '{host}' ? (q.host === undefined ? [] : [q.host as string]) : [s]))
}

export function isCards(part: ScopePart): part is string[] {
  return typeof part[0] === 'string'
}

function cents(q: Q): number {
  return Math.round(Number((q.spend as { EUR?: string } | undefined)?.EUR ?? 0) * 100)
}
