/**
 * Cards as a program holds them: objects that stand for a handle, which only the kernel can read.
 *
 * A card's object is the only way to name it. Its id is for people; an object that a program makes
 * itself, or gets as JSON, is no card.
 */

import { atEvents, effect, requireBirth, silenced } from './runtime.ts'
import type { Call, Card, Json, Narrow, Offer, Opts, Ref, ToolInfo, Tools, Verdict } from './types.ts'

const handles = new WeakMap<object, number>()
const known = new Map<number, Card>()
const dropped = new Set<number>()
const offered = new Map<number, Offer>()
const weakGet = WeakMap.prototype.get
const call = Function.prototype.call.bind(Function.prototype.call) as <T>(
  f: unknown,
  self: unknown,
  ...args: unknown[]
) => T

/** How a card calls a tool: as `tool` does, which stands above this file. */
let callTool = (name: string, args: unknown, options: Opts): Call<Json> =>
  effect(name, args, viaOf(options.via))

export function callToolsBy(call: typeof callTool): void {
  callTool = call
}

interface Named {
  readonly card: number
  readonly id: string
}

/** The handle that a card's object stands for. Throws `TypeError` for anything else. */
export function handleOf(card: unknown): number {
  const object = typeof card === 'object' && card !== null ? card : {}
  const handle = call<number | undefined>(weakGet, handles, object)
  if (handle === undefined) throw new TypeError('this is no card of this agent')
  return handle
}

export function viaOf(card: Card | undefined): number | undefined {
  return card === undefined ? undefined : handleOf(card)
}

function take({ card: handle, id }: Named): Card {
  const before = known.get(handle)
  if (before) return before
  const card: Card = Object.freeze({
    id,
    tool: ((name: string, args: unknown, options: Opts = {}) =>
      callTool(name, args, { via: card, ...options })) as Card['tool'],
    fetch: ((input: Parameters<typeof fetch>[0], init: RequestInit = {}) =>
      globalThis.fetch(input, { ...init, via: card } as RequestInit)) as typeof fetch,
    derive: async (narrow: Narrow) =>
      take((await act('cards.derive', { card: handle, narrow })) as unknown as Named),
    offer: async (to: Ref, narrow: Narrow) => {
      await act('cards.offer', { card: handle, to: to.address, narrow })
    },
    drop: async () => {
      await act('cards.drop', { card: handle })
      dropped.add(handle)
    },
    revoke: async () => {
      await act('cards.revoke', { card: handle })
    },
    explain: async (tool: keyof Tools & string, args: Json) =>
      (await act('cards.explain', { card: handle, tool, args })) as unknown as Verdict,
  })
  handles.set(card, handle)
  known.set(handle, card)
  return card
}

function act(name: string, args: object): Call<Json> {
  return silenced(effect(name, args)) as Call<Json>
}

/** The card that the agent was born with; of several, the first. */
export function birthCard(): Card {
  const [first] = born()
  if (!first) throw new TypeError('an agent is born with a card')
  return first
}

function born(): Card[] {
  const { card, cards } = requireBirth()
  return (cards ?? [{ card: 0, id: card.id }]).map(take)
}

/** The cards that the agent holds. */
export function cards(): Card[] {
  born()
  const byHandle = [...known].sort(([a], [b]) => a - b)
  return byHandle.flatMap(([handle, card]) => (dropped.has(handle) ? [] : [card]))
}

/**
 * The tools that this agent's cards let it call, with their JSON Schemas and help that reads well to a model;
 * no others. How far each goes is told by `explain`. Asks the kernel, so that what it says is on record.
 *
 *     const offered = (await tools()).map(({ name, about, in: parameters }) => ({ name, description: about, parameters }))
 */
export function tools(): Promise<ToolInfo[]> {
  return act('cards.tools', {}) as unknown as Promise<ToolInfo[]>
}

/** Offers that the agent may look at. What it costs to look is told by `preview`. */
export function offers(): Offer[] {
  return [...offered.values()]
}

function noteOffer({ card: handle, id, from }: Named & { readonly from: string }): void {
  offered.set(
    handle,
    Object.freeze({
      from: { address: from },
      id,
      preview: async () =>
        (await act('cards.preview', { card: handle })) as unknown as Awaited<ReturnType<Offer['preview']>>,
      accept: async ({ expect, allowLoss }: { expect: string; allowLoss?: boolean }) => {
        const args = { card: handle, expect, ...(allowLoss && { allowLoss }) }
        const taken = take((await act('cards.accept', args)) as unknown as Named)
        offered.delete(handle)
        return taken
      },
    }),
  )
}

atEvents('offer', (event) => noteOffer(event as unknown as Named & { readonly from: string }))
atEvents('card', (event) => void take(event as unknown as Named))
