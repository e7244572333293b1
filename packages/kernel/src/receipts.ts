/**
 * One effect, provable by itself: the entries of the record that concern it, each with its proof. Anybody who
 * has the node's public key can read off who did what, allowed by what, and what came of it; what was said in
 * it only where it is disclosed.
 */
import {
  checkDisclosed,
  checkInclusion,
  type Disclosed,
  disclose,
  type EntryHeader,
  type Inclusion,
  type Pos,
  proveEntry,
  publicKeyFromHex,
} from '@cardinal/oplog'
import { z } from 'zod'
import type { Context } from './context.ts'
import { KernelError } from './errors.ts'
import { parseEffectRef } from './ids.ts'
import type { View } from './view.ts'
import type { AcceptedMeta, ApprovedMeta, BirthMeta, MediatedMeta, ReceiptMeta, TurnMeta } from './wire.ts'

const FORMAT = 'cardinal.receipt.1'
const OF_EFFECT = new Set(['intent', 'started', 'approved', 'receipt', 'sent', 'resolved'])

interface Proven extends Inclusion {
  readonly disclosed?: readonly Disclosed[]
}

export interface ReceiptFile {
  readonly format: typeof FORMAT
  readonly publicKey: string
  /** `tenant/type/key@turn.index`. */
  readonly effect: string
  readonly entries: readonly Proven[]
}

export class Receipts {
  readonly #ctx: Pick<Context, 'log' | 'derived'>
  readonly #view: View
  readonly #folder: string
  readonly #publicKey: string

  constructor(ctx: Pick<Context, 'log' | 'derived'>, view: View, folder: string, publicKey: string) {
    this.#ctx = ctx
    this.#view = view
    this.#folder = folder
    this.#publicKey = publicKey
  }

