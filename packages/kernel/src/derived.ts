/**
 * Derived state: what can be found again by reading the log, kept in SQLite so that nobody must.
 *
 * Applied behind the log in batches, never on the commit path. It names the last entry it holds; if
 * the log has another entry there, all of it is thrown away and rebuilt.
 */

import fs from 'node:fs'
import type { Pos, ScannedEntry, Seq, Tip } from '@cardinal/oplog'
import Database from 'better-sqlite3'
import { Batch } from './apply-batch.ts'
import type { Address, EffectId, InvocationId } from './ids.ts'
import { showAddress } from './ids.ts'
import { isFull, Saves } from './saves.ts'
import { Statements } from './statements.ts'

const VERSION = 13

const SCHEMA = `
  create table meta(name text primary key, value) without rowid;
  create table agents(
    id integer primary key, birth blob not null unique, address text not null unique,
    tenant text not null, type text not null, key text not null,
    slot integer not null, image text not null, generation integer not null,
    pos integer not null, seq integer not null, hash blob not null,
    work integer not null default 0, turns integer not null default 0, open integer not null default 0,
    quarantined integer not null default 0, erased integer not null default 0, born integer not null, touched integer not null,
    born_pos integer not null, spawner integer, effect text, held integer not null default 0, stopped integer not null default 0, written integer not null default 0);
  create index agents_spawner on agents(spawner) where spawner is not null;
  create table cards(
    id integer primary key, name text not null unique, owner integer not null, minter integer, parent integer,
    pos integer not null, part integer not null, limits text not null, birth integer not null, state text not null, lapses integer, expires integer);
  create index cards_owner on cards(owner);
  create index cards_parent on cards(parent) where parent is not null;
  create index cards_offered on cards(minter, lapses) where lapses is not null;
  create index cards_expires on cards(expires) where expires is not null;
  create table counters(card integer not null, name text not null, spent text not null, primary key(card, name)) without rowid;
  create table meters(counter text not null, what text not null, taken text not null, ends integer not null, primary key(counter, what)) without rowid;
  create index meters_ends on meters(ends);
  create table written(scope text primary key, bytes integer not null) without rowid;
  create table node_entries(pos integer primary key, hash blob not null);
  create table revocations(pos integer not null, card text not null, agent integer, primary key(pos, card)) without rowid;
  create table calls(agent integer not null, effect text not null, callee text not null, invocation text not null, waits integer not null, primary key(agent, effect)) without rowid;
  create index calls_callee on calls(callee);
  create table asks(id integer primary key, agent integer not null, effect text not null, pos integer not null, roles text not null, approved text not null, state text not null, unique(agent, effect));
  create index asks_open on asks(pos) where state = 'open';
  create index agents_work on agents(work) where work > 0;
  create index agents_open on agents(tenant) where open > 0;
  create index agents_erased on agents(erased) where erased = 1;
  create table invocations(
    id text primary key, agent integer not null, method text not null, accepted integer not null,
    time integer not null, deadline integer, reply integer, part integer, state text not null) without rowid;
  create index invocations_agent on invocations(agent, accepted);
  create table request_keys(agent integer not null, key text not null, same text not null, invocation text not null, primary key(agent, key)) without rowid;
  create table timers(due integer not null, agent integer not null, what text not null, primary key(due, agent, what)) without rowid;
  create index timers_what on timers(agent, what);
  create table doubts(agent integer not null, effect text not null, pos integer not null, resolved text, primary key(agent, effect)) without rowid;
`

export interface AgentRow {
  readonly id: number
  readonly birth: Buffer
  readonly address: string
  readonly tenant: string
  readonly type: string
  readonly key: string
  readonly slot: number
  readonly image: string
  readonly generation: number
  readonly pos: Pos
  readonly seq: Seq
  readonly hash: Buffer
  readonly work: number
  readonly turns: number
  readonly open: number
  readonly quarantined: number
  /** 1: asked for and recorded, 2: the key is gone as well. */
  readonly erased: number
  readonly born: number
  readonly touched: number
  /** Where its birth stands. */
  readonly born_pos: Pos
  /** The row of the agent that spawned it, and by which of its effects. */
  readonly spawner: number | null
  readonly effect: string | null
  readonly held: number
  readonly stopped: number
  /** Bytes of its entries in the log. */
  readonly written: number
}

