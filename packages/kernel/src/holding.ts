/** What one agent holds, as its entries say it: its cards and their handles, and what it has read. */
import { type codec, type Grant, parseRecordJson } from '@cardinal/cards'
import type { AuthorityMeta, AuthorityPayload, HoldingChange } from './authority-wire.ts'
import { rootCardName } from './authority-wire.ts'
import type { Folded } from './state.ts'
import type { BirthMeta } from './wire.ts'

export interface Holding {
  births: readonly string[]
  /** The names of cards by handle; a handle is its place here, from 0. */
  handles: string[]
  held?: readonly string[]
  accepted?: readonly Grant[]
  influence?: codec.InfluenceData
  previewed?: readonly string[]
}

/** An agent that the host made has one birth card, whose name its birth entry need not say. */
export function emptyHolding(birth: Buffer): Holding {
  return { births: [rootCardName(birth)], handles: [] }
}

export function foldHolding(holding: Holding, { kind, meta, payloads }: Folded): void {
  if (kind === 'birth') {
    const { cards } = meta as BirthMeta
    if (cards) holding.births = cards.map((card) => card.id)
    holding.held = holding.births
    holding.handles.push(...holding.births)
  }
  if (kind === 'wiped') {
    const { births, held = births } = holding
    for (const name of Object.keys(holding) as (keyof Holding)[]) delete holding[name]
    // What it dropped of its birth cards, it dropped for good.
    const kept = births.filter((card) => held.includes(card))
    Object.assign(holding, { births, held: kept, handles: [...births] })
  }
  if ((meta as AuthorityMeta).auth !== 1) return
  const change = parseRecordJson((payloads.at(-1) as Buffer).toString()) as AuthorityPayload
  changeHolding(holding, change)
}

function changeHolding(holding: Holding, { influence, accepted, held, previewed }: HoldingChange): void {
  if (influence) holding.influence = influence
  if (accepted) holding.accepted = accepted
  if (previewed) holding.previewed = previewed
  if (!held) return
  holding.held = held
  const given = new Set(holding.handles)
  for (const card of held) if (!given.has(card)) holding.handles.push(card)
}

export function readAuthority(payloads: readonly Buffer[]): AuthorityPayload {
  return parseRecordJson((payloads.at(-1) as Buffer).toString()) as AuthorityPayload
}
