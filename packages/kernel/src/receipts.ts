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
import { type AuthorityMeta, rootCardName } from './authority-wire.ts'
import type { Context } from './context.ts'
import type { CardRow } from './derived.ts'
import { KernelError } from './errors.ts'
import { parseEffectRef } from './ids.ts'
import type { View } from './view.ts'
import type { AcceptedMeta, ApprovedMeta, BirthMeta, MediatedMeta, ReceiptMeta, TurnMeta } from './wire.ts'

const FORMAT = 'cardinal.receipt.1'
/** Chains of cards are shorter. */
const MAX_CARDS = 32
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
  /** The entries in which its card, and each above it, was minted; the lowest first. */
  readonly cards: readonly Inclusion[]
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
    const cards = this.#mintedBy(cardOf(own, effect, seq))
    await this.#ctx.log.untilDurable(Math.max(...[...own, ...cards].map(({ pos }) => pos)) as Pos)
    const key = this.#view.keyOf(row)
    const proven = own.map(({ pos, header }): Proven => {
      const inclusion = proveEntry(this.#folder, pos)
      const shown = open && (header.kind === 'turn' || header.kind === 'intent' || header.kind === 'receipt')
      return shown ? { ...inclusion, disclosed: disclose(inclusion, [0], () => key) } : inclusion
    })
    return {
      format: FORMAT,
      publicKey: this.#publicKey,
      effect: `${row.address}@${effect}`,
      entries: proven,
      cards: cards.map(({ pos }) => proveEntry(this.#folder, pos)),
    }
  }

  /** Where a card, and each above it, was minted. */
  #mintedBy(name: string | undefined): { readonly pos: Pos }[] {
    const { derived } = this.#ctx
    derived.apply()
    const minted: CardRow[] = []
    for (let row = name === undefined ? undefined : derived.findCard(name); row; ) {
      minted.push(row)
      row = row.parent === null ? undefined : derived.findCardByRow(row.parent)
    }
    return minted
  }
}

/** The card that an effect was decided by, as its entries say. */
function cardOf(
  entries: readonly { readonly header: EntryHeader }[],
  effect: string,
  seq: number,
): string | undefined {
  const metas = entries.map(({ header }) => ({
    header,
    meta: JSON.parse(header.meta) as Record<string, unknown>,
  }))
  const turn = metas.find(({ header }) => header.seq === seq)?.meta as TurnMeta | undefined
  const mediated = metas.findLast(
    ({ header, meta }) => header.kind === 'intent' && meta.what === 'mediated' && meta.effect === effect,
  )?.meta as MediatedMeta | undefined
  return mediated?.via ?? turn?.effects?.[Number(effect.split('.')[1])]?.via ?? turn?.card
}

/** What a receipt proves. */
export interface ReceiptFacts {
  readonly effect: string
  readonly who: {
    readonly agent: string
    /** What ran as this agent: the digest of its image, and which version of its manifest. */
    readonly image: string
    readonly generation: number
    readonly principals: readonly string[]
  }
  readonly what: {
    readonly tool: string
    readonly version?: string
    readonly class: string
    /** Of what would go out, under a salt of its own: whoever is shown the request can check it, and nobody can guess it. */
    readonly digest: string
    readonly request?: unknown
  }
  readonly allowed: {
    readonly verdict: string
    readonly card: string
    /** Which of the card's grants it was, from 0. */
    readonly grant?: number
    /** The card, and each that it was taken from, up to the host's own. */
    readonly cards: readonly CardFacts[]
    readonly by?: string
    readonly middleware: readonly (readonly [name: string, digest: string, did: string])[]
    readonly approvals: readonly { readonly role: string; readonly by: string }[]
  }
  readonly done: {
    readonly asked: string
    readonly started: readonly string[]
    readonly attempts: number
    readonly ended?: string
    /** What the other side calls it. */
    readonly upstream?: string
    readonly outcome: string
    readonly used?: unknown
    readonly result?: unknown
  }
}

interface CardFacts {
  readonly id: string
  /** Its owner, where its entry says so. */
  readonly owner?: string
  readonly limits?: unknown
  /** Of the host's own: the version of the manifest that says what it allows. */
  readonly generation?: number | undefined
  readonly minted: string
}

