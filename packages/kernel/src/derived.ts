/**
 * Derived state: what can be found again by reading the log, kept in SQLite so that nobody must.
 *
 * Applied behind the log in batches, never on the commit path. It names the last entry it holds; if
 * the log has another entry there, all of it is thrown away and rebuilt. Snapshots live here too:
 * they are encrypted under their agent's key and disposable.
 */

import fs from 'node:fs'
import type { Pos, ScannedEntry, Seq, Tip } from '@cardinal/oplog'
import Database from 'better-sqlite3'
import type { Address, EffectId, InvocationId } from './ids.ts'
import { showAddress } from './ids.ts'
import type { AcceptedMeta, BirthMeta, FailedTurnMeta, ReceiptMeta, RepliedMeta, TurnMeta } from './wire.ts'

const VERSION = 4

const SCHEMA = `
  create table meta(name text primary key, value) without rowid;
  create table agents(
    id integer primary key, birth blob not null unique, address text not null unique,
    tenant text not null, type text not null, key text not null,
    slot integer not null, image text not null, generation integer not null,
    pos integer not null, seq integer not null, hash blob not null,
    work integer not null default 0, turns integer not null default 0, open integer not null default 0,
    quarantined integer not null default 0, erased integer not null default 0, born integer not null, touched integer not null);
  create index agents_work on agents(work) where work > 0;
  create index agents_erased on agents(erased) where erased = 1;
  create table invocations(
    id text primary key, agent integer not null, method text not null, accepted integer not null,
    time integer not null, deadline integer, reply integer, part integer, state text not null) without rowid;
  create index invocations_agent on invocations(agent, accepted);
  create table request_keys(agent integer not null, key text not null, same text not null, invocation text not null, primary key(agent, key)) without rowid;
  create table timers(due integer not null, agent integer not null, what text not null, primary key(due, agent, what)) without rowid;
  create index timers_what on timers(agent, what);
  create table doubts(agent integer not null, effect text not null, pos integer not null, resolved text, primary key(agent, effect)) without rowid;
  create table snapshots(agent integer primary key, seq integer not null, hash blob not null, bytes blob not null);
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

export interface SnapshotRow {
  readonly seq: Seq
  readonly hash: Buffer
  readonly bytes: Buffer
}

const NODE_AGENT = Buffer.alloc(16)

export class Derived {
  readonly #db: Database.Database
  readonly #statements = new Map<string, Database.Statement>()
  readonly #rowIds = new Map<string, number>()
  #queue: ScannedEntry[] = []
  #applied: { pos: number; hash: Buffer } | undefined
  #timer: NodeJS.Timeout | undefined
  /** The position that may be applied: nothing that is not durable ever is. */
  #durable: () => Pos

  constructor(file: string, durable: () => Pos) {
    this.#durable = durable
    this.#db = openDatabase(file)
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
      "delete from agents; delete from invocations; delete from request_keys; delete from timers; delete from doubts; delete from snapshots; delete from meta where name = 'applied'",
    )
    this.#applied = undefined
    this.#rowIds.clear()
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
    const batch = this.#queue.slice(0, count)
    const last = batch.at(-1) as ScannedEntry
    try {
      this.#db.transaction(() => {
        const tips = new Map<string, ScannedEntry>()
        for (const entry of batch) {
          this.#applyEntry(entry)
          if (!entry.header.agent.equals(NODE_AGENT)) tips.set(entry.header.agent.toString('hex'), entry)
        }
        for (const [agent, entry] of tips) {
          this.#run(
            'update agents set pos = ?, seq = ?, hash = ?, touched = ? where id = ?',
            entry.pos,
            entry.header.seq,
            entry.hash,
            entry.header.timeMs,
            this.#rowId(agent),
          )
        }
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

  #applyEntry({ pos, header }: ScannedEntry): void {
    const meta = JSON.parse(header.meta) as unknown
    if (header.agent.equals(NODE_AGENT)) return this.#applyNode(header.kind, meta)
    if (header.kind === 'birth') return this.#applyBirth(pos, header.agent, header.timeMs, meta as BirthMeta)
    const agent = this.#rowId(header.agent.toString('hex'))
    switch (header.kind) {
      case 'accepted':
        return this.#applyAccepted(agent, pos, header.timeMs, meta as AcceptedMeta)
      case 'turn':
        if ('failed' in (meta as object)) return this.#applyFailed(agent, pos, meta as FailedTurnMeta)
        return this.#applyTurn(agent, pos, header.seq, meta as TurnMeta)
      case 'receipt':
        return this.#applyReceipt(agent, pos, meta as ReceiptMeta)
      case 'replied':
        return this.#applyReplied(agent, pos, meta as RepliedMeta)
      case 'resolved':
        return this.#run(
          'update doubts set resolved = ? where agent = ? and effect = ?',
          (meta as { outcome: string }).outcome,
          agent,
          (meta as { effect: string }).effect,
        )
      case 'quarantined':
        this.#run('update agents set quarantined = 1 where id = ?', agent)
        return this.#retire(agent)
      case 'erased':
        this.#run('update agents set erased = 1, open = 0 where id = ?', agent)
        this.#run(
          "update invocations set state = 'failed', reply = ?, part = -1 where agent = ? and state = 'open'",
          pos,
          agent,
        )
        return this.#retire(agent)
    }
  }

  #applyNode(kind: string, meta: unknown): void {
    if (kind !== 'erased') return
    const birth = Buffer.from((meta as { agent: string }).agent, 'hex')
    this.#run('update agents set erased = 2 where birth = ?', birth)
  }

  #applyBirth(pos: Pos, birth: Buffer, timeMs: number, meta: BirthMeta): void {
    const { tenant, type, key, slot, image, generation } = meta
    this.#run(
      'insert into agents(birth, address, tenant, type, key, slot, image, generation, pos, seq, hash, work, born, touched) values(?,?,?,?,?,?,?,?,?,1,?,1,?,?)',
      birth,
      showAddress({ tenant, type, key }),
      tenant,
      type,
      key,
      slot,
      image,
      generation,
      pos,
      Buffer.alloc(32),
      timeMs,
      timeMs,
    )
  }

  #applyAccepted(agent: number, pos: Pos, timeMs: number, meta: AcceptedMeta): void {
    if (meta.what === 'invoke') {
      const deadline = meta.deadline ?? null
      this.#run(
        "insert into invocations(id, agent, method, accepted, time, deadline, state) values(?,?,?,?,?,?,'open')",
        meta.invocation,
        agent,
        meta.method,
        pos,
        timeMs,
        deadline,
      )
      this.#run('update agents set work = work + 1, open = open + 1 where id = ?', agent)
      if (deadline !== null)
        this.#run('insert into timers(due, agent, what) values(?,?,?)', deadline, agent, meta.invocation)
      if (meta.key)
        this.#run(
          'insert or replace into request_keys(agent, key, same, invocation) values(?,?,?,?)',
          agent,
          meta.key,
          meta.same,
          meta.invocation,
        )
    } else if (meta.what === 'emit' || meta.what === 'cancel') {
      this.#run('update agents set work = work + 1 where id = ?', agent)
    }
  }

  #applyTurn(agent: number, pos: Pos, seq: number, meta: TurnMeta): void {
    let work = -meta.inputs.length
    meta.effects.forEach((effect, index) => {
      if (effect.verdict === 'drop') return
      if (effect.verdict === 'allow' && effect.class === 'sleep') {
        this.#run('insert into timers(due, agent, what) values(?,?,?)', effect.due, agent, `${seq}.${index}`)
      } else work++
    })
    const refused = meta.effects.findIndex((e) => e.verdict === 'refuse')
    if (refused >= 0) this.#refused(agent, `${seq}.${refused}`)
    this.#drop(agent, meta.drops)
    for (const [part, [invocation, ok]] of meta.replies.entries())
      this.#ended(agent, invocation, pos, part, ok)
    this.#run('update agents set work = max(0, work + ?), turns = turns + 1 where id = ?', work, agent)
  }

  #applyFailed(agent: number, pos: Pos, meta: FailedTurnMeta): void {
    this.#drop(agent, meta.drops)
    for (const invocation of meta.ends) this.#ended(agent, invocation, pos, -1, false)
    this.#run(
      'update agents set work = max(0, work + ?) where id = ?',
      (meta.abandon ? 1 : 0) - meta.inputs.length,
      agent,
    )
  }

  #applyReceipt(agent: number, pos: Pos, meta: ReceiptMeta): void {
    if (meta.sleep) this.#run('delete from timers where agent = ? and what = ?', agent, meta.effect)
    else this.#run('update agents set work = max(0, work - 1) where id = ?', agent)
    if (!meta.dropped) this.#run('update agents set work = work + 1 where id = ?', agent)
    if (meta.class === 'Refused') this.#refused(agent, meta.effect)
    if (meta.class === 'Indeterminate')
      this.#run('insert or replace into doubts(agent, effect, pos) values(?,?,?)', agent, meta.effect, pos)
  }

  /** The newest refusal of the node: what `why last` explains. */
  #refused(agent: number, effect: string): void {
    this.#run(
      "insert or replace into meta(name, value) values('refused', ?)",
      JSON.stringify({ agent, effect }),
    )
  }

  #applyReplied(agent: number, pos: Pos, meta: RepliedMeta): void {
    this.#ended(agent, meta.invocation, pos, -1, false)
    if (meta.undelivered) this.#run('update agents set work = max(0, work - 1) where id = ?', agent)
  }

  /** Nothing of an agent that can never run again may come due. */
  #retire(agent: number): void {
    this.#run('update agents set work = 0 where id = ?', agent)
    this.#run('delete from timers where agent = ?', agent)
  }

  #drop(agent: number, drops: readonly EffectId[]): void {
    for (const effect of drops) this.#run('delete from timers where agent = ? and what = ?', agent, effect)
  }

  #ended(agent: number, invocation: InvocationId, pos: Pos, part: number, ok: boolean): void {
    this.#run(
      'update invocations set reply = ?, part = ?, state = ? where id = ?',
      pos,
      part,
      ok ? 'done' : 'failed',
      invocation,
    )
    this.#run('delete from timers where agent = ? and what = ?', agent, invocation)
    this.#run('update agents set open = max(0, open - 1) where id = ?', agent)
  }

  #rowId(birth: string): number {
    const known = this.#rowIds.get(birth)
    if (known !== undefined) return known
    const row = this.#get('select id from agents where birth = ?', Buffer.from(birth, 'hex')) as
      | { id: number }
      | undefined
    if (!row) throw new Error(`an entry of agent ${birth}, which was never born`)
    if (this.#rowIds.size > MAX_ROW_IDS) this.#rowIds.clear()
    this.#rowIds.set(birth, row.id)
    return row.id
  }

  findAgent(address: Address): AgentRow | undefined {
    return this.#get('select * from agents where address = ?', showAddress(address)) as AgentRow | undefined
  }

  findAgentByRow(id: number): AgentRow | undefined {
    return this.#get('select * from agents where id = ?', id) as AgentRow | undefined
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

  countAgents(): number {
    return (this.#get('select count(*) n from agents') as { n: number }).n
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

  dueAgents(nowMs: number, limit: number): AgentRow[] {
    return this.#all(
      'select * from agents where id in (select agent from timers where due <= ? order by due limit ?)',
      nowMs,
      limit,
    ) as AgentRow[]
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

  /** The newest refusal of the node, as `address@effect`. */
  lastRefused(): string | undefined {
    const row = this.#get('select value from meta where name = ?', 'refused') as { value: string } | undefined
    if (!row) return undefined
    const { agent, effect } = JSON.parse(row.value) as { agent: number; effect: string }
    return `${this.findAgentByRow(agent)?.address}@${effect}`
  }

  findSnapshot(agent: number): SnapshotRow | undefined {
    return this.#get('select seq, hash, bytes from snapshots where agent = ?', agent) as
      | SnapshotRow
      | undefined
  }

  /** Keeps a snapshot of an agent at `tip`, whose entry must be durable. A full disk costs a longer replay, no more. */
  saveSnapshot(birth: Buffer, tip: Tip, bytes: Buffer): void {
    const agent = this.#rowId(birth.toString('hex'))
    try {
      this.#run(
        'insert or replace into snapshots(agent, seq, hash, bytes) values(?,?,?,?)',
        agent,
        tip.seq,
        tip.hash,
        bytes,
      )
    } catch (error) {
      if (!isFull(error)) throw error
    }
  }

  deleteSnapshot(agent: number): void {
    this.#run('delete from snapshots where agent = ?', agent)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#db.close()
  }

  #prepare(sql: string): Database.Statement {
    const known = this.#statements.get(sql)
    if (known) return known
    const made = this.#db.prepare(sql)
    this.#statements.set(sql, made)
    return made
  }
  #get(sql: string, ...values: unknown[]): unknown {
    return this.#prepare(sql).get(...values)
  }
  #all(sql: string, ...values: unknown[]): unknown[] {
    return this.#prepare(sql).all(...values)
  }
  #run(sql: string, ...values: unknown[]): void {
    this.#prepare(sql).run(...values)
  }
}

function isFull(error: unknown): boolean {
  return (error as { code?: string }).code === 'SQLITE_FULL'
}

const APPLY_EVERY_MS = 25
const MAX_ROW_IDS = 100_000

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
  // A lost tail of this file costs a replay, never an entry, so it need not be synced. Erased
  // snapshots must not linger in free pages.
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
