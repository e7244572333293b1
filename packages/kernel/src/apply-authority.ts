/**
 * The part of derived state that is about authority: cards, what was taken of their budgets, revocations,
 * calls under way, and what asks a person. Bounds stay in the log; a row says where.
 */
import type { Pos } from '@cardinal/oplog'
import { type AuthorityMeta, type MintedMeta, rootCardName, type Taken } from './authority-wire.ts'
import type { Statements } from './statements.ts'
import type { EffectMeta } from './wire.ts'

export class AuthorityBatch {
  readonly #db: Statements
  readonly #taken = new Map<string, Map<string, bigint>>()

  constructor(db: Statements) {
    this.#db = db
  }

  /** What any entry of an agent says of cards. */
  add(agent: number, pos: Pos, kind: string, birth: Buffer, meta: AuthorityMeta): void {
    if (kind === 'birth' && !meta.cards)
      this.#card(agent, undefined, pos, 0, { id: rootCardName(birth), limits: { depth: 0 } }, true)
    meta.cards?.forEach((card, part) => {
      const minter = kind === 'birth' ? this.#spawner(agent) : agent
      const owner = card.owner === undefined ? agent : this.#agent(card.owner)
      this.#card(owner, minter, pos, part, card, kind === 'birth')
    })
    for (const taken of meta.debits ?? []) this.debit(taken)
    for (const taken of meta.refunds ?? []) this.refund(taken)
    for (const card of meta.revoked ?? []) this.revoke(pos, card, agent)
    for (const card of meta.took ?? []) this.#state(card, 'held')
    for (const card of meta.gave ?? []) this.#state(card, 'dropped')
  }

  /** A card that the host minted for an agent. */
  minted(pos: Pos, meta: AuthorityMeta): void {
    meta.cards?.forEach((card, part) => {
      this.#card(this.#agent(card.owner as string), undefined, pos, part, card, false)
      this.#state(card.id, 'minted')
    })
  }

  revoke(pos: Pos, card: string, agent: number | undefined): void {
    this.#db.run(
      'insert or replace into revocations(pos, card, agent) values(?,?,?)',
      pos,
      card,
      agent ?? null,
    )
  }

  /** What an allowed effect of a turn takes. */
  spend(birth: Buffer, { via, calls, bytesOut, spend }: EffectMeta): void {
    const of: Record<string, string> = { ...spend }
    if (calls) of.calls = String(calls)
    if (bytesOut) of.bytesOut = String(bytesOut)
    this.debit({ card: via ?? rootCardName(birth), of })
  }

  debit({ card, of }: Taken): void {
    this.#take(card, of, 1n)
  }

  refund({ card, of }: Taken): void {
    this.#take(card, of, -1n)
  }

  call(agent: number, effect: string, callee: string, invocation: string, waits: boolean): void {
    this.#db.run(
      'insert or replace into calls(agent, effect, callee, invocation, waits) values(?,?,?,?,?)',
      agent,
      effect,
      callee,
      invocation,
      waits ? 1 : 0,
    )
  }

  ask(agent: number, effect: string, pos: Pos, roles: readonly (readonly string[])[]): void {
    this.#db.run(
      "insert or replace into asks(agent, effect, pos, roles, approved, state) values(?,?,?,?,'[]','open')",
      agent,
      effect,
      pos,
      JSON.stringify(roles),
    )
  }

  approved(agent: number, effect: string, role: string, verdict: 'allow' | 'ask'): void {
    const row = this.#db.get('select approved from asks where agent = ? and effect = ?', agent, effect)
    const approved = [...JSON.parse((row as { approved: string }).approved), role]
    const state = verdict === 'allow' ? 'approved' : 'open'
    this.#db.run(
      'update asks set approved = ?, state = ? where agent = ? and effect = ?',
      JSON.stringify(approved),
      state,
      agent,
      effect,
    )
  }

  /** An effect that only waited has ended. */
  ended(agent: number, effect: string, state: 'denied' | 'ended'): void {
    this.#db.run('delete from calls where agent = ? and effect = ?', agent, effect)
    this.#db.run(
      "update asks set state = ? where agent = ? and effect = ? and state = 'open'",
      state,
      agent,
      effect,
    )
  }

  /** The agent stopped: nothing of it waits any more. */
  endAll(agent: number): void {
    this.#db.run('delete from calls where agent = ?', agent)
    this.#db.run("update asks set state = 'ended' where agent = ? and state = 'open'", agent)
  }

  /** Writes what was gathered: each card's row once. */
  finish(): void {
    const sums = new Map<number, Map<string, bigint>>()
    for (const [name, amounts] of this.#taken)
      for (let at = this.#parentAt('name', name); at; at = this.#parentAt('id', at.parent))
        add(sums, at.id, amounts)
    for (const [card, amounts] of sums) {
      for (const [name, amount] of amounts) {
        const row = this.#db.get('select spent from counters where card = ? and name = ?', card, name)
        const spent = BigInt((row as { spent: string } | undefined)?.spent ?? '0') + amount
        this.#db.run(
          'insert or replace into counters(card, name, spent) values(?,?,?)',
          card,
          name,
          String(spent),
        )
      }
    }
  }

  #take(card: string, of: Readonly<Record<string, string>>, sign: bigint): void {
    const amounts = new Map(Object.entries(of).map(([name, amount]) => [name, sign * BigInt(amount)]))
    add(this.#taken, card, amounts)
  }

  #parentAt(
    by: 'name' | 'id',
    value: string | number | null,
  ): { id: number; parent: number | null } | undefined {
    if (value === null) return undefined
    return this.#db.get(`select id, parent from cards where ${by} = ?`, value) as
      | { id: number; parent: number | null }
      | undefined
  }

  #card(
    owner: number,
    minter: number | undefined,
    pos: Pos,
    part: number,
    { id, parent, limits, lapses }: MintedMeta,
    birth: boolean,
  ): void {
    const above = parent === undefined ? undefined : this.#parentAt('name', parent)
    this.#db.run(
      'insert into cards(name, owner, minter, parent, pos, part, limits, birth, state, lapses, expires) values(?,?,?,?,?,?,?,?,?,?,?)',
      id,
      owner,
      minter ?? null,
      above?.id ?? null,
      pos,
      part,
      JSON.stringify(limits),
      birth ? 1 : 0,
      lapses === undefined ? 'held' : 'offered',
      lapses ?? null,
      limits.expires ?? null,
    )
  }

  #spawner(agent: number): number | undefined {
    const row = this.#db.get('select spawner from agents where id = ?', agent) as { spawner: number | null }
    return row.spawner ?? undefined
  }

  #agent(address: string): number {
    return (this.#db.get('select id from agents where address = ?', address) as { id: number }).id
  }

  #state(card: string, state: 'held' | 'dropped' | 'minted'): void {
    this.#db.run('update cards set state = ? where name = ?', state, card)
  }
}

function add<K>(sums: Map<K, Map<string, bigint>>, at: K, amounts: ReadonlyMap<string, bigint>): void {
  const known = sums.get(at)
  if (!known) {
    sums.set(at, new Map(amounts))
    return
  }
  for (const [name, amount] of amounts) known.set(name, (known.get(name) ?? 0n) + amount)
}
