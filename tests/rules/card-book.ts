/**
 * What the oracle knows of cards: what each said when it was minted, its ancestors, whether it lives, what
 * it has spent. Grants are compared by all requests and sinks that histories have, not by the card language.
 */
import { type Op, REQUESTS, TOOLS } from './history.ts'
import { type FullGrant, holds, inSink } from './naive.ts'

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

export const SINKS = ['a.x', 'b.x', 'c.y', 'mail.z', 'model:m', 'log', 'caller:ann', 'caller:bob']
const CALLERS_AND_LOG = ['log', 'caller:ann', 'caller:bob']

export class Broken extends Error {}

export function must(holds: boolean, property: string, what: () => string): void {
  if (!holds) throw new Broken(`${property}: ${what()}`)
}

interface CardNotes {
  readonly parent: string | null
  readonly minter: string | undefined
}

export class CardBook {
  readonly cards = new Map<string, CardNotes>()
  readonly revoked = new Set<string>()
  readonly byHost = new Set<string>()
  readonly spent = new Map<string, { calls: number; cents: number }>()
  nowMs = 0
  readonly #run: Run
  readonly #birthsOf: (agent: string) => readonly string[]
  readonly #views = new Map<string, CardView>()

  constructor(run: Run, birthsOf: (agent: string) => readonly string[]) {
    this.#run = run
    this.#birthsOf = birthsOf
  }

  /** The host made a root anew: what its cards say is asked for again. */
  forget(): void {
    this.#views.clear()
  }

  /** What a card says changes only when the host roots it anew; whether it lives is asked for at the end. */
  get(card: string): CardView {
    const known = this.#views.get(card)
    if (known) return known
    const view = this.#run({ op: 'get', card }) as unknown as CardView
    if (view.owner !== undefined) this.#views.set(card, view)
    return view
  }

  addCard(id: string, minter: string | undefined): void {
    this.cards.set(id, { parent: this.get(id).parent, minter })
  }

  chain(card: string): string[] {
    const chain: string[] = []
    for (let at: string | null | undefined = card; at; at = this.cards.get(at)?.parent) chain.push(at)
    return chain
  }

  isLive(card: string): boolean {
    return !this.chain(card).some((c) => this.revoked.has(c)) && !this.expired(card)
  }

  expired(card: string): boolean {
    return this.chain(card).some((c) => {
      const { expires } = this.get(c).limits
      return expires !== undefined && this.nowMs >= expires
    })
  }

  /** Whether one grant lies in another, by all requests and sinks that there are. */
  within(a: FullGrant, b: FullGrant): boolean {
    return (
      REQUESTS.every((q) => !holds(a, q) || holds(b, q)) &&
      SINKS.every((s) => !this.flows(a.flow, s) || this.flows(b.flow, s)) &&
      (b.labels === '*' || (a.labels !== '*' && a.labels.every((l) => b.labels.includes(l)))) &&
      b.ask.every((role) => a.ask.includes(role))
    )
  }

  /** Whether a flow reaches a sink; `@root` stands for what that root's own `ever` reaches. */
  flows(flow: readonly string[], sink: string): boolean {
    const roots = flow.filter((cell) => cell.startsWith('@')).map((cell) => cell.slice(1))
    return (
      flow.some((cell) => !cell.startsWith('@') && inSink(cell, sink)) &&
      roots.every((root) => CALLERS_AND_LOG.includes(sink) || this.rootReaches(root, sink))
    )
  }

  rootReaches(root: string, sink: string): boolean {
    const [card] = this.#birthsOf(root)
    const { ever } = card === undefined ? { ever: [] } : this.get(card)
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

  /** I12: what a card and all below it were let to take is never more than it has. */
  charge(via: string, calls: number, amount: number): void {
    for (const card of this.chain(via)) {
      const spent = this.spent.get(card) ?? { calls: 0, cents: 0 }
      spent.calls += calls
      spent.cents += amount
      this.spent.set(card, spent)
      const { limits } = this.get(card)
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
}
