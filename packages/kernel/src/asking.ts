/** One effect that is about to be decided: who asks, in whose name, and what is answered. */
import type { AgentRow, TurnRow, World } from '@cardinal/cards'
import type { ToolSettings, WireError } from '@cardinal/tools'
import type { AgentState } from './state.ts'
import type { EffectMeta, GuestEffect } from './wire.ts'

/** Whose effects are decided, and where. */
export interface Actor {
  readonly name: string
  readonly birth: Buffer
  readonly row: AgentRow
  readonly state: AgentState
  readonly world: World
  readonly settings: ToolSettings
  /** The card that the host rooted the agent with, if it did. */
  readonly rootCard: string
}

/** One effect of a turn, and everything that its decision looks at. */
export interface Asking {
  readonly effect: GuestEffect
  /** `seq.index`. */
  readonly id: string
  readonly via: string | undefined
  readonly turns: readonly TurnRow[]
  readonly timeMs: number
}

export interface One {
  readonly meta: EffectMeta
  readonly error?: WireError
  readonly nearest?: unknown
  readonly value?: unknown
}

export function refuse(tool: string, cls: EffectMeta['class'], error: WireError, nearest?: unknown): One {
  const meta: EffectMeta = {
    tool,
    class: cls,
    verdict: 'refuse',
    code: error.code,
    ...(error.by && { by: error.by }),
  }
  return { meta, error, ...(nearest !== undefined && { nearest }) }
}

/** The card that a guest names by its handle; undefined if it names none, null if there is no such. */
export function cardOfHandle(
  { state, name }: Pick<Actor, 'state' | 'name'>,
  via: unknown,
): string | undefined | null {
  if (via === undefined) return undefined
  // An SDK that knew one card named it by its agent.
  if (via === name) return undefined
  const { handles } = state.holding
  return typeof via === 'number' ? (handles[via] ?? null) : null
}

/** What the rules know an effect by. */
export function effectKey(agent: string, id: string): string {
  return `${agent}@${id}`
}
