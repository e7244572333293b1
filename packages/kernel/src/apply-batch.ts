/**
 * Applying a batch of entries to derived state, inside one transaction of its caller.
 *
 * Most of what a batch does to a row it does several times: an agent's counts change with every
 * entry, and an invocation is often over before the batch is. So rows are gathered here and written
 * once, at `finish`. Nothing reads them meanwhile.
 */
import type { Pos, ScannedEntry } from '@cardinal/oplog'
import { AuthorityBatch } from './apply-authority.ts'
import type { AuthorityMeta } from './authority-wire.ts'
import { NODE_AGENT, ROWS_ONLY } from './control.ts'
import type { EffectId, InvocationId } from './ids.ts'
import { showAddress } from './ids.ts'
import type { Taking } from './meters.ts'
import { FIRST_BIRTH, REBIRTH } from './state.ts'
import type { Statements } from './statements.ts'
import type {
  AcceptedMeta,
  ApprovedMeta,
  BirthMeta,
  FailedTurnMeta,
  IntentMeta,
  MediatedMeta,
  ReceiptMeta,
  RepliedMeta,
  SentMeta,
  TurnMeta,
} from './wire.ts'

interface Counts {
  readonly id: number
  work: number
  turns: number
  open: number
  /** Bytes in the log. */
  written: number
  readonly tenant: string
  readonly type: string
  /** The newest entry of the agent in this batch. */
  last?: ScannedEntry
}

interface NewInvocation {
  readonly agent: number
  readonly method: string
  readonly accepted: Pos
  readonly timeMs: number
  deadline: number | null
  reply: Pos | null
  part: number | null
  state: 'open' | 'done' | 'failed'
}

export class Batch {
  readonly #db: Statements
  readonly #agents = new Map<string, Counts>()
  readonly #invocations = new Map<InvocationId, NewInvocation>()
  readonly #authority: AuthorityBatch
  /** Bytes of this batch, by tenant and by type. */
  readonly #written = new Map<string, number>()
  #nodeTip: ScannedEntry | undefined
  /** Of the last entry of an agent. */
  #timeMs = 0

  constructor(db: Statements) {
    this.#db = db
    this.#authority = new AuthorityBatch(db)
  }

