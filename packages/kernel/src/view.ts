/** What operators read: history, logs, why. Everything comes from durable entries and changes nothing. */
import { codec, isStopped } from '@cardinal/cards'
import type { Entry, PayloadKey } from '@cardinal/oplog'
import type { WireError } from '@cardinal/tools'
import type { Answer } from './agent.ts'
import { WITHHELD } from './answers.ts'
import type { AuthorityMeta } from './authority-wire.ts'
import type { Context } from './context.ts'
import type { AgentRow, InvocationRow } from './derived.ts'
import { KernelError, wasErased } from './errors.ts'
import { type PartArgs, PUT_METHOD } from './files.ts'
import { decodeGiven } from './given-home.ts'
import { readAuthority } from './holding.ts'
import { type Address, type InvocationId, parseAddress, parseEffectRef, showAddress } from './ids.ts'
import { toFolded } from './replay.ts'
import type { Reply, ReplyError } from './reply.ts'
import { detailsOf, type Folded, mediatedBody } from './state.ts'
import { Explaining, type Why } from './why.ts'
import {
  type AcceptedMeta,
  type ApprovedMeta,
  type EffectMeta,
  type FailedTurnMeta,
  type GuestOutput,
  type IntentMeta,
  type MediatedBody,
  type MediatedMeta,
  type ReceiptMeta,
  type RepliedMeta,
  readOutput,
  type SentMeta,
  type TurnMeta,
  type WipedMeta,
} from './wire.ts'

/** One entry as people read it. */
export interface HistoryLine {
  readonly seq: number
  readonly time: string
  readonly kind: string
  readonly text: string
  readonly effects?: readonly {
    readonly effect: string
    readonly tool: string
    readonly verdict: string
    readonly args: unknown
    readonly message?: string
  }[]
  readonly detail?: unknown
}

export interface LogLine {
  readonly seq: number
  readonly time: string
  readonly level: string
  readonly text: string
}

const MAX_LINES = 10_000

export class View {
  readonly #ctx: Context

  constructor(ctx: Context) {
    this.#ctx = ctx
  }

  async requireRow(address: Address): Promise<AgentRow> {
    const { derived } = this.#ctx
    derived.apply()
    const row = derived.findAgent(address)
    if (!row) throw new KernelError('NotFound', 'NoSuchAgent', `no agent \`${showAddress(address)}\``)
    return row
  }

  keyOf(row: AgentRow): PayloadKey {
    if (row.erased) throw wasErased(row.address)
    return this.#ctx.slots.open(row.slot, this.#ctx.control.tenantKey(row.tenant))
  }

