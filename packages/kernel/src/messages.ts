/**
 * Messages between agents, as effects: what a guest may ask for, and the first decision on it.
 *
 * The second decision, and everything that concerns the receiver, is made when the message arrives
 * (`delivery.ts`), with both awake.
 */
import { type AgentRow, codec, isRefusal, permit } from '@cardinal/cards'
import { z } from 'zod'
import { type Actor, type Asking, cardOfHandle, type One, refuse } from './asking.ts'
import { type Address, parseAddress, showAddress } from './ids.ts'
import { narrowArgs } from './narrow.ts'
import { refusalError, refusedAct } from './refusals.ts'

const MAX_DELAY_MS = 10 * 365 * 86_400_000
const MAX_CARDS = 16

const admits = z.union([
  z.literal('*'),
  z.strictObject({ labels: z.array(z.string()).optional(), flow: z.array(z.string()).optional() }),
])
const call = z.strictObject({
  to: z.string(),
  method: z.string(),
  args: z.unknown(),
  /** Idempotency: the same call again is the first one. */
  key: z.string().min(1).max(256).optional(),
  /** A handle: the receiver acts within this card. */
  under: z.int().min(0).optional(),
  admits: admits.optional(),
  afterMs: z.number().min(0).max(MAX_DELAY_MS).optional(),
  timeoutMs: z.number().min(0).max(MAX_DELAY_MS).optional(),
})
const spawnArgs = z.strictObject({
  type: z.string(),
  key: z.string().optional(),
  cards: z.array(narrowArgs).min(1).max(MAX_CARDS),
  keep: z.boolean().optional(),
})
const ARGS = { 'agent.invoke': call, 'agent.send': call, 'agent.spawn': spawnArgs } as const

export type CallArgs = z.infer<typeof call>
export type SpawnArgs = z.infer<typeof spawnArgs>
type MessageTool = keyof typeof ARGS

export function isMessage(tool: string): tool is MessageTool {
  return Object.hasOwn(ARGS, tool)
}

/** The arguments of a message that was decided: its guest gave them, and they parsed then. */
export function callArgs(args: unknown): CallArgs {
  return call.parse(args)
}

export function parseSpawnArgs(args: unknown): SpawnArgs {
  return spawnArgs.parse(args)
}

/** The agent that a call is for; a guest may leave out its own tenant. */
export function calleeOf(tenant: string, to: string): Address | undefined {
  try {
    return parseAddress(to, tenant)
  } catch {
    return undefined
  }
}

/** Whether the agent may send at all. What becomes of it at the receiver is decided there. */
export function decideMessage(who: Actor, asking: Asking): One {
  const tool = asking.effect.tool as MessageTool
  const cls = tool === 'agent.spawn' ? 'spawn' : 'call'
  const parsed = ARGS[tool].safeParse(asking.effect.args)
  if (!parsed.success)
    return refuse(tool, cls, {
      class: 'Malformed',
      code: 'BadArguments',
      message: `\`${tool}\` was given other arguments than it takes`,
    })
  return cls === 'spawn'
    ? decideSpawn(who, asking, parsed.data as SpawnArgs)
    : decideCall(who, asking, parsed.data as CallArgs, tool as 'agent.invoke' | 'agent.send')
}

function decideCall(
  who: Actor,
  { via, turns, timeMs }: Asking,
  { to, method, under, afterMs }: CallArgs,
  tool: 'agent.invoke' | 'agent.send',
): One {
  const address = calleeOf(who.row.tenant, to)
  if (!address)
    return refuse(tool, 'call', { class: 'Malformed', code: 'BadAddress', message: 'an agent is `type/key`' })
  if (address.tenant !== who.row.tenant)
    return refuse(tool, 'call', refusalError({ ok: false, code: 'NoSuchAgent' }))
  if (under !== undefined && typeof cardOfHandle(who, under) !== 'string')
    return refuse(tool, 'call', refusalError({ ok: false, code: 'NoSuchCard' }))
  if (!isOwnChild(who, address)) {
    const { type, key } = address
    const on = { tool, type, key, method }
    const permitted = permit(who.world, who.row, on, via, turns)
    if (isRefusal(permitted)) {
      const { error, nearest } = refusedAct(who, on, via, turns, permitted)
      return refuse(tool, 'call', error, nearest)
    }
  }
  const due = afterMs === undefined ? {} : { due: Math.ceil(timeMs + Math.max(1, afterMs)) }
  return { meta: { tool, class: 'call', verdict: 'allow', ...viaOf(via), ...due } }
}

/** A parent may always call its own children. */
function isOwnChild({ world, row }: Actor, address: Address): boolean {
  if (address.tenant !== row.tenant) return false
  const child: AgentRow | undefined = world.agents.get(showAddress(address))
  return child?.spawner === row
}

function decideSpawn(who: Actor, { via, turns }: Asking, { type, key }: SpawnArgs): One {
  const { row, state, world } = who
  const child = state.spawned + 1
  const address = calleeOf(row.tenant, `${type}/${key ?? childKey(row.key, child)}`)
  if (!address || address.tenant !== row.tenant)
    return refuse('agent.spawn', 'spawn', {
      class: 'Malformed',
      code: 'BadAddress',
      message: 'a child is of a type of the same tenant, with a key of letters, digits and ._~@-',
    })
  const on = { tool: 'agent.spawn', type: address.type, key: address.key } as const
  const permitted = permit(world, row, on, via, turns)
  if (isRefusal(permitted)) {
    const { error, nearest } = refusedAct(who, on, via, turns, permitted)
    return refuse('agent.spawn', 'spawn', error, nearest)
  }
  // Counted at once, so that two children of one turn get two keys.
  state.spawned = child
  return { meta: { tool: 'agent.spawn', class: 'spawn', verdict: 'allow', ...viaOf(via), child } }
}

function viaOf(via: string | undefined): { readonly via?: string } {
  return via === undefined ? {} : { via }
}

export function childKey(parent: string, child: number): string {
  return `${parent}.${child}`
}

/** What a caller lets the answer add to it. */
export function admitsOf(given: NonNullable<CallArgs['admits']>) {
  if (given === '*') return given
  return codec.decodeAdmits({ labels: given.labels ?? [], ...(given.flow && { flow: given.flow }) })
}