  add(entry: ScannedEntry): void {
    const { pos, header } = entry
    const meta = JSON.parse(header.meta) as unknown
    if (header.agent.equals(NODE_AGENT)) {
      this.#nodeTip = entry
      return this.#node(entry, meta)
    }
    const birth = header.agent.toString('hex')
    if (header.kind === 'birth') this.#birth(pos, header.agent, header.timeMs, meta as BirthMeta)
    const agent = this.#counts(birth)
    agent.last = entry
    agent.written += entry.bytes
    for (const scope of [agent.tenant, `${agent.tenant}/${agent.type}`])
      this.#written.set(scope, (this.#written.get(scope) ?? 0) + entry.bytes)
    this.#timeMs = header.timeMs
    this.#authority.add(agent.id, pos, header.kind, header.agent, meta as AuthorityMeta)
    switch (header.kind) {
      case 'accepted':
        return this.#accepted(agent, pos, header.timeMs, meta as AcceptedMeta)
      case 'turn':
        if ('failed' in (meta as object)) return this.#failed(agent, pos, meta as FailedTurnMeta)
        return this.#turn(agent, header.agent, pos, header.seq, meta as TurnMeta)
      case 'receipt':
        return this.#receipt(agent, pos, meta as ReceiptMeta)
      case 'intent':
        return this.#intent(agent, pos, meta as IntentMeta | MediatedMeta)
      case 'sent':
        return this.#sent(agent, meta as SentMeta)
      case 'approved':
        return this.#approved(agent, meta as ApprovedMeta)
      case 'replied':
        return this.#replied(agent, pos, meta as RepliedMeta)
      case 'resolved': {
        const { outcome, effect } = meta as { outcome: string; effect: string }
        return this.#db.run(
          'update doubts set resolved = ? where agent = ? and effect = ?',
          outcome,
          agent.id,
          effect,
        )
      }
      case 'held':
      case 'released':
        return this.#db.run(
          'update agents set held = ? where id = ?',
          header.kind === 'held' ? 1 : 0,
          agent.id,
        )
      case 'wiping':
        // Whatever it has out: it is woken until it has begun anew.
        agent.work += 1 + ((meta as { owes?: number }).owes ?? 0)
        return this.#db.run('delete from timers where agent = ?', agent.id)
      case 'wiped':
        this.#authority.endAll(agent.id)
        this.#retire(agent)
        // Not what was saved since, where rows are made anew.
        return this.#db.run(
          'delete from snapshots where birth = (select birth from agents where id = ?) and seq < ?',
          agent.id,
          header.seq,
        )
      case 'stopped':
        this.#db.run('update agents set stopped = 1 where id = ?', agent.id)
        this.#authority.endAll(agent.id)
        return this.#retire(agent)
      case 'quarantined':
        this.#db.run('update agents set quarantined = 1 where id = ?', agent.id)
        return this.#retire(agent)
      case 'erased':
        this.#db.run('update agents set erased = 1 where id = ?', agent.id)
        this.#endAll(agent, pos)
        return this.#retire(agent)
    }
  }

  /** Writes what was gathered. */
  finish(): void {
    this.#db.run('delete from meters where ends <= ?', this.#timeMs)
    this.#authority.finish()
    for (const [scope, bytes] of this.#written)
      this.#db.run(
        'insert into written(scope, bytes) values(?, ?) on conflict(scope) do update set bytes = bytes + excluded.bytes',
        scope,
        bytes,
      )
    if (this.#nodeTip) {
      const { pos, header, hash } = this.#nodeTip
      const tip = JSON.stringify({ pos, seq: header.seq, hash: hash.toString('hex') })
      this.#db.run("insert or replace into meta(name, value) values('node', ?)", tip)
    }
    for (const [id, i] of this.#invocations) {
      this.#db.run(
        'insert into invocations(id, agent, method, accepted, time, deadline, reply, part, state) values(?,?,?,?,?,?,?,?,?)',
        id,
        i.agent,
        i.method,
        i.accepted,
        i.timeMs,
        i.deadline,
        i.reply,
        i.part,
        i.state,
      )
      if (i.state === 'open' && i.deadline !== null) this.#addTimer(i.deadline, i.agent, id)
    }
    for (const { id, work, turns, open, written, last } of this.#agents.values()) {
      if (!last) continue
      this.#db.run(
        'update agents set pos = ?, seq = ?, hash = ?, touched = ?, work = ?, turns = ?, open = ?, written = ? where id = ?',
        last.pos,
        last.header.seq,
        last.hash,
        last.header.timeMs,
        work,
        turns,
        open,
        written,
        id,
      )
    }
  }

  #counts(birth: string): Counts {
    const known = this.#agents.get(birth)
    if (known) return known
    const row = this.#db.get(
      'select id, work, turns, open, written, tenant, type from agents where birth = ?',
      Buffer.from(birth, 'hex'),
    )
    if (!row) throw new Error(`an entry of agent ${birth}, which was never born`)
    const counts = row as Counts
    this.#agents.set(birth, counts)
    return counts
  }

  #birth(pos: Pos, birth: Buffer, timeMs: number, meta: BirthMeta): void {
    const { tenant, type, key, slot, image, generation, spawned } = meta
    const by =
      spawned && (this.#db.get('select id from agents where address = ?', spawned.by) as { id: number })
    this.#db.run(
      'insert into agents(birth, address, tenant, type, key, slot, image, generation, pos, seq, hash, work, born, touched, born_pos, spawner, effect) values(?,?,?,?,?,?,?,?,?,1,?,0,?,?,?,?,?)',
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
      pos,
      by?.id ?? null,
      spawned?.effect ?? null,
    )
  }

  #accepted(agent: Counts, pos: Pos, timeMs: number, meta: AcceptedMeta): void {
    if (meta.what !== 'invoke') {
      agent.work++
      return
    }
    agent.work++
    agent.open++
    this.#invocations.set(meta.invocation as InvocationId, {
      agent: agent.id,
      method: meta.method as string,
      accepted: pos,
      timeMs,
      deadline: meta.deadline ?? null,
      reply: null,
      part: null,
      state: 'open',
    })
    if (meta.key)
      this.#db.run(
        'insert or replace into request_keys(agent, key, same, invocation) values(?,?,?,?)',
        agent.id,
        meta.key,
        meta.same,
        meta.invocation,
      )
  }

  #turn(agent: Counts, birth: Buffer, pos: Pos, seq: number, meta: TurnMeta): void {
    let work = -consumed(meta.inputs)
    meta.effects.forEach((effect, index) => {
      const id = `${seq}.${index}`
      if (effect.verdict === 'drop') return
      if (effect.verdict === 'ask') {
        this.#authority.ask(agent.id, id, pos, effect.ask ?? [])
        return
      }
      if (effect.verdict === 'allow') this.#authority.spend(birth, effect)
      if (effect.verdict === 'allow' && effect.due !== undefined) this.#addTimer(effect.due, agent.id, id)
      else work++
    })
    const refused = meta.effects.findIndex((e) => e.verdict === 'refuse')
    if (refused >= 0) this.#refused(agent, `${seq}.${refused}`)
    this.#drop(agent, meta.drops)
    for (const [part, [invocation, ok, refused]] of meta.replies.entries()) {
      this.#ended(agent, invocation, pos, part, ok && refused === undefined)
      if (refused !== undefined) this.#refused(agent, invocation)
    }
    agent.turns++
    addWork(agent, work + (meta.owes ?? 0))
  }

  #failed(agent: Counts, pos: Pos, meta: FailedTurnMeta): void {
    this.#drop(agent, meta.drops)
    for (const invocation of meta.ends) this.#ended(agent, invocation, pos, -1, false)
    addWork(agent, (meta.abandon ? 1 : 0) + (meta.owes ?? 0) - consumed(meta.inputs))
  }

  #receipt(agent: Counts, pos: Pos, meta: ReceiptMeta): void {
    if (meta.sleep && meta.dropped) addWork(agent, -1)
    if (meta.sleep) {
      this.#dropTimer(agent, meta.effect)
      this.#authority.ended(agent.id, meta.effect, meta.denied ? 'denied' : 'ended')
    } else addWork(agent, -1)
    if (meta.refund) this.#authority.refund(meta.refund)
    this.#meter(meta.meters)
    if (!meta.dropped) agent.work++
    if (meta.class === 'Refused') this.#refused(agent, meta.effect)
    if (meta.class === 'Indeterminate')
      this.#db.run(
        'insert or replace into doubts(agent, effect, pos) values(?,?,?)',
        agent.id,
        meta.effect,
        pos,
      )
  }

  /** A call that has arrived: from here on its agent only waits. */
  #sent(agent: Counts, meta: SentMeta): void {
    const { effect, due, timed, callee, invocation, waits } = meta
    if (timed) this.#dropTimer(agent, effect)
    else addWork(agent, -1)
    if (due !== undefined) this.#addTimer(due, agent.id, effect)
    if (invocation) this.#authority.call(agent.id, effect, callee, invocation, waits === true)
  }

  /** What middleware let through is reserved; what it asks a person about only waits. */
  #intent(agent: Counts, pos: Pos, meta: IntentMeta | MediatedMeta): void {
    if (meta.what !== 'mediated') return
    if (meta.asks) this.#authority.debit(meta.asks)
    if (meta.spends) this.#authority.debit(meta.spends)
    this.#meter(meta.meters)
    const again = meta.again === 1
    if (again) this.#dropTimer(agent, meta.effect)
    if (again && meta.verdict === 'allow') {
      this.#authority.ended(agent.id, meta.effect, 'ended')
      agent.work++
    }
    if (meta.verdict !== 'ask') return
    this.#authority.ask(agent.id, meta.effect, pos, meta.ask ?? [])
    if (meta.due !== undefined) this.#addTimer(meta.due, agent.id, meta.effect)
    // It only waited already.
    if (!again) addWork(agent, -1)
  }

  #approved(agent: Counts, { effect, role, verdict, spends, meters }: ApprovedMeta): void {
    this.#authority.approved(agent.id, effect, role, verdict)
    if (verdict === 'ask') return
    this.#dropTimer(agent, effect)
    agent.work++
    if (spends) this.#authority.debit(spends)
    this.#meter(meters)
  }

  #meter(takes: readonly Taking[] = []): void {
    for (const [counter, what, amount, ends] of takes) {
      const row = this.#db.get('select taken from meters where counter = ? and what = ?', counter, what)
      const before = row ? BigInt((row as { taken: string }).taken) : 0n
      this.#db.run(
        'insert or replace into meters(counter, what, taken, ends) values(?,?,?,?)',
        counter,
        what,
        String(before + BigInt(amount)),
        ends,
      )
    }
  }

  #replied(agent: Counts, pos: Pos, meta: RepliedMeta): void {
    this.#ended(agent, meta.invocation, pos, -1, false)
    if (meta.undelivered) addWork(agent, -1)
  }

  #node({ pos, hash, header: { kind } }: ScannedEntry, meta: unknown): void {
    if (!ROWS_ONLY.has(kind)) this.#db.run('insert into node_entries(pos, hash) values(?, ?)', pos, hash)
    if (kind === 'revoked') {
      this.#authority.revoke(pos, (meta as { card: string }).card, undefined)
      for (const taken of (meta as AuthorityMeta).refunds ?? []) this.#authority.refund(taken)
    }
    if (kind === 'minted') this.#authority.minted(pos, meta as AuthorityMeta)
    if (kind !== 'erased') return
    const birth = Buffer.from((meta as { agent: string }).agent, 'hex')
    this.#db.run('update agents set erased = 2 where birth = ?', birth)
  }

  /** The newest refusal of the node: what `why last` explains. */
  #refused(agent: Counts, effect: string): void {
    const value = JSON.stringify({ agent: agent.id, effect })
    this.#db.run("insert or replace into meta(name, value) values('refused', ?)", value)
  }

  #ended(agent: Counts, id: InvocationId, pos: Pos, part: number, ok: boolean): void {
    const state = ok ? 'done' : 'failed'
    agent.open = Math.max(0, agent.open - 1)
    const fresh = this.#invocations.get(id)
    if (fresh) Object.assign(fresh, { reply: pos, part, state })
    else {
      this.#db.run('update invocations set reply = ?, part = ?, state = ? where id = ?', pos, part, state, id)
      this.#dropTimer(agent, id)
    }
  }

  #endAll(agent: Counts, pos: Pos): void {
    agent.open = 0
    for (const fresh of this.#invocations.values())
      if (fresh.agent === agent.id && fresh.state === 'open')
        Object.assign(fresh, { reply: pos, part: -1, state: 'failed' })
    this.#db.run(
      "update invocations set state = 'failed', reply = ?, part = -1 where agent = ? and state = 'open'",
      pos,
      agent.id,
    )
  }

  /** Nothing of an agent that can never run again may come due. */
  #retire(agent: Counts): void {
    agent.work = 0
    for (const fresh of this.#invocations.values()) if (fresh.agent === agent.id) fresh.deadline = null
    this.#db.run('delete from timers where agent = ?', agent.id)
  }

  #drop(agent: Counts, drops: readonly EffectId[]): void {
    for (const effect of drops) this.#dropTimer(agent, effect)
  }

  #addTimer(due: number, agent: number, what: string): void {
    this.#db.run('insert into timers(due, agent, what) values(?,?,?)', due, agent, what)
  }

  #dropTimer(agent: Counts, what: string): void {
    this.#db.run('delete from timers where agent = ? and what = ?', agent.id, what)
  }
}

/** A birth waits for the first call, and is nothing to be done. */
function consumed(inputs: readonly string[]): number {
  return inputs.filter((ref) => ref !== FIRST_BIRTH && ref !== REBIRTH).length
}

function addWork(agent: Counts, more: number): void {
  agent.work = Math.max(0, agent.work + more)
}