  agents(where: {
    tenant?: string | undefined
    type?: string | undefined
    after?: string | undefined
    limit?: number | undefined
  }): object[] {
    this.#ctx.derived.apply()
    return this.#ctx.derived
      .listAgents({ ...where, limit: where.limit ?? 100 })
      .map((row) => showRow(row, this.#isStopped(row)))
  }

  async agent(address: string): Promise<object> {
    const row = await this.requireRow(parseAddress(address))
    return {
      ...showRow(row, this.#isStopped(row)),
      birth: row.birth.toString('hex'),
      image: row.image,
      generation: row.generation,
      entries: row.seq,
      home: this.#ctx.homes.sizeOf(row.birth),
    }
  }

  /** The agent and those that it made, and theirs; at most so many. */
  async tree(address: string, limit = MAX_LINES): Promise<object> {
    const { derived } = this.#ctx
    let left = Math.min(limit, MAX_LINES)
    const node = (row: AgentRow): object => {
      left--
      const below: object[] = []
      for (const child of derived.childrenOf(row.id, Math.max(0, left))) if (left > 0) below.push(node(child))
      return { ...showRow(row, this.#isStopped(row)), below }
    }
    return node(await this.requireRow(parseAddress(address)))
  }

  #isStopped(row: AgentRow): boolean {
    const world = this.#ctx.authority.of(row.tenant)
    const standing = world.agents.get(row.address)
    return standing !== undefined && isStopped(world, standing)
  }

  /** The newest entries, oldest first. */
  async history(
    address: string,
    options: { limit?: number | undefined; sinceMs?: number | undefined; afterSeq?: number | undefined } = {},
  ): Promise<HistoryLine[]> {
    const row = await this.requireRow(parseAddress(address))
    const limit = Math.min(options.limit ?? 100, MAX_LINES)
    const entries = this.newest(
      row,
      limit,
      (e) => e.header.timeMs >= (options.sinceMs ?? 0) && e.header.seq > (options.afterSeq ?? 0),
    )
    return entries.map((entry) => this.#line(row, entry))
  }

  async logs(address: string, limit = 100): Promise<LogLine[]> {
    const row = await this.requireRow(parseAddress(address))
    const lines: LogLine[] = []
    for (const entry of this.newest(row, MAX_LINES, () => true)) {
      if (entry.header.kind !== 'turn') continue
      const { meta, payloads } = toFolded(entry, this.keyOf(row))
      if ('failed' in (meta as object)) {
        const error = JSON.parse((payloads[0] as Buffer).toString()) as ReplyError
        lines.push({
          seq: entry.header.seq,
          time: iso(entry.header.timeMs),
          level: 'error',
          text: error.message,
        })
        continue
      }
      for (const [level, text] of readOutput(payloads[0] as Buffer).logs)
        lines.push({
          seq: entry.header.seq,
          time: iso(entry.header.timeMs),
          level,
          text: this.#ctx.images.mapStack(row.image, text),
        })
    }
    return lines.slice(-limit)
  }

  /** Explains a recorded verdict, or an answer that was kept back: `last`, an effect, or an invocation. */
  why(ref: string): Promise<Why> {
    return new Explaining(this.#ctx, this).why(ref)
  }

  /** What an effect asked for, and for whom it is done. */
  async asked(ref: string): Promise<{ tool: string; request: unknown; given: unknown; for: string }> {
    const { address, seq, index } = parseEffectRef(ref)
    const row = await this.requireRow(address)
    const entries = this.newest(row, Number.POSITIVE_INFINITY, (e) => e.header.seq >= seq)
    const entry = entries[0]
    if (entry?.header.kind !== 'turn')
      throw new KernelError('NotFound', 'NoSuchEffect', `\`${ref}\` is no effect that was asked for`)
    const outward = this.#outward(row, entries, `${seq}.${index}`)
    const { payloads } = toFolded(entry, this.keyOf(row))
    const asked = readOutput(payloads[0] as Buffer).effects[index]
    const invocation = asked?.invocation ? this.#ctx.derived.findInvocation(asked.invocation) : undefined
    const accepted = invocation && toFolded(this.#ctx.log.read(invocation.accepted), this.keyOf(row))
    return {
      tool: asked?.tool ?? '?',
      request: outward ? outward.args : asked?.args,
      given: asked?.args,
      for: accepted ? (accepted.meta as AcceptedMeta).principal : row.address,
    }
  }

  /** What middleware made of an effect, the last time that it was asked for. */
  #outward(row: AgentRow, entries: readonly Entry[], effect: string): MediatedBody | undefined {
    const intent = entries.findLast(({ header }) => {
      if (header.kind !== 'intent') return false
      const meta = JSON.parse(header.meta) as MediatedMeta
      return meta.what === 'mediated' && meta.effect === effect
    })
    return intent && mediatedBody(toFolded(intent, this.keyOf(row)))
  }

  effectsInDoubt(): { effect: string; resolved: string | null }[] {
    this.#ctx.derived.apply()
    return this.#ctx.derived
      .listDoubts()
      .map((d) => ({ effect: `${d.address}@${d.effect}`, resolved: d.resolved }))
  }

  async lastInvocation(address: string): Promise<InvocationRow | undefined> {
    return this.#ctx.derived.lastInvocation((await this.requireRow(parseAddress(address))).id)
  }

  /** Who asked from outside for an invocation, and of whose agent. */
  callerOf(id: string): { readonly tenant: string; readonly principal: string } | undefined {
    this.#ctx.derived.apply()
    const invocation = this.#ctx.derived.findInvocation(id)
    const row = invocation && this.#ctx.derived.findAgentByRow(invocation.agent)
    if (!row) return undefined
    const { principal } = JSON.parse(this.#ctx.log.read(invocation.accepted).header.meta) as AcceptedMeta
    return { tenant: row.tenant, principal }
  }

  /** The answer of an invocation that has ended, from the entry that holds it. */
  readReply(invocation: InvocationRow): Reply {
    const row = this.#ctx.derived.findAgentByRow(invocation.agent)
    if (!row || invocation.reply === null)
      throw new KernelError('NotFound', 'NoSuchInvocation', `no answer of \`${invocation.id}\` yet`)
    if (row.erased) return { ok: false, error: wasErased(row.address).toReply() }
    const entry = toFolded(this.#ctx.log.read(invocation.reply), this.keyOf(row))
    if (isWithheld(entry, invocation.id)) return { ok: false, error: WITHHELD }
    if (entry.kind === 'turn' && !('failed' in (entry.meta as object))) {
      const reply = readOutput(entry.payloads[0] as Buffer).replies.find(
        (r) => r.invocation === invocation.id,
      )
      if (reply?.ok) return { ok: true, value: reply.value ?? null }
      return { ok: false, error: reply?.value as ReplyError }
    }
    return { ok: false, error: JSON.parse((entry.payloads[0] as Buffer).toString()) as ReplyError }
  }

  /** The answer of an invocation on its way to the agent that made it; undefined if it may not have it. */
  answerOf(
    invocation: InvocationRow,
  ): Pick<Answer, 'reply' | 'influence' | 'bare' | 'from' | 'stopped'> | undefined {
    const row = this.#ctx.derived.findAgentByRow(invocation.agent)
    if (!row || invocation.reply === null) return undefined
    const read = this.#ctx.log.read(invocation.reply)
    const from = `${row.address}@${read.header.seq}`
    const stopped = { from, influence: undefined, stopped: row.address }
    if (row.erased) return { reply: this.readReply(invocation), ...stopped }
    const entry = toFolded(read, this.keyOf(row))
    if (isWithheld(entry, invocation.id)) return undefined
    const reply = this.readReply(invocation)
    const meta = entry.meta as Partial<RepliedMeta> & AuthorityMeta
    if (entry.kind === 'replied')
      return meta.code === 'Stopped' ? { reply, ...stopped } : { reply, from, influence: undefined }
    if (meta.declassified?.includes(invocation.id)) return { reply, from, influence: undefined, bare: true }
    const told = meta.auth === 1 ? readAuthority(entry.payloads).told : undefined
    return { reply, from, influence: told && codec.decodeInfluence(told) }
  }

  /** Walks back from the newest entry while `wanted`, at most `limit`; oldest first. */
  newest(row: AgentRow, limit: number, wanted: (entry: Entry) => boolean): Entry[] {
    const entries: Entry[] = []
    let at = row.pos
    while (at !== 0 && entries.length < limit) {
      const entry = this.#ctx.log.read(at)
      if (!wanted(entry)) break
      entries.push(entry)
      at = entry.header.prev
    }
    return entries.reverse()
  }

  #line(row: AgentRow, entry: Entry): HistoryLine {
    const base = { seq: entry.header.seq, time: iso(entry.header.timeMs), kind: entry.header.kind }
    const { meta, payloads } = toFolded(entry, this.keyOf(row))
    const body = (i: number) => JSON.parse((payloads[i] as Buffer).toString())
    switch (entry.header.kind) {
      case 'birth':
        return {
          ...base,
          text: `born as ${row.address}, generation ${(meta as { generation: number }).generation}`,
        }
      case 'accepted':
        return acceptedLine(base, meta as AcceptedMeta, body(0))
      case 'turn': {
        if ('failed' in (meta as object))
          return {
            ...base,
            text: `turn failed (${(meta as FailedTurnMeta).failed}) and was undone`,
            detail: body(0),
          }
        return turnLine(
          base,
          row.address,
          meta as TurnMeta,
          readOutput(payloads[0] as Buffer),
          detailsOf({ meta, payloads }),
        )
      }
      case 'started':
        return { ...base, text: `started ${(meta as { effect: string }).effect}` }
      case 'receipt': {
        const { effect, ok, class: cls, code, answer } = meta as ReceiptMeta
        const event = body(0) as { error?: WireError }
        const why = ok ? 'done' : `${cls} ${code}: ${event.error?.message ?? ''}`
        const by = answer === undefined ? '' : `, answered by ${answer}`
        return { ...base, text: `receipt of ${effect}${by}: ${why}`, detail: event }
      }
      case 'replied': {
        const { invocation, code } = meta as RepliedMeta
        return { ...base, text: `ended ${invocation}: ${code}: ${(body(0) as ReplyError).message}` }
      }
      case 'resolved': {
        const { effect, outcome, principal } = meta as { effect: string; outcome: string; principal: string }
        return { ...base, text: `${principal} resolved ${effect} as ${outcome}` }
      }
      case 'sent': {
        const { effect, callee, invocation } = meta as SentMeta
        return {
          ...base,
          text: `${effect} arrived at ${callee} (${invocation ?? 'and was lost: it is stopped'})`,
        }
      }
      case 'intent': {
        const { effect, what, verdict } = meta as IntentMeta | MediatedMeta
        if (what === 'mediated') return mediatedLine(base, meta as MediatedMeta, body(0) as MediatedBody)
        if (what === 'egress')
          return { ...base, text: `the program of ${effect} asks: ${verdict}`, detail: body(0) }
        return {
          ...base,
          text: `decided ${effect} anew (${what === 'hop' ? 'redirect' : 'repeat'}): ${verdict}`,
        }
      }
      case 'approved': {
        const { effect, role, principal } = meta as ApprovedMeta
        return { ...base, text: `${principal} approved ${effect} as ${role}` }
      }
      case 'held':
      case 'released':
        return { ...base, text: `${entry.header.kind} by ${(meta as { by: string }).by}` }
      case 'looked':
        return {
          ...base,
          text: `${(meta as { by: string }).by} read its home`,
          detail: (payloads[0] as Buffer).toString(),
        }
      case 'wiping':
        return { ...base, text: `is wiped by ${(meta as { by: string }).by}: what is out comes to its end` }
      case 'wiped':
        return { ...base, text: wipedText(meta as WipedMeta, payloads) }
      case 'part':
        return { ...base, text: `a part of a home that comes in (${(payloads[0] as Buffer).length} bytes)` }
      case 'revoked':
        return { ...base, text: `ended children: ${(meta as AuthorityMeta).revoked?.join(', ')}` }
      case 'stopped':
        return { ...base, text: 'stopped: its cards are dead, or whoever made it is stopped' }
      case 'quarantined':
        return { ...base, text: (payloads[0] as Buffer).toString() }
      default:
        return { ...base, text: JSON.stringify(meta) }
    }
  }
}

/** Whether the rules kept an answer from whoever asked. */
function isWithheld({ kind, meta }: Folded, id: InvocationId): boolean {
  if (kind !== 'turn') return false
  const { replies, withheld } = meta as Partial<TurnMeta> & Partial<FailedTurnMeta>
  return (
    withheld?.includes(id) === true ||
    replies?.some(([of, , code]) => of === id && code !== undefined) === true
  )
}

type Base = Pick<HistoryLine, 'seq' | 'time' | 'kind'>

function acceptedLine(
  base: Base,
  meta: AcceptedMeta,
  event: { args?: unknown; name?: string; value?: unknown; why?: string },
): HistoryLine {
  switch (meta.what) {
    case 'invoke':
      if (meta.method === PUT_METHOD) return putLine(base, meta, event.args as PartArgs)
      return {
        ...base,
        text: `${meta.principal} invoked ${meta.method} (${meta.invocation})`,
        detail: event.args,
      }
    case 'emit':
      return { ...base, text: `${meta.principal} emitted ${event.name}`, detail: event.value }
    case 'cancel':
      return { ...base, text: `cancelled ${meta.invocation}: ${event.why}` }
    case 'offer':
      return { ...base, text: `${meta.principal} offered card ${meta.card}` }
    case 'card':
      return { ...base, text: `${meta.principal} gave card ${meta.card}` }
    case 'abandon':
      return { ...base, text: `abandoned ${meta.invocation}: it was ended, and did not finish` }
  }
}

function mediatedLine(base: Base, meta: MediatedMeta, { args }: MediatedBody): HistoryLine {
  const { effect, verdict, by, code, chain } = meta
  const did = chain.map(([name, , what]) => (what === 'pass' ? name : `${name} (${what})`)).join(', ')
  const end = verdict === 'refuse' ? `refused by ${by} (${code})` : verdict
  return { ...base, text: `middleware of ${effect}: ${did}: ${end}`, detail: args }
}

function wipedText({ home }: WipedMeta, payloads: readonly Buffer[]): string {
  if (home !== 1) return 'begins anew: memory and inbox are gone'
  return `begins anew, with a home of ${decodeGiven(payloads[1] as Buffer).from}`
}

/** Bytes are not shown: whoever wants them reads the file. */
function putLine(base: Base, meta: AcceptedMeta, { path, part, chunks, last }: PartArgs): HistoryLine {
  if (part < 0) return { ...base, text: `${meta.principal} gave up putting \`${path}\`` }
  const bytes = chunks.reduce((sum, hex) => sum + hex.length / 2, 0)
  const whole = part === 0 && last ? '' : last ? ', its last part' : `, part ${part + 1}`
  return { ...base, text: `${meta.principal} put \`${path}\`${whole} (${bytes} bytes, ${meta.invocation})` }
}

function turnLine(
  base: Base,
  address: string,
  meta: TurnMeta,
  output: GuestOutput,
  details: ReturnType<typeof detailsOf>,
): HistoryLine {
  const effects = meta.effects.map((m: EffectMeta, i: number) => ({
    effect: `${address}@${base.seq}.${i}`,
    tool: output.effects[i]?.tool ?? m.tool,
    verdict: m.verdict === 'refuse' ? `refused by ${m.by ?? 'the kernel'} (${m.code})` : m.verdict,
    args: output.effects[i]?.args,
    ...(details.get(i) && { message: details.get(i)?.error?.message ?? '' }),
  }))
  const parts = [
    ...(effects.length > 0 ? [`${effects.length} effect${effects.length > 1 ? 's' : ''}`] : []),
    ...meta.replies.map(([id, ok, refused]) => {
      if (refused !== undefined)
        return `answered ${id}, which was kept back (${refused}): \`cardinal why ${id}\``
      const error = output.replies.find((r) => r.invocation === id)?.value as ReplyError | undefined
      return ok ? `answered ${id}` : `failed ${id}: ${error?.message ?? ''}`
    }),
  ]
  return { ...base, text: parts.join(', ') || 'nothing to do', ...(effects.length > 0 && { effects }) }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}

function showRow(row: AgentRow, stopped: boolean): object {
  const state = row.erased
    ? 'erased'
    : row.quarantined
      ? 'quarantined'
      : stopped
        ? 'stopped'
        : row.held
          ? 'held'
          : row.work > 0
            ? 'working'
            : row.open > 0
              ? 'waiting'
              : 'quiet'
  return {
    address: row.address,
    state,
    turns: row.turns,
    open: row.open,
    born: iso(row.born),
    touched: iso(row.touched),
  }
}