  /** `open`: what was said is disclosed: the whole turn that asked for it, what middleware made of it, and the result. */
  async of(ref: string, open: boolean): Promise<ReceiptFile> {
    const { address, effect, seq } = parseEffectRef(ref)
    const row = await this.#view.requireRow(address)
    const entries = this.#view.newest(row, Number.POSITIVE_INFINITY, () => true)
    const turn = entries.find(({ header }) => header.seq === seq && header.kind === 'turn')
    if (!turn) throw new KernelError('NotFound', 'NoSuchEffect', `\`${ref}\` is no effect that was asked for`)
    const { inputs } = JSON.parse(turn.header.meta) as TurnMeta
    const causes = new Set(inputs.map((input) => Number(input.split('.')[0])))
    const own = entries.filter(
      ({ header }) =>
        header.seq === 1 ||
        header.seq === seq ||
        (header.kind === 'accepted' && causes.has(header.seq)) ||
        (OF_EFFECT.has(header.kind) && (JSON.parse(header.meta) as { effect?: string }).effect === effect),
    )
    await this.#ctx.log.untilDurable((own.at(-1) as { pos: Pos }).pos)
    const key = this.#view.keyOf(row)
    const proven = own.map(({ pos, header }): Proven => {
      const inclusion = proveEntry(this.#folder, pos)
      const shown = open && (header.kind === 'turn' || header.kind === 'intent' || header.kind === 'receipt')
      return shown ? { ...inclusion, disclosed: disclose(inclusion, [0], () => key) } : inclusion
    })
    return { format: FORMAT, publicKey: this.#publicKey, effect: `${row.address}@${effect}`, entries: proven }
  }
}

/** What a receipt proves. */
export interface ReceiptFacts {
  readonly effect: string
  readonly who: { readonly agent: string; readonly principals: readonly string[] }
  readonly what: { readonly tool: string; readonly class: string; readonly request?: unknown }
  readonly allowed: {
    readonly verdict: string
    readonly card: string
    readonly by?: string
    readonly middleware: readonly (readonly [name: string, digest: string, did: string])[]
    readonly approvals: readonly { readonly role: string; readonly by: string }[]
  }
  readonly done: {
    readonly asked: string
    readonly started: readonly string[]
    readonly ended?: string
    readonly outcome: string
    readonly used?: unknown
    readonly result?: unknown
  }
}

const proven = z.object({
  frames: z.string(),
  path: z.array(z.tuple([z.enum(['left', 'right']), z.string()])),
  commit: z.string(),
  disclosed: z.array(z.object({ index: z.int().min(0), salt: z.string(), bytes: z.string() })).optional(),
})
const file = z.object({
  format: z.literal(FORMAT),
  publicKey: z.string(),
  effect: z.string(),
  entries: z.array(proven).min(2),
})

interface Read {
  readonly header: EntryHeader
  readonly opened: Buffer | undefined
}

/** Reads a receipt as nothing but a public key proves it. `BadReceipt` says what does not hold. */
export function checkReceipt(given: unknown, publicKey: string): ReceiptFacts {
  const parsed = file.safeParse(given)
  if (!parsed.success) throw bad('this is no receipt')
  const { effect, entries } = parsed.data
  const key = publicKeyFromHex(publicKey)
  const read = entries.map((entry, i): Read => {
    const found = checkInclusion(entry as Proven, key)
    if (!found) throw bad(`entry ${i} does not stand in a commit that this key has signed`)
    const { header } = found
    const [opened] = (entry.disclosed ?? []).map((one) => {
      const bytes = checkDisclosed(header, one as Disclosed)
      if (!bytes) throw bad(`what is disclosed of entry ${i} is not what it holds`)
      return bytes
    })
    return { header, opened }
  })
  return factsOf(effect, read)
}

function factsOf(ref: string, read: readonly Read[]): ReceiptFacts {
  const { address, effect, seq, index } = parseEffectRef(ref)
  const [first] = read
  if (!first || read.some(({ header }) => !header.agent.equals(first.header.agent)))
    throw bad('its entries are of more than one agent')
  const seqs = read.map(({ header }) => header.seq)
  if (seqs.some((one, i) => i > 0 && one <= (seqs[i - 1] as number)))
    throw bad('its entries are in another order')
  const birth = metaOf<BirthMeta>(read, 'birth')[0]
  const { tenant, type, key } = address
  if (birth?.tenant !== tenant || birth.type !== type || birth.key !== key)
    throw bad(`its entries are not those of \`${tenant}/${type}/${key}\``)
  const turn = read.find(({ header }) => header.kind === 'turn' && header.seq === seq)
  const meta = turn && (JSON.parse(turn.header.meta) as TurnMeta)
  const asked = meta?.effects?.[index]
  if (!turn || !meta || !asked) throw bad('the turn that asked for it is not there')
  const ours = <T extends { readonly effect?: string }>(kind: string) =>
    metaOf<T>(read, kind).filter((one) => one.effect === effect)
  const intents = ours<MediatedMeta>('intent').filter(({ what }) => what === 'mediated')
  const mediated = intents.at(-1)
  const receipt = ours<ReceiptMeta>('receipt').at(-1)
  const times = (kind: string) =>
    read
      .filter(
        ({ header }) =>
          header.kind === kind && (JSON.parse(header.meta) as { effect?: string }).effect === effect,
      )
      .map(({ header }) => iso(header.timeMs))
  const said = bodyOf(read, effect, turn, index)
  const by = mediated?.by ?? asked.by
  const [ended] = times('receipt').slice(-1)
  return {
    effect: ref,
    who: {
      agent: `${tenant}/${type}/${key}`,
      principals: [...new Set(metaOf<AcceptedMeta>(read, 'accepted').map(({ principal }) => principal))],
    },
    what: {
      tool: asked.tool,
      class: asked.class,
      ...(said.request !== undefined && { request: said.request }),
    },
    allowed: {
      verdict: mediated?.verdict ?? asked.verdict,
      card: mediated?.via ?? asked.via ?? meta.card,
      ...(by && { by }),
      middleware: mediated?.chain ?? [],
      approvals: ours<ApprovedMeta>('approved').map(({ role, principal }) => ({ role, by: principal })),
    },
    done: {
      asked: iso(turn.header.timeMs),
      started: times('started'),
      ...(ended && { ended }),
      outcome: outcomeOf(receipt, asked.verdict, asked.code),
      ...(receipt?.used && { used: receipt.used }),
      ...(said.result !== undefined && { result: said.result }),
    },
  }
}

function outcomeOf(receipt: ReceiptMeta | undefined, verdict: string, code: string | undefined): string {
  if (receipt) return receipt.ok ? 'done' : `${receipt.class} ${receipt.code}`
  return verdict === 'refuse' ? `refused (${code})` : 'not ended yet'
}

/** What was disclosed of what was asked and answered. */
function bodyOf(
  read: readonly Read[],
  effect: string,
  turn: Read,
  index: number,
): { request?: unknown; result?: unknown } {
  const last = (kind: string) =>
    read.findLast(({ header, opened }) => {
      if (!opened || header.kind !== kind) return false
      const meta = JSON.parse(header.meta) as { effect?: string; what?: string }
      // What was decided anew, or asked by the tool's own program, is not what was asked for.
      return meta.effect === effect && (kind !== 'intent' || meta.what === 'mediated')
    })?.opened
  const outward = last('intent')
  const output = turn.opened && (JSON.parse(turn.opened.toString()) as { effects?: { args?: unknown }[] })
  const request = outward
    ? (JSON.parse(outward.toString()) as { args?: unknown }).args
    : output?.effects?.[index]?.args
  const event = last('receipt')
  const { value, error } = event ? (JSON.parse(event.toString()) as { value?: unknown; error?: unknown }) : {}
  return { ...(request !== undefined && { request }), ...(event && { result: value ?? error }) }
}

function metaOf<T>(read: readonly Read[], kind: string): T[] {
  return read.flatMap(({ header }) => (header.kind === kind ? [JSON.parse(header.meta) as T] : []))
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}

function bad(message: string): KernelError {
  return new KernelError('Corrupt', 'BadReceipt', message)
}
