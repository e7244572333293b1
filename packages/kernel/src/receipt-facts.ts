/**
 * What a receipt proves, to whoever has nothing but a public key: who did what, allowed by what, and what came
 * of it; what was said in it only where it is disclosed.
 *
 * Whoever passes a receipt on may leave entries out. What is left must not prove something else: an entry that
 * others show to be there, and is not, makes all of it worthless.
 */
import {
  checkDisclosed,
  checkInclusion,
  type Disclosed,
  type EntryHeader,
  type Inclusion,
  publicKeyFromHex,
} from '@cardinal/oplog'
import { z } from 'zod'
import { type AuthorityMeta, rootCardName } from './authority-wire.ts'
import { KernelError } from './errors.ts'
import { parseEffectRef } from './ids.ts'
import { FORMAT, type Proven } from './receipts.ts'
import type { ApprovedMeta, BirthMeta, EffectMeta, MediatedMeta, ReceiptMeta, TurnMeta } from './wire.ts'

/** Chains of cards are shorter. */
const MAX_CARDS = 32

/** What a receipt proves. */
export interface ReceiptFacts {
  readonly effect: string
  readonly who: {
    readonly agent: string
    /** What runs as this agent, and which version of its manifest was in force when it was decided. */
    readonly image: string
    readonly generation: number
    /** In whose name from outside, through however many agents. */
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
  readonly minted: string
}

/** The card that an entry minted: one that it names, or the host's own of an agent that is born. */
function mintedIn(
  { agent, kind, meta }: EntryHeader,
  wanted: string | undefined,
): { readonly facts: Omit<CardFacts, 'minted'>; readonly parent: string | undefined } | undefined {
  if (wanted === undefined) return undefined
  const said = JSON.parse(meta) as AuthorityMeta & Partial<BirthMeta>
  const born = kind === 'birth' ? `${said.tenant}/${said.type}/${said.key}` : undefined
  const found = said.cards?.find(({ id }) => id === wanted)
  if (found) {
    const { id, owner = born, limits, parent } = found
    return { facts: { id, ...(owner !== undefined && { owner }), limits }, parent }
  }
  if (born === undefined || rootCardName(agent) !== wanted) return undefined
  return { facts: { id: wanted, owner: born }, parent: undefined }
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
  cards: z.array(proven).min(1).max(MAX_CARDS),
})

interface Read {
  readonly header: EntryHeader
  /** By the place of each in its entry. */
  readonly opened: ReadonlyMap<number, Buffer>
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
    const opened = (entry.disclosed ?? []).map((one): [number, Buffer] => {
      const bytes = checkDisclosed(header, one as Disclosed)
      if (!bytes) throw bad(`what is disclosed of entry ${i} is not what it holds`)
      return [one.index, bytes]
    })
    return { header, opened: new Map(opened) }
  })
  const minted = cards.map((entry, i) => {
    const found = checkInclusion(entry as Inclusion, key)
    if (!found) throw bad(`the entry of card ${i} does not stand in a commit that this key has signed`)
    return found.header
  })
  return factsOf(effect, read, minted)
}

/** The chain of a card as the entries that minted it say. */
function chainOf(card: string, minted: readonly EntryHeader[]): CardFacts[] {
  const chain: CardFacts[] = []
  let wanted: string | undefined = card
  for (const header of minted) {
    const one = mintedIn(header, wanted)
    if (!one) throw bad(`the entries of its cards do not mint \`${wanted}\``)
    chain.push({ ...one.facts, minted: iso(header.timeMs) })
    wanted = one.parent
  }
  if (wanted !== undefined) throw bad(`nothing says who minted card \`${wanted}\``)
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
  const approvals = ours<ApprovedMeta>('approved')
  const grant = approvals.at(-1)?.grant ?? mediated?.grant ?? asked.grant
  const started = times('started')
  requireWhole({ asked, mediated, receipt, approvals: approvals.length, started: started.length })
  const generation = mediated?.generation ?? meta.generation ?? birth.generation
  const outward = read.findLast(({ header }) => isMediated(header, effect)) ?? turn
  return {
    effect: ref,
    who: {
      agent: `${tenant}/${type}/${key}`,
      image: birth.image,
      generation,
      principals: asked.for ?? [],
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
      approvals: approvals.map(({ role, principal }) => ({ role, by: principal })),
    },
    done: {
      asked: iso(turn.header.timeMs),
      started,
      attempts: Math.max(started.length, receipt?.attempts ?? (receipt?.read === 1 ? 1 : 0)),
      ...(ended && { ended }),
      ...(said.upstream !== undefined && { upstream: said.upstream }),
      outcome: outcomeOf(receipt, asked.verdict, asked.code),
      ...(receipt?.used && { used: receipt.used }),
      ...(said.result !== undefined && { result: said.result }),
    },
  }
}

/** Nothing is missing that the others show to have been there. */
function requireWhole({
  asked,
  mediated,
  receipt,
  approvals,
  started,
}: {
  readonly asked: EffectMeta
  readonly mediated: MediatedMeta | undefined
  readonly receipt: ReceiptMeta | undefined
  readonly approvals: number
  readonly started: number
}): void {
  const done = receipt?.ok === true || receipt?.read === 1
  if (asked.mediated && !mediated && (done || approvals > 0 || started > 0))
    throw bad('the entry that says what middleware did is missing')
  if ((mediated?.verdict ?? asked.verdict) === 'ask' && approvals === 0 && (done || started > 0))
    throw bad('the entry that says who approved is missing')
  const answered = mediated?.answered !== undefined
  if (asked.class === 'once' && receipt?.ok === true && !answered && started === 0)
    throw bad('the entry that says when it began is missing')
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
): { request?: unknown; result?: unknown; upstream?: string } {
  const json = (bytes: Buffer | undefined) =>
    bytes && (JSON.parse(bytes.toString()) as Record<string, unknown>)
  const last = (kind: string) =>
    read.findLast(
      ({ header }) =>
        header.kind === kind &&
        (kind === 'intent'
          ? isMediated(header, effect)
          : (JSON.parse(header.meta) as { effect?: string }).effect === effect),
    )?.opened
  const outward = json(last('intent')?.get(0))
  const output = json(turn.opened.get(0)) as { effects?: { args?: unknown }[] } | undefined
  const request = outward ? outward.args : output?.effects?.[index]?.args
  const event = json(last('receipt')?.get(0))
  const upstream = json(last('receipt')?.get(1))?.upstream
  return {
    ...(request !== undefined && { request }),
    ...(event && { result: event.value ?? event.error }),
    ...(typeof upstream === 'string' && { upstream }),
  }
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
