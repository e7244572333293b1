/**
 * Audit: everything that was ever decided on this node, decided again from the log alone (R16).
 *
 * Entries are taken in their order, by the same rules and the same translation as when the node ran, on
 * rows that are derived from nothing but the entries before. Every verdict, every answer that was kept
 * back, every minted card and every change of what an agent holds and has read must come out as it is
 * recorded. Performs nothing and changes nothing.
 */
import {
  type AgentRow,
  approve,
  codec,
  debit,
  decodeBudgets,
  give,
  type Influence,
  influenceOf,
  input,
  isRefusal,
  join,
  meets,
  parseRecordJson,
  permit,
  receipt,
  send,
  spawn,
  UNTOUCHED,
  wipe,
} from '@cardinal/cards'
import type { Entry, PayloadKey } from '@cardinal/oplog'
import { type Acts, noActs } from './acts.ts'
import { answersOf, endChildren } from './answers.ts'
import { type Actor, effectKey } from './asking.ts'
import { type Audited, AuditRows, type AuditSources } from './audit-rows.ts'
import { type AuthorityMeta, type AuthorityPayload, cardName } from './authority-wire.ts'
import { decideEffects, redecide } from './decide.ts'
import { FANOUT, fanoutOfEnd } from './fanout.ts'
import { influenceGiven } from './given-home.ts'
import { readAuthority } from './holding.ts'
import type { EffectId, InvocationId } from './ids.ts'
import { decideMediated } from './mediation.ts'
import { admitsOf, callArgs, parseSpawnArgs } from './messages.ts'
import { narrowOf } from './narrow.ts'
import { toFolded } from './replay.ts'
import { decodeRequest, encodeRequest, settleEffect } from './settle.ts'
import { detailsOf, type Folded, fold, isAsked, mediatedBody } from './state.ts'
import {
  type AcceptedMeta,
  type ApprovedMeta,
  type BirthMeta,
  type FailedTurnMeta,
  type IntentMeta,
  type MediatedMeta,
  type ReceiptMeta,
  type RepliedMeta,
  readOutput,
  type SentMeta,
  type TurnMeta,
  type WipedMeta,
} from './wire.ts'

export interface AuditReport {
  readonly entries: number
  readonly agents: number
  /** Decisions that were made again. */
  readonly verdicts: number
  /** Turns that an older kernel decided, by one card an agent; they are not decided again. */
  readonly older: number
  /** Agents whose key is destroyed: what stands in their entries nobody can read any more. */
  readonly unreadable: number
  readonly mismatches: readonly Mismatch[]
}

export interface Mismatch {
  /** `tenant/type/key@seq`, or `node@seq`. */
  readonly at: string
  readonly what: string
  readonly recorded: unknown
  readonly derived: unknown
}

const MAX_MISMATCHES = 100

export class Audit {
  readonly #rows: AuditRows
  readonly #mismatches: Mismatch[] = []
  readonly #blind = new Set<string>()
  #entries = 0
  #verdicts = 0
  #older = 0

  constructor(from: AuditSources) {
    this.#rows = new AuditRows(from)
  }

  get report(): AuditReport {
    return {
      entries: this.#entries,
      agents: this.#rows.count,
      verdicts: this.#verdicts,
      older: this.#older,
      unreadable: this.#blind.size,
      mismatches: this.#mismatches,
    }
  }

