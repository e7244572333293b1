/**
 * One effect, provable by itself: the entries of the record that concern it, each with its proof. What anybody
 * who has the node's public key reads off them is in `receipt-facts.ts`.
 */
import {
  type Disclosed,
  disclose,
  type EntryHeader,
  type Inclusion,
  type Pos,
  proveEntry,
} from '@cardinal/oplog'
import type { Context } from './context.ts'
import type { CardRow } from './derived.ts'
import { KernelError } from './errors.ts'
import { parseEffectRef } from './ids.ts'
import type { View } from './view.ts'
import type { MediatedMeta, ReceiptMeta, TurnMeta } from './wire.ts'

export const FORMAT = 'cardinal.receipt.2'
const OF_EFFECT = new Set(['intent', 'started', 'approved', 'receipt', 'sent', 'resolved'])

export interface Proven extends Inclusion {
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
    const own = entries.filter(({ header }) => header.seq === 1 || header.seq === seq || isOf(header, effect))
    const cards = this.#mintedBy(cardOf(own, effect, seq))
    await this.#ctx.log.untilDurable(Math.max(...[...own, ...cards].map(({ pos }) => pos)) as Pos)
    const key = this.#view.keyOf(row)
    const proven = own.map(({ pos, header }): Proven => {
      const inclusion = proveEntry(this.#folder, pos)
      const shown = open ? shownOf(header) : []
      return shown.length > 0 ? { ...inclusion, disclosed: disclose(inclusion, shown, () => key) } : inclusion
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

/** Whether an entry is about the effect itself. */
function isOf({ kind, meta }: EntryHeader, effect: string): boolean {
  return OF_EFFECT.has(kind) && (JSON.parse(meta) as { effect?: string }).effect === effect
}

/** Which payloads say what was asked, what went out, and what came of it. */
function shownOf({ kind, meta }: EntryHeader): number[] {
  if (kind === 'receipt') return (JSON.parse(meta) as ReceiptMeta).upstream === 1 ? [0, 1] : [0]
  return kind === 'turn' || kind === 'intent' ? [0] : []
}
