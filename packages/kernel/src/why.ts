/** `why`: what the record says of a verdict, what would have allowed it, and who could have it allowed. */
import type { WireError } from '@cardinal/tools'
import { WITHHELD } from './answers.ts'
import type { AuthorityMeta } from './authority-wire.ts'
import type { Context } from './context.ts'
import type { AgentRow } from './derived.ts'
import { KernelError } from './errors.ts'
import { readAuthority } from './holding.ts'
import { parseEffectRef } from './ids.ts'
import { toFolded } from './replay.ts'
import { detailsOf } from './state.ts'
import type { View } from './view.ts'
import {
  type ApprovedMeta,
  type EffectMeta,
  type ReceiptMeta,
  readOutput,
  type SentMeta,
  type TurnMeta,
} from './wire.ts'

export interface Why {
  readonly effect: string
  readonly verdict: EffectMeta['verdict']
  /** Set if it was allowed when it was asked for, and refused while it was performed. */
  readonly when?: 'performed'
  readonly tool: string
  readonly request: unknown
  readonly card: string
  readonly by?: string
  readonly code?: string
  readonly message?: string
  /** The narrowest grant that would allow it. */
  readonly missing?: unknown
  readonly nearest?: unknown
  readonly grantedBy: string
  readonly outcome?: string
  readonly approvals?: readonly { readonly role: string; readonly by: string; readonly time: string }[]
  /** Why an answer could not be declassified, if its agent asked for that. */
  readonly undeclassified?: KeptAnswer['undeclassified']
  /** Of a call: what became of the answer that did not come. */
  readonly answer?: KeptAnswer
}

/** An answer that the rules kept from the agent that called. */
export interface KeptAnswer {
  readonly from: string
  readonly code: string
  /** What the caller would lose by it: sinks it could no longer reach, labels it would carry. */
  readonly costs: { readonly sinks: readonly string[]; readonly labels: readonly string[] }
  /** Why it could not be declassified, if its agent asked for that. */
  readonly undeclassified?: { readonly by?: string; readonly code: string }
  /** What the caller would say in its call to get it all the same. */
  readonly admits: { readonly labels: readonly string[]; readonly flow: string }
}

export class Explaining {
  readonly #ctx: Context
  readonly #view: Pick<View, 'requireRow' | 'newest' | 'keyOf'>

  constructor(ctx: Context, view: Pick<View, 'requireRow' | 'newest' | 'keyOf'>) {
    this.#ctx = ctx
    this.#view = view
  }