export interface CardRow {
  readonly id: number
  readonly name: string
  readonly owner: number
  readonly minter: number | null
  readonly parent: number | null
  /** The entry that minted it, and which of that entry's cards it is. */
  readonly pos: Pos
  readonly part: number
  readonly limits: string
  readonly birth: number
  /** `minted`: by the host, and held by nobody yet. */
  readonly state: 'held' | 'offered' | 'dropped' | 'minted'
  readonly lapses: number | null
}

export interface RevocationRow {
  readonly pos: Pos
  readonly card: string
  /** The address of the agent that revoked it; null is the host. */
  readonly by: string | null
}

export interface CallRow {
  readonly agent: number
  readonly effect: EffectId
  readonly callee: string
  readonly invocation: InvocationId
  readonly waits: number
}

export interface AskRow {
  readonly id: number
  readonly agent: number
  readonly effect: EffectId
  readonly pos: Pos
  readonly roles: string
  readonly approved: string
  readonly state: 'open' | 'approved' | 'denied' | 'ended'
}

export interface InvocationRow {
  readonly id: InvocationId
  readonly agent: number
  readonly method: string
  readonly accepted: Pos
  readonly time: number
  readonly reply: Pos | null
  readonly part: number | null
  readonly state: 'open' | 'done' | 'failed'
}

export class Derived {
  readonly saves: Saves
  readonly #db: Database.Database
  readonly #statements: Statements
  #queue: ScannedEntry[] = []
  #applied: { pos: number; hash: Buffer } | undefined
  #timer: NodeJS.Timeout | undefined
  /** The agent that somebody asked for last, as its row is: whoever wakes is looked up several times. */
  #lookedAt: AgentRow | undefined
  /** The position that may be applied: nothing that is not durable ever is. */
  #durable: () => Pos

  constructor(file: string, saves: string, durable: () => Pos) {
    this.#durable = durable
    this.#db = openDatabase(file)
    this.#statements = new Statements(this.#db)
    this.saves = new Saves(this.#db, this.#statements, saves)
    const row = this.#get('select value from meta where name = ?', 'applied') as { value: string } | undefined
    if (row) {
      const { pos, hash } = JSON.parse(row.value) as { pos: number; hash: string }
      this.#applied = { pos, hash: Buffer.from(hash, 'hex') }
    }
  }

  /** The last entry that this state holds. */
  get applied(): { pos: number; hash: Buffer } | undefined {
    return this.#applied
  }

  /** Forgets everything: the log did not hold what this state was made from. */
  reset(): void {
    this.#db.exec(
      "delete from agents; delete from invocations; delete from request_keys; delete from timers; delete from doubts; delete from cards; delete from counters; delete from meters; delete from written; delete from node_entries; delete from revocations; delete from calls; delete from asks; delete from meta where name in ('applied', 'node')",
    )
    this.#applied = undefined
    this.#lookedAt = undefined
  }

  /** Queues an entry; it is applied some milliseconds after it is durable. */
  push(entry: ScannedEntry): void {
    this.#queue.push(entry)
    this.#arm()
  }