/** The card that an entry minted: one that it names, or the host's own of an agent that is born. */
function mintedIn(
  { agent, kind, meta }: EntryHeader,
  wanted: string | undefined,
): { readonly facts: Omit<CardFacts, 'minted'>; readonly parent: string | undefined } | undefined {
  if (wanted === undefined) return undefined
  const said = JSON.parse(meta) as AuthorityMeta & Partial<BirthMeta>
  const found = said.cards?.find(({ id }) => id === wanted)
  if (found) {
    const { id, owner, limits, parent } = found
    return { facts: { id, ...(owner !== undefined && { owner }), limits }, parent }
  }
  if (kind !== 'birth' || rootCardName(agent) !== wanted) return undefined
  const { tenant, type, key, generation } = said
  return { facts: { id: wanted, owner: `${tenant}/${type}/${key}`, generation }, parent: undefined }
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
  cards: z.array(proven).max(MAX_CARDS).default([]),
})

interface Read {
  readonly header: EntryHeader
  readonly opened: Buffer | undefined
}

/** Reads a receipt as nothing but a public key proves it. `BadReceipt` says what does not hold. */
export function checkReceipt(given: unknown, publicKey: string): ReceiptFacts {
  const parsed = file.safeParse(given)
  if (!parsed.success) throw bad('this is no receipt')
  const { effect, entries, cards } = parsed.data
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
  const minted = cards.map((entry, i) => {
    const found = checkInclusion(entry as Inclusion, key)
    if (!found) throw bad(`the entry of card ${i} does not stand in a commit that this key has signed`)
    return found.header
  })
  return factsOf(effect, read, minted)
}

/** The chain of a card as the entries that minted it say. Empty where the receipt is older than that. */
function chainOf(card: string, minted: readonly EntryHeader[]): CardFacts[] {
  const chain: CardFacts[] = []
  let wanted: string | undefined = card
  for (const header of minted) {
    const one = mintedIn(header, wanted)
    if (!one) throw bad(`the entries of its cards do not mint \`${wanted}\``)
    chain.push({ ...one.facts, minted: iso(header.timeMs) })
    wanted = one.parent
  }
  if (minted.length > 0 && wanted !== undefined) throw bad(`nothing says who minted card \`${wanted}\``)
  return chain
}

function factsOf(ref: string, read: readonly Read[], minted: readonly EntryHeader[]): ReceiptFacts {
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
  const card = mediated?.via ?? asked.via ?? meta.card
  const grant = mediated?.grant ?? asked.grant
  const outward = read.findLast(({ header }) => isMediated(header, effect)) ?? turn
  return {
    effect: ref,
    who: {
      agent: `${tenant}/${type}/${key}`,
      image: birth.image,
      generation: birth.generation,
      principals: [...new Set(metaOf<AcceptedMeta>(read, 'accepted').map(({ principal }) => principal))],
    },
    what: {
      tool: asked.tool,
      ...(receipt?.version !== undefined && { version: receipt.version }),
      class: asked.class,
      digest: (outward.header.digests[0] as Buffer).toString('hex'),
      ...(said.request !== undefined && { request: said.request }),
    },
    allowed: {
      verdict: mediated?.verdict ?? asked.verdict,
      card,
      ...(grant !== undefined && { grant }),
      cards: chainOf(card, minted),
      ...(by && { by }),
      middleware: mediated?.chain ?? [],
      approvals: ours<ApprovedMeta>('approved').map(({ role, principal }) => ({ role, by: principal })),
    },
    done: {
      asked: iso(turn.header.timeMs),
      started: times('started'),
      attempts: receipt?.attempts ?? (receipt?.read === 1 ? 1 : 0),
      ...(ended && { ended }),
      ...(receipt?.upstream !== undefined && { upstream: receipt.upstream }),
      outcome: outcomeOf(receipt, asked.verdict, asked.code),
      ...(receipt?.used && { used: receipt.used }),
      ...(said.result !== undefined && { result: said.result }),
    },
  }
}

function isMediated({ kind, meta }: EntryHeader, effect: string): boolean {
  if (kind !== 'intent') return false
  const said = JSON.parse(meta) as { effect?: string; what?: string }
  return said.effect === effect && said.what === 'mediated'
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