  /** Explains a recorded verdict: the request, the grant that was missing, and who could give it. */
  async why(ref: string): Promise<Why> {
    this.#ctx.derived.apply()
    const wanted = ref === 'last' ? this.#ctx.derived.lastRefused() : ref
    if (!wanted) throw new KernelError('NotFound', 'NoSuchEffect', 'nothing was refused yet')
    if (wanted.startsWith('inv_')) return this.#whyAnswer(wanted)
    const { address, effect, seq, index } = parseEffectRef(wanted)
    const row = await this.#view.requireRow(address)
    const entry = this.#view.newest(row, Number.POSITIVE_INFINITY, (e) => e.header.seq >= seq)[0]
    const found =
      entry?.header.seq === seq && entry.header.kind === 'turn'
        ? toFolded(entry, this.#view.keyOf(row))
        : undefined
    const meta = found?.meta as TurnMeta | undefined
    const verdict = meta && !('failed' in meta) ? meta.effects[index] : undefined
    if (!found || !meta || !verdict)
      throw new KernelError('NotFound', 'NoSuchEffect', `\`${wanted}\` is no effect that was asked for`)
    const asked = readOutput(found.payloads[0] as Buffer).effects[index]
    const detail = detailsOf(found).get(index)
    const receipt = this.#receiptOf(row, effect, seq)
    // Allowed when it was asked for, and refused on its way: a redirect, an address, a card that sank.
    const late = receipt?.error?.class === 'Refused' ? receipt.error : undefined
    const error = (late ?? detail?.error) as WireError | undefined
    const by = late?.by ?? verdict.by
    const code = late?.code ?? verdict.code
    return {
      effect: `${row.address}@${effect}`,
      verdict: late ? 'refuse' : verdict.verdict,
      ...(late && { when: 'performed' as const }),
      tool: asked?.tool ?? verdict.tool,
      request: asked?.args,
      card: verdict.via ?? meta.card,
      ...(by && { by }),
      ...(code && { code }),
      ...(error && { message: error.message, missing: error.missing }),
      ...(detail && { nearest: detail.nearest }),
      grantedBy: this.#grantedBy(row, by),
      ...(receipt && { outcome: this.#outcome(row, effect, receipt.error) }),
      ...this.#approvals(row, effect, seq),
      ...this.#keptAnswer(row, effect, seq),
    }
  }

  /** Who could have it allowed. */
  #grantedBy(row: AgentRow, by: string | undefined): string {
    const spawner = row.spawner === null ? undefined : this.#ctx.derived.findAgentByRow(row.spawner)
    switch (by) {
      case 'flow':
      case 'label':
        return 'nobody, for what it has read: that stays; the host, where it confined it (`cardinal cards confine`)'
      case 'scope':
        return 'whoever it is done for, under a wider card'
      case 'person':
        return 'whoever may approve it'
      case 'revoked':
        return 'nobody: what is dead stays dead'
      case 'ceiling':
        return 'nobody, where it accepted a card; the host, where it confined it (`cardinal cards confine`)'
      case 'middleware':
        return 'whoever operates the node: its zones and networks'
      default:
        return spawner
          ? `\`${spawner.address}\`, which made it, as far as its own cards reach`
          : `whoever applies the manifest of \`${row.tenant}/${row.type}\``
    }
  }

  /** The answer to a call that was given and may not be passed on. */
  #keptAnswer(row: AgentRow, effect: string, seq: number): { answer?: KeptAnswer } {
    const entries = this.#view.newest(row, Number.POSITIVE_INFINITY, (e) => e.header.seq > seq)
    const metas = entries.flatMap(({ header }) =>
      header.kind === 'sent' ? [JSON.parse(header.meta) as SentMeta] : [],
    )
    const sent = metas.find((meta) => meta.effect === effect)
    const invocation = sent?.invocation && this.#ctx.derived.findInvocation(sent.invocation)
    const callee = invocation && this.#ctx.derived.findAgentByRow(invocation.agent)
    if (!invocation || !callee || callee.erased || invocation.reply === null) return {}
    const { meta, payloads } = toFolded(this.#ctx.log.read(invocation.reply), this.#view.keyOf(callee))
    const { kept = [] } = (meta as AuthorityMeta).auth === 1 ? readAuthority(payloads) : {}
    const found = kept.find((one) => one.invocation === invocation.id)
    if (found?.code !== 'WouldTaint') return {}
    const costs = found.missing as KeptAnswer['costs']
    return {
      answer: {
        from: callee.address,
        code: found.code,
        costs,
        ...(found.undeclassified && { undeclassified: found.undeclassified }),
        admits: { labels: costs.labels, flow: 'what must remain, without the sinks above; left out: all' },
      },
    }
  }

  /** The receipt of an effect that the turn `seq` asked for; it stands behind that turn, however far. */
  #receiptOf(row: AgentRow, effect: string, seq: number): { readonly error?: WireError } | undefined {
    for (const entry of this.#view.newest(row, Number.POSITIVE_INFINITY, (e) => e.header.seq > seq)) {
      if (entry.header.kind !== 'receipt') continue
      const meta = JSON.parse(entry.header.meta) as ReceiptMeta
      if (meta.effect !== effect) continue
      return JSON.parse((toFolded(entry, this.#view.keyOf(row)).payloads[0] as Buffer).toString())
    }
    return undefined
  }

  #outcome(row: AgentRow, effect: string, error: WireError | undefined): string {
    if (!error) return 'done'
    const doubt = this.#ctx.derived.listDoubts().find((d) => d.address === row.address && d.effect === effect)
    return `${error.class}: ${error.message}${doubt?.resolved ? `; resolved as ${doubt.resolved}` : ''}`
  }

  /** Who approved it, and when. */
  #approvals(row: AgentRow, effect: string, seq: number): Pick<Why, 'approvals'> {
    const given = this.#view
      .newest(row, Number.POSITIVE_INFINITY, (e) => e.header.seq > seq)
      .filter(({ header }) => header.kind === 'approved')
      .flatMap(({ header }) => {
        const meta = JSON.parse(header.meta) as ApprovedMeta
        if (meta.effect !== effect) return []
        return [{ role: meta.role, by: meta.principal, time: new Date(header.timeMs).toISOString() }]
      })
    return given.length > 0 ? { approvals: given } : {}
  }

  /** Why an answer did not reach whoever asked for it. */
  async #whyAnswer(id: string): Promise<Why> {
    const invocation = this.#ctx.derived.findInvocation(id)
    const row = invocation && this.#ctx.derived.findAgentByRow(invocation.agent)
    if (!invocation || !row) throw new KernelError('NotFound', 'NoSuchInvocation', `no invocation \`${id}\``)
    const none = new KernelError('NotFound', 'NoSuchEffect', `no answer of \`${id}\` was kept back`)
    if (invocation.reply === null) throw none
    const { meta, payloads } = toFolded(this.#ctx.log.read(invocation.reply), this.#view.keyOf(row))
    const { kept = [] } = (meta as AuthorityMeta).auth === 1 ? readAuthority(payloads) : {}
    const found = kept.find((one) => one.invocation === invocation.id)
    if (!found) throw none
    const outside = found.code !== 'WouldTaint'
    const by = outside ? 'flow' : undefined
    return {
      effect: id,
      verdict: 'refuse',
      tool: 'the answer',
      request: { of: row.address, method: invocation.method },
      card: (meta as Partial<TurnMeta>).card ?? '',
      ...(by && { by }),
      code: outside ? WITHHELD.code : found.code,
      message: outside
        ? 'it was given, and what its agent has read may not go to whoever asked'
        : 'it was given, and would have cost the agent that asked',
      missing: found.missing,
      ...(found.undeclassified && { undeclassified: found.undeclassified }),
      grantedBy: this.#grantedBy(row, by ?? 'flow'),
    }
  }
}