  #arm(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.apply()
      if (this.#queue.length > 0) this.#arm()
    }, APPLY_EVERY_MS).unref()
  }

  /** Applies what is durable, in one transaction. A full disk leaves the queue as it is for the next time. */
  apply(): void {
    const durable = this.#durable()
    let count = 0
    while (count < this.#queue.length && (this.#queue[count] as ScannedEntry).pos < durable) count++
    if (count === 0) return
    const entries = this.#queue.slice(0, count)
    const last = entries.at(-1) as ScannedEntry
    this.#lookedAt = undefined
    try {
      this.#db.transaction(() => {
        const batch = new Batch(this.#statements)
        for (const entry of entries) batch.add(entry)
        batch.finish()
        this.#run(
          "insert or replace into meta(name, value) values('applied', ?)",
          JSON.stringify({ pos: last.pos, hash: last.hash.toString('hex') }),
        )
      })()
    } catch (error) {
      if (isFull(error)) return
      throw error
    }
    this.#queue = this.#queue.slice(count)
    this.#applied = { pos: last.pos, hash: last.hash }
  }

  /** Entries of the node itself that say more than rows do, in their order. */
  nodeEntries(): { readonly pos: Pos; readonly hash: Buffer }[] {
    return this.#all('select pos, hash from node_entries order by pos') as { pos: Pos; hash: Buffer }[]
  }

  /** The newest of all entries of the node itself. */
  nodeTip(): Tip | undefined {
    const row = this.#get("select value from meta where name = 'node'") as { value: string } | undefined
    if (!row) return undefined
    const { pos, seq, hash } = JSON.parse(row.value) as { pos: Pos; seq: Seq; hash: string }
    return { pos, seq, hash: Buffer.from(hash, 'hex') }
  }

  /** Bytes in the log of all agents of a tenant, or of a type, by its name. */
  writtenBy(scope: string): number {
    const row = this.#get('select bytes from written where scope = ?', scope) as { bytes: number } | undefined
    return row?.bytes ?? 0
  }

  findAgent(address: Address): AgentRow | undefined {
    const name = showAddress(address)
    if (this.#lookedAt?.address === name) return this.#lookedAt
    return this.#lookAt(this.#get('select * from agents where address = ?', name))
  }

  findAgentByRow(id: number): AgentRow | undefined {
    if (this.#lookedAt?.id === id) return this.#lookedAt
    return this.#lookAt(this.#get('select * from agents where id = ?', id))
  }

  #lookAt(row: unknown): AgentRow | undefined {
    if (row) this.#lookedAt = row as AgentRow
    return row as AgentRow | undefined
  }

  /** Agents of so many rows that have entries after what is saved of them beside rows, if anything is. */
  agentsWithTails(after: number, upTo: number): AgentRow[] {
    return this.#all(
      'select a.* from agents a left join snapshots s on s.birth = a.birth where a.id > @after and a.id <= @upTo and a.erased = 0 and a.quarantined = 0 and a.turns > 0 and a.seq > coalesce(s.seq, 0) order by a.id',
      { after, upTo },
    ) as AgentRow[]
  }

  listAgents(where: {
    tenant?: string | undefined
    type?: string | undefined
    after?: string | undefined
    limit: number
  }): AgentRow[] {
    return this.#all(
      'select * from agents where (@tenant is null or tenant = @tenant) and (@type is null or type = @type) and address > @after order by address limit @limit',
      {
        tenant: where.tenant ?? null,
        type: where.type ?? null,
        after: where.after ?? '',
        limit: where.limit,
      },
    ) as AgentRow[]
  }

  /** Agents of a type that the host made and that may still act. */
  countOfType(tenant: string, type: string): number {
    const sql =
      'select count(*) n from agents where address > @from and address < @to and spawner is null and stopped = 0 and erased = 0'
    // What follows a slash, and what follows the slash itself.
    return (this.#get(sql, { from: `${tenant}/${type}/`, to: `${tenant}/${type}0` }) as { n: number }).n
  }

  /** Rows of agents are numbered, and stay when they end. */
  countAgents(): number {
    return (this.#get('select coalesce(max(id), 0) n from agents') as { n: number }).n
  }

  /** Whether entries wait to be applied: then rows are not the whole truth. */
  get behind(): boolean {
    return this.#queue.length > 0
  }

  findCard(name: string): CardRow | undefined {
    return this.#get('select * from cards where name = ?', name) as CardRow | undefined
  }

  findCardByRow(id: number): CardRow | undefined {
    return this.#get('select * from cards where id = ?', id) as CardRow | undefined
  }

  birthCards(agent: number): CardRow[] {
    return this.#all('select * from cards where owner = ? and birth = 1 order by id', agent) as CardRow[]
  }

  /** Cards offered by an agent or to it that have not lapsed. */
  offersOf(agent: number, nowMs: number): CardRow[] {
    return this.#all(
      'select * from cards where id in (select id from cards where owner = @agent and lapses > @now union all select id from cards where minter = @agent and lapses > @now) order by id',
      { agent, now: nowMs },
    ) as CardRow[]
  }

  listCards(where: {
    owner?: number | undefined
    parent?: number | undefined
    after?: number
    limit: number
  }): CardRow[] {
    return this.#all(
      'select * from cards where (@owner is null or owner = @owner) and (@parent is null or parent = @parent) and id > @after order by id limit @limit',
      {
        owner: where.owner ?? null,
        parent: where.parent ?? null,
        after: where.after ?? 0,
        limit: where.limit,
      },
    ) as CardRow[]
  }

  /** How many cards stand below one, itself included, and how many agents hold one of them; at most `limit` cards are looked at. */
  below(card: number, limit: number): { cards: number; agents: number } {
    return this.#get(
      'with recursive below(id, owner) as (select id, owner from cards where id = @card union select c.id, c.owner from cards c join below b on c.parent = b.id limit @limit) select count(*) cards, count(distinct owner) agents from below',
      { card, limit },
    ) as { cards: number; agents: number }
  }

  /** Who holds a card of a subtree, by address, the first so many. `cross`: the subtree is walked, and not everybody. */
  ownersBelow(card: number, limit: number): string[] {
    const rows = this.#all(
      'with recursive below(id, owner) as (select id, owner from cards where id = @card union select c.id, c.owner from cards c join below b on c.parent = b.id) select distinct a.address from below b cross join agents a on a.id = b.owner order by a.address limit @limit',
      { card, limit },
    )
    return (rows as { address: string }[]).map(({ address }) => address)
  }

  countersOf(card: number): { name: string; spent: string }[] {
    return this.#all('select name, spent from counters where card = ?', card) as {
      name: string
      spent: string
    }[]
  }

  revocations(): RevocationRow[] {
    return this.#all(
      'select r.pos, r.card, a.address "by" from revocations r left join agents a on a.id = r.agent order by r.pos',
    ) as RevocationRow[]
  }

  calls(): (CallRow & { caller: string })[] {
    return this.#all(
      'select c.*, a.address caller from calls c join agents a on a.id = c.agent',
    ) as (CallRow & {
      caller: string
    })[]
  }

  /** `whose`: only those of a tenant that ask for one of these roles. */
  listAsks(
    state: AskRow['state'] | undefined,
    limit: number,
    whose?: { readonly tenant: string; readonly roles: readonly string[] },
  ): (AskRow & { address: string })[] {
    return this.#all(
      `select k.*, a.address from asks k join agents a on a.id = k.agent
       where (@state is null or k.state = @state) and (@tenant is null or a.tenant = @tenant) and (@roles is null or exists (
         select 1 from json_each(k.roles) s, json_each(s.value) r, json_each(@roles) own
         where r.value = own.value or r.value glob own.value || '#*'))
       order by k.pos limit @limit`,
      {
        state: state ?? null,
        limit,
        tenant: whose?.tenant ?? null,
        roles: whose ? JSON.stringify(whose.roles) : null,
      },
    ) as (AskRow & { address: string })[]
  }

  /** Calls that wait for an agent. */
  callsTo(callee: string): { caller: string; effect: EffectId }[] {
    return this.#all(
      'select a.address caller, c.effect from calls c join agents a on a.id = c.agent where c.callee = ?',
      callee,
    ) as { caller: string; effect: EffectId }[]
  }

  /** What is taken of a budget that middleware sets. */
  findMeter(counter: string, what: string): bigint {
    const row = this.#get('select taken from meters where counter = ? and what = ?', counter, what) as
      | { taken: string }
      | undefined
    return BigInt(row?.taken ?? 0)
  }

  /** What was taken of every budget, by card. */
  *counters(): Generator<{ card: string; name: string; spent: string }> {
    yield* this.#statements.each(
      'select k.name card, c.name, c.spent from counters c join cards k on k.id = c.card order by c.card, c.name',
    ) as Generator<{ card: string; name: string; spent: string }>
  }

  findAskByRow(id: number): (AskRow & { address: string }) | undefined {
    return this.#get(
      'select k.*, a.address from asks k join agents a on a.id = k.agent where k.id = ?',
      id,
    ) as (AskRow & { address: string }) | undefined
  }

  /** Agents of a tenant that wait for an approval, or have somebody waiting for them. */
  agentsWaiting(tenant: string): AgentRow[] {
    return this.#all(
      "select * from agents where id in (select id from agents where tenant = @tenant and open > 0 union all select agent from asks where state = 'open') and tenant = @tenant and erased = 0 and quarantined = 0",
      { tenant },
    ) as AgentRow[]
  }

  hasAsk(agent: number): boolean {
    return this.#get("select 1 from asks where agent = ? and state = 'open' limit 1", agent) !== undefined
  }

  /** Agents that wait for an answer which was given. */
  answeredCallers(): AgentRow[] {
    return this.#all(
      "select * from agents where quarantined = 0 and erased = 0 and id in (select c.agent from calls c join invocations i on i.id = c.invocation where i.state <> 'open')",
    ) as AgentRow[]
  }

  /** Tenants in which a card came to its end in this time, the first moment left out. */
  tenantsOfExpired(afterMs: number, untilMs: number): string[] {
    return (
      this.#all(
        'select distinct a.tenant from cards c join agents a on a.id = c.owner where c.expires > ? and c.expires <= ?',
        afterMs,
        untilMs,
      ) as { tenant: string }[]
    ).map(({ tenant }) => tenant)
  }

  /** Children born of a card that came to its end in this time, and whose own end is not on record. */
  expiredAgents(afterMs: number, untilMs: number): AgentRow[] {
    return this.#all(
      'select * from agents where stopped = 0 and erased = 0 and quarantined = 0 and id in (select owner from cards where birth = 1 and parent is not null and expires > ? and expires <= ?)',
      afterMs,
      untilMs,
    ) as AgentRow[]
  }

  childrenOf(agent: number, limit: number): AgentRow[] {
    return this.#all('select * from agents where spawner = ? order by id limit ?', agent, limit) as AgentRow[]
  }

  /** Agents with something to do that nobody outside will ask for. */
  agentsWithWork(): AgentRow[] {
    return this.#all('select * from agents where work > 0 and quarantined = 0') as AgentRow[]
  }

  /** Agents whose erasure is on record, and whose key may still be there. */
  halfErased(): AgentRow[] {
    return this.#all('select * from agents where erased = 1') as AgentRow[]
  }

  openInvocations(agent: number): InvocationId[] {
    const rows = this.#all("select id from invocations where agent = ? and state = 'open'", agent)
    return (rows as { id: InvocationId }[]).map((row) => row.id)
  }

  /** Timers that are due, in their order, behind one that was seen. */
  dueAfter(
    after: { readonly due: number; readonly agent: number },
    nowMs: number,
    limit: number,
  ): { readonly due: number; readonly agent: number }[] {
    return this.#all(
      'select distinct due, agent from timers where due <= ? and (due, agent) > (?, ?) order by due, agent limit ?',
      nowMs,
      after.due,
      after.agent,
      limit,
    ) as { due: number; agent: number }[]
  }

  countDue(nowMs: number): number {
    return (this.#get('select count(*) n from timers where due <= ?', nowMs) as { n: number }).n
  }

  nextDue(): number | undefined {
    return (this.#get('select due from timers order by due limit 1') as { due: number } | undefined)?.due
  }

  findInvocation(id: string): InvocationRow | undefined {
    return this.#get('select * from invocations where id = ?', id) as InvocationRow | undefined
  }

  lastInvocation(agent: number): InvocationRow | undefined {
    return this.#get('select * from invocations where agent = ? order by accepted desc limit 1', agent) as
      | InvocationRow
      | undefined
  }

  findRequestKey(agent: number, key: string): { same: string; invocation: InvocationId } | undefined {
    return this.#get('select same, invocation from request_keys where agent = ? and key = ?', agent, key) as
      | { same: string; invocation: InvocationId }
      | undefined
  }

  listDoubts(): { address: string; effect: string; resolved: string | null }[] {
    return this.#all(
      'select a.address, d.effect, d.resolved from doubts d join agents a on a.id = d.agent order by d.pos',
    ) as { address: string; effect: string; resolved: string | null }[]
  }

  /** The newest refusal of the node, as `address@effect`, or the invocation whose answer was kept back. */
  lastRefused(): string | undefined {
    const row = this.#get('select value from meta where name = ?', 'refused') as { value: string } | undefined
    if (!row) return undefined
    const { agent, effect } = JSON.parse(row.value) as { agent: number; effect: string }
    return effect.startsWith('inv_') ? effect : `${this.findAgentByRow(agent)?.address}@${effect}`
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#db.close()
  }

  #get(sql: string, ...values: unknown[]): unknown {
    return this.#statements.get(sql, ...values)
  }
  #all(sql: string, ...values: unknown[]): unknown[] {
    return this.#statements.all(sql, ...values)
  }
  #run(sql: string, ...values: unknown[]): void {
    this.#statements.run(sql, ...values)
  }
}

const APPLY_EVERY_MS = 25

function openDatabase(file: string): Database.Database {
  let db = new Database(file)
  if (versionOf(db) !== VERSION) {
    // Another version's derived state, or none, or damaged: it is only a cache.
    db.close()
    for (const end of ['', '-wal', '-shm']) fs.rmSync(file + end, { force: true })
    db = new Database(file)
    db.pragma('journal_mode = wal')
    db.exec(SCHEMA)
    db.pragma(`user_version = ${VERSION}`)
  }
  // A lost tail of this file costs a replay, never an entry, so it need not be synced.
  db.pragma('synchronous = normal')
  db.pragma('secure_delete = on')
  db.pragma('cache_size = -65536')
  return db
}

function versionOf(db: Database.Database): number {
  try {
    return db.pragma('user_version', { simple: true }) as number
  } catch {
    return -1
  }
}