  /** Takes the next entry of the log. */
  async take(entry: Entry): Promise<void> {
    this.#entries++
    this.#rows.nowMs = entry.header.timeMs
    if (this.#rows.isNode(entry)) return this.#rows.takeNode(entry)
    const birth = entry.header.agent.toString('hex')
    if (this.#blind.has(birth)) return this.#rows.takeBlind(entry)
    const key = this.#rows.keyOf(entry)
    if (!key) {
      this.#blind.add(birth)
      return this.#rows.forget(entry)
    }
    const folded = readable(entry, key)
    const who = entry.header.kind === 'birth' ? await this.#born(entry, folded) : this.#rows.find(birth)
    if (!who)
      return this.#differ(`${birth}@${entry.header.seq}`, 'an entry of nobody', entry.header.kind, undefined)
    const at = `${who.name}@${entry.header.seq}`
    if (entry.header.kind !== 'birth') this.#again(who, at, folded)
    fold(who.state, folded)
    who.standing.sync()
    if (entry.header.kind !== 'birth') this.#compareHolding(who, at, folded)
  }

  /** What derived state says was taken of a budget, against what the decisions took. */
  compareTaken(rows: Iterable<{ card: string; name: string; spent: string }>): void {
    // What an erased agent took stands nowhere any more.
    if (this.#blind.size > 0) return
    for (const { card, name, spent } of rows) {
      const row = this.#rows.authority.findCard(card)
      if (!row) continue
      const counter = row.counters.get(name)
      const derived = String((counter?.spent ?? 0n) + (counter?.reserved ?? 0n))
      if (derived !== spent) this.#differ(`card ${card}`, `what was taken of ${name}`, spent, derived)
    }
  }

  #differ(at: string, what: string, recorded: unknown, derived: unknown): void {
    if (this.#mismatches.length < MAX_MISMATCHES) this.#mismatches.push({ at, what, recorded, derived })
  }

  #same(at: string, what: string, recorded: unknown, derived: unknown): void {
    const [a, b] = [recorded, derived].map((value) => JSON.stringify(value))
    if (a !== b) this.#differ(at, what, recorded, derived)
  }

  async #born(entry: Entry, folded: Folded): Promise<Audited> {
    const meta = folded.meta as BirthMeta
    const { spawned, first } = meta
    if (first && this.#rows.isBlind(first.by))
      return this.#rows.root(entry, meta, codec.decodeInfluence(readAuthority(folded.payloads).influence))
    if (!spawned) return this.#rows.root(entry, meta, first && this.#firstUse(meta, first))
    if (this.#rows.isBlind(spawned.by))
      return this.#rows.recorded(entry, meta, readAuthority(folded.payloads))
    const maker = this.#rows.byName(spawned.by)
    const effect = maker?.state.effects.get(spawned.effect)
    const name = `${meta.tenant}/${meta.type}/${meta.key}`
    if (maker && effect) {
      const { cards } = parseSpawnArgs(effect.args)
      const from =
        effect.via === undefined
          ? maker.standing.row.births[0]
          : [...maker.standing.row.held].find((c) => c.id === effect.via)
      const world = maker.standing.world
      const done = spawn(world, {
        agent: name,
        by: maker.name,
        cards: cards.map((card, i) => ({
          card: cardName(maker.birth, `${effect.id}.${i}`),
          from: from?.id ?? '',
          ...narrowOf(card, maker.standing.actor().settings),
        })),
        for: effect.serves.filter((id) => world.turns.has(id)),
        ...(effect.via !== undefined && { via: effect.via }),
      })
      this.#verdicts++
      if (!done.ok) this.#differ(name, 'a birth', 'allowed', done)
      else if (from) this.#rows.debit(from, FANOUT)
    } else this.#differ(name, 'a birth', spawned, undefined)
    const who = await this.#rows.child(entry, meta)
    const { minted: recorded, influence } = readAuthority(folded.payloads)
    this.#same(
      `${name}@1`,
      'what its maker had read',
      influence,
      codec.encodeInfluence(who.standing.row.birth),
    )
    const derived = who.standing.row.births.map((c) => ({
      now: codec.encodeBound(c.now),
      ever: codec.encodeBound(c.ever),
    }))
    this.#same(`${name}@1`, 'minted cards', recorded, derived)
    return who
  }

  /** An agent that another one was the first to call begins with what that one had read. */
  #firstUse(
    { type, key, debits = [] }: BirthMeta,
    { by, effect: id }: NonNullable<BirthMeta['first']>,
  ): Influence {
    const caller = this.#rows.byName(by)
    const effect = caller?.state.effects.get(id)
    if (!caller || !effect) {
      this.#differ(by, 'a birth by first use', id, undefined)
      return UNTOUCHED
    }
    const { world, row } = caller.standing
    const turns = effect.serves.flatMap((serve) => world.turns.get(serve) ?? [])
    const via = permit(world, row, { tool: 'agent.spawn', type, key }, effect.via, turns)
    this.#verdicts++
    if (isRefusal(via)) this.#differ(by, 'a birth by first use', 'allowed', via)
    else for (const { of } of debits) debit(via, decodeBudgets(of))
    return influenceOf(world, row)
  }

  /** Does again what the entry says was done. */
  #again(who: Audited, at: string, entry: Folded): void {
    switch (entry.kind) {
      case 'accepted':
        return this.#accepted(who, at, entry.meta as AcceptedMeta, entry)
      case 'turn':
        if ('failed' in (entry.meta as object)) return this.#failed(who, at, entry)
        return this.#turn(who, at, entry)
      case 'intent':
        return this.#intent(who, at, entry)
      case 'sent':
        return this.#sent(who, at, entry.meta as SentMeta)
      case 'approved':
        return this.#approved(who, at, entry.meta as ApprovedMeta)
      case 'receipt':
        return this.#receipt(who, at, entry.meta as ReceiptMeta, entry)
      case 'replied':
        return this.#replied(who, at, entry.meta as RepliedMeta)
      case 'revoked':
        return this.#ended(who, at, entry.meta as AuthorityMeta)
      case 'wiped':
        wipe(who.standing.world, who.standing.row)
        who.standing.beganAnew()
        if ((entry.meta as WipedMeta).home === 1)
          join(who.standing.row, influenceGiven(entry.payloads[1] as Buffer))
        return
      case 'stopped':
        for (const [key, effect] of who.standing.world.effects) {
          if (effect.agent !== who.standing.row) continue
          if (effect.open)
            receipt(who.standing.world, { id: key, outcome: 'unknown', more: false, learned: false })
          who.standing.world.effects.delete(key)
        }
        this.#same(
          at,
          'what is given back',
          (entry.meta as AuthorityMeta).refunds ?? [],
          fanoutOfEnd(who.standing.world, who.standing.row),
        )
        return
    }
  }

  #accepted(who: Audited, at: string, meta: AcceptedMeta, entry: Folded): void {
    const { world, row } = who.standing
    if (meta.from !== undefined) return this.#arrived(who, at, meta, entry)
    switch (meta.what) {
      case 'invoke': {
        const id = meta.invocation as string
        const { method, principal, labels = [] } = meta
        const taken = input(world, { id, to: row.id, method: method as string, principal, labels })
        this.#verdicts++
        if (!taken.ok) this.#differ(at, 'a call from outside', 'taken', taken)
        // One under a card is read from the entry's own payload.
        if (meta.turn) world.turns.delete(id)
        return
      }
      case 'emit':
        return join(row, { flow: UNTOUCHED.flow, labels: new Set(meta.labels ?? []) })
      case 'offer': {
        const card = world.cards.get(meta.card as string)
        const offer = card && world.offers.get(card)
        if (this.#rows.isBlind(meta.principal)) this.#joinSaid(row, entry)
        else if (offer) join(row, offer.influence)
        else this.#differ(at, 'an offer', meta.card, undefined)
        return
      }
      case 'card': {
        const card = world.cards.get(meta.card as string)
        const given = card && give(world, row, card, true)
        if (!given?.ok) this.#differ(at, 'a card from the host', meta.card, given)
        return
      }
      case 'cancel':
        // Of a caller's cancel, what the caller had read stands in the change.
        return this.#joinSaid(row, entry)
    }
  }

  /** A cancel by a caller joins what the caller had read: more than what is recorded cannot be known. */
  #joinSaid(row: AgentRow, entry: Folded): void {
    const { influence } = (entry.meta as AuthorityMeta).auth === 1 ? readAuthority(entry.payloads) : {}
    if (influence) join(row, codec.decodeInfluence(influence))
  }

  /** A message of another agent: both its decision and what it added. */
  #arrived(who: Audited, at: string, meta: AcceptedMeta, entry: Folded): void {
    const from = meta.from as string
    const mark = from.lastIndexOf('@')
    if (this.#rows.isBlind(from.slice(0, mark))) return this.#joinSaid(who.standing.row, entry)
    const sender = this.#rows.byName(from.slice(0, mark))
    const effect = sender?.state.effects.get(from.slice(mark + 1) as EffectId)
    if (!sender || !effect) return this.#differ(at, 'a message', from, undefined)
    const done = this.#send(sender, effect, meta.invocation as string, who.name)
    if (!done.ok) this.#differ(at, 'a message', 'taken', done)
  }

  #send(
    sender: Audited,
    effect: NonNullable<ReturnType<Audited['state']['effects']['get']>>,
    id: string,
    to: string,
  ) {
    const args = callArgs(effect.args)
    const { world } = sender.standing
    const under = args.under === undefined ? undefined : sender.state.holding.handles[args.under]
    this.#verdicts++
    return send(world, {
      id,
      from: sender.name,
      to,
      method: args.method,
      tool: effect.tool as 'agent.invoke' | 'agent.send',
      knows: world.agents.get(to)?.spawner === sender.standing.row,
      for: effect.serves.filter((serve) => world.turns.has(serve)),
      ...(effect.via !== undefined && { via: effect.via }),
      ...(under !== undefined && { under }),
      ...(args.admits !== undefined && { admits: admitsOf(args.admits) }),
    })
  }

  #turn(who: Audited, at: string, entry: Folded): void {
    const meta = entry.meta as TurnMeta
    const output = readOutput(entry.payloads[0] as Buffer)
    const acts = noActs()
    const actor: Actor = who.standing.actor()
    const base = { seq: entry.tip.seq, time: meta.time, inputs: meta.inputs, limits: meta.limits }
    const decided = decideEffects(this.#rows, actor, output, base, acts)
    if (isOlder(meta)) this.#older++
    else {
      this.#verdicts += decided.metas.length
      const likeSaid = decided.metas.map((one, i) => asSaid(one, meta.effects[i]))
      this.#same(at, 'verdicts', meta.effects, likeSaid)
      this.#same(at, 'refusals and results', [...detailsOf(entry).values()], decided.details)
    }
    const answers = answersOf(who, output.replies, acts)
    this.#verdicts += answers.length
    const kept = answers.map(({ id, ok, refused }) => (refused === undefined ? [id, ok] : [id, ok, refused]))
    this.#same(at, 'answers', meta.replies, kept)
    endChildren(
      who,
      answers.map(({ id }) => id),
      acts,
      this.#rows,
    )
    this.#ends(at, meta, acts)
    this.#same(at, 'minted cards', meta.cards ?? [], acts.cards)
    this.#same(at, 'what was declassified', meta.declassified ?? [], acts.declassified)
    this.#rows.noteAnswers(at, who, acts.declassified)
  }

  #failed(who: Audited, at: string, entry: Folded): void {
    const meta = entry.meta as FailedTurnMeta
    const acts = noActs()
    const given = meta.ends.map((invocation) => ({ invocation, ok: false, value: null }))
    const answers = answersOf(who, given, acts)
    this.#verdicts += answers.length
    const withheld = answers.filter((a) => a.refused !== undefined).map((a) => a.id)
    this.#same(at, 'answers', meta.withheld ?? [], withheld)
    endChildren(who, meta.ends, acts, this.#rows)
    this.#ends(at, meta, acts)
    this.#rows.noteAnswers(at, who, [])
  }

  #intent(who: Audited, at: string, entry: Folded): void {
    if ((entry.meta as MediatedMeta).what === 'mediated')
      return this.#mediated(who, at, entry.meta as MediatedMeta, entry)
    const { effect: id, verdict, what } = entry.meta as IntentMeta
    // By the card of the tool, as it was declared then.
    if (what === 'egress') return
    const effect = who.state.effects.get(id)
    if (!effect) return this.#differ(at, 'an intent', id, undefined)
    const said = (entry.meta as AuthorityMeta).auth === 1 ? entry.payloads.slice(0, -1) : entry.payloads
    const request = decodeRequest(parseRecordJson((said[0] as Buffer).toString()) as Record<string, unknown>)
    const no = redecide(who.standing.actor(), effect, request, true)
    this.#verdicts++
    this.#same(at, 'an intent', verdict, no ? 'refuse' : 'allow')
  }

  /** What middleware did is on record and not done again; what was decided of that is. */
  #mediated(who: Audited, at: string, meta: MediatedMeta, entry: Folded): void {
    const effect = who.state.effects.get(meta.effect)
    if (!effect) return this.#differ(at, 'an intent', meta.effect, undefined)
    const {
      effect: _effect,
      what: _what,
      chain,
      roles = [],
      again: _again,
      meters: _meters,
      generation: _generation,
      auth: _auth,
      ...said
    } = meta as MediatedMeta & AuthorityMeta
    const stopped = chain.at(-1)?.[2]
    if (stopped === 'refuse' || stopped === 'fail') return
    const { args, request } = mediatedBody(entry)
    const { answered } = meta
    const end =
      answered === undefined
        ? ({ kind: 'pass' } as const)
        : ({ kind: 'answer', by: answered, read: false, receipt: { ok: true, value: null } } as const)
    const outward = { args, ask: roles, expiresMs: meta.due, end }
    const derived = decideMediated(this.#rows, who.standing.actor(), effect, outward)
    this.#verdicts++
    this.#same(at, 'an intent', said, asSaid(derived.meta, said))
    this.#same(at, 'what was to go out', request, derived.request ? encodeRequest(derived.request) : {})
  }

  /** A call that arrived was decided with its receiver's entry; one that was lost is decided here. */
  #sent(who: Audited, at: string, meta: SentMeta): void {
    const effect = who.state.effects.get(meta.effect)
    if (!effect || meta.invocation !== undefined) return
    const id = `lost ${at}`
    const done = this.#send(who, effect, id, meta.callee)
    who.standing.world.turns.delete(id)
    if (!done.ok) this.#differ(at, 'a message that was lost', 'taken', done)
  }

  #approved(who: Audited, at: string, meta: ApprovedMeta): void {
    const decided = approve(who.standing.world, effectKey(who.name, meta.effect), meta.role)
    this.#verdicts++
    this.#same(at, 'an approval', meta.verdict, decided.ok ? decided.verdict.verdict : decided.code)
  }

  #receipt(who: Audited, at: string, meta: ReceiptMeta, entry: Folded): void {
    const effect = who.state.effects.get(meta.effect)
    if (!effect) return
    const { world, row } = who.standing
    if (effect.class === 'call' && effect.sent === undefined && !meta.ok && meta.dropped !== true)
      this.#refusedCall(who, at, meta)
    const by = meta.answer?.slice(0, meta.answer.lastIndexOf('@'))
    if (by !== undefined && this.#rows.isBlind(by)) this.#joinSaid(row, entry)
    else if (meta.answer !== undefined) {
      const { bare, influences } = this.#rows.answered(meta.answer, effect.sent, who)
      this.#same(at, 'whether the answer was declassified', meta.bare === 1, bare)
      for (const one of influences) join(row, one)
    }
    const outcome = meta.ok
      ? ({ ok: true } as const)
      : ({ ok: false, error: { class: meta.class ?? '' } } as const)
    if (isAsked(effect)) world.effects.delete(effectKey(who.name, effect.id))
    else {
      const used = meta.used && decodeBudgets(meta.used)
      const refund = settleEffect(
        who.standing.actor(),
        effect,
        outcome,
        meta.read === 1,
        used,
        meta.spent === 1,
      )
      this.#same(at, 'what is given back', meta.refund, refund)
    }
  }

  /** A call that never arrived: refused by the rules, or for what the rules do not know. */
  #refusedCall(who: Audited, at: string, meta: ReceiptMeta): void {
    const effect = who.state.effects.get(meta.effect)
    const code = meta.code ?? ''
    if (!effect || !(RULES_REFUSE.has(code) || KERNEL_REFUSES.has(code))) return
    const { to } = callArgs(effect.args)
    const address = to.split('/').length === 2 ? `${who.standing.row.tenant}/${to}` : to
    const { world, row } = who.standing
    if (KERNEL_REFUSES.has(code)) {
      const target = world.agents.get(address)
      if (target && target.spawner !== row) meets(world, row, target)
      return
    }
    const id = `refused ${at}`
    const done = this.#send(who, effect, id, address)
    if (done.ok) this.#differ(at, 'a message', meta.code, 'allowed')
  }

  #replied(who: Audited, at: string, meta: RepliedMeta): void {
    const acts = noActs()
    endChildren(who, [meta.invocation], acts, this.#rows)
    this.#ends(at, meta, acts)
    if (meta.code === 'Stopped') this.#rows.noteStop(at, who)
  }

  #ended(who: Audited, at: string, meta: AuthorityMeta): void {
    const over = [...who.state.children.values()].flatMap(({ invocation }) =>
      invocation !== null && !who.state.invocations.has(invocation) ? [invocation] : [],
    )
    const acts = noActs()
    endChildren(who, over as InvocationId[], acts, this.#rows)
    this.#ends(at, meta, acts)
  }

  /** Cards that died with what ended, and what was given back for that. */
  #ends(at: string, { revoked = [], refunds = [] }: AuthorityMeta, acts: Acts): void {
    this.#same(at, 'revocations', revoked, acts.revoked)
    this.#same(at, 'what is given back', refunds, acts.refunds)
  }

  /** What the entry says of the agent's own row is what the rules have made of it. */
  #compareHolding(who: Audited, at: string, { meta, payloads }: Folded): void {
    const derived = who.standing.change() ?? {}
    const said = (meta as AuthorityMeta).auth === 1 ? readAuthority(payloads) : {}
    this.#same(at, 'what it holds and has read', pick(said), pick(derived))
  }
}

