/** What the acts of an agent have in common: who acts, in which turns, and whether a grant allows it. */
import type { Request } from '../box.ts'
import type { BudgetName } from '../limits.ts'
import { judge } from './judge.ts'
import { isStopped } from './live.ts'
import { no, type Refusal } from './outcome.ts'
import type { Agent, Card, EffectRequest, Turn, World } from './state.ts'

const ADDRESS = /^[A-Za-z0-9._~@-]{1,128}$/

/** `tenant/type/key`, or undefined. */
export function parseAddress(text: string): { tenant: string; type: string; key: string } | undefined {
  const [tenant, type, key, ...rest] = text.split('/')
  if (tenant === undefined || type === undefined || key === undefined || rest.length > 0) return undefined
  return [tenant, type, key].every((part) => ADDRESS.test(part) && !/^\.+$/.test(part))
    ? { tenant, type, key }
    : undefined
}

/** The agent that acts: it exists, and is not stopped. */
export function actor(world: World, id: string): Agent | Refusal {
  const agent = world.agents.get(id)
  if (!agent) return no('NoSuchAgent')
  return isStopped(world, agent) ? no('Stopped') : agent
}

export function isRefusal(value: object): value is Refusal {
  return (value as { ok?: unknown }).ok === false
}

/** The turns that an act serves: the agent's own. */
export function turnsOf(world: World, agent: Agent, ids: readonly string[] = []): Turn[] | Refusal {
  const turns: Turn[] = []
  for (const id of ids) {
    const turn = world.turns.get(id)
    if (turn?.agent !== agent) return no('NoSuchTurn')
    turns.push(turn)
  }
  return turns
}

export const ONE_CALL: ReadonlyMap<BudgetName, bigint> = new Map([['calls', 1n]])

export interface ActOn {
  readonly tool: 'agent.send' | 'agent.invoke' | 'agent.spawn' | 'agent.cancel'
  readonly type: string
  readonly key: string
  readonly method?: string
}

/** An act on another agent as cards decide on it. */
export function actRequest(on: ActOn): EffectRequest {
  const q: Request = {
    tool: on.tool.split('.'),
    resource: [on.type, on.key],
    ...(on.method !== undefined && { method: on.method }),
    args: new Map(),
  }
  return { q, tool: on.tool, spend: new Map() }
}

/** Whether a grant of the agent allows an act on another: the card that it is done by. Nothing is debited yet. */
export function permit(
  world: World,
  agent: Agent,
  on: ActOn,
  via: string | undefined,
  turns: readonly Turn[],
): Card | Refusal {
  const verdict = judge(world, {
    agent,
    request: actRequest(on),
    via,
    turns,
    approved: new Set(),
    cost: ONE_CALL,
  })
  if (verdict.verdict === 'allow') return verdict.card
  if (verdict.verdict === 'ask') return no('Refused', undefined, 'ask')
  return no('Refused', verdict.code, verdict.by)
}