/** Refusals of messages that the rules made: others are the kernel's, about what rules do not know. */
const RULES_REFUSE = new Set([
  'NoSuchAgent',
  'NoSuchCard',
  'NotLive',
  'NoGrant',
  'WouldTaint',
  'Stopped',
  'BudgetSpent',
])

/** What the kernel says of an agent that is there: the sender has learned that. */
const KERNEL_REFUSES = new Set(['NoSuchMethod', 'Busy', 'Wiping', 'WouldDeadlock', 'Quarantined'])

/** Entries of before the rules name a generation with their card. */
function isOlder({ card }: TurnMeta): boolean {
  return card.includes('#')
}

function pick({ influence, accepted, held }: AuthorityPayload): object {
  return { ...(influence && { influence }), ...(accepted && { accepted }), ...(held && { held }) }
}

function readable(entry: Entry, key: PayloadKey): Folded {
  return toFolded(entry, key)
}

type SaidLately = { readonly grant?: number; readonly for?: readonly string[] }

/** Which grant it was, and in whose name, is said since entries say it; older ones do not. */
function asSaid(derived: object, said: SaidLately | undefined): object {
  const isKept = ([name]: [string, unknown]) =>
    (name !== 'grant' && name !== 'for') || said?.[name] !== undefined
  return Object.fromEntries(Object.entries(derived).filter(isKept))
}
