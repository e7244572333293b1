/**
 * Effects that wait for a person: listed, shown in full, approved or denied on the digest of exactly
 * what was shown.
 */
import { sha256 } from '@cardinal/oplog'
import type { Agents } from './agents.ts'
import { type Approver, nameOf, placeFor, requireApprover, requireStanding, rolesFor } from './approvers.ts'
import type { Context } from './context.ts'
import type { AskRow } from './derived.ts'
import { KernelError } from './errors.ts'
import { type EffectId, parseAddress } from './ids.ts'
import { requestOf } from './requests.ts'
import type { View } from './view.ts'

export interface Approval {
  readonly id: string
  /** `tenant/type/key@turn.index`. */
  readonly effect: string
  readonly tool: string
  /** What would go out. */
  readonly args: unknown
  /** What the agent asked for, where middleware made something else of it. */
  readonly given?: unknown
  /** Who asked for it. */
  readonly for: string
  /** The sets of roles of which one must approve. */
  readonly ask: readonly (readonly string[])[]
  readonly approved: readonly string[]
  readonly state: AskRow['state']
  /** Names what is shown here, and nothing else. */
  readonly digest: string
}

type Asked = AskRow & { readonly address: string }

/** Shorter ones could be met by chance. */
const MIN_DIGEST = 4

export class Approvals {
  readonly #ctx: Context
  readonly #agents: Agents
  readonly #view: View

  constructor(ctx: Context, agents: Agents, view: View) {
    this.#ctx = ctx
    this.#agents = agents
    this.#view = view
  }

  /** Open ones, oldest first, or all of a state; of a person: those that ask for a role of theirs. */
  async list(state: AskRow['state'] = 'open', limit = 100, by: Approver = ''): Promise<Approval[]> {
    const { derived } = this.#ctx
    derived.apply()
    const whose = typeof by === 'string' ? undefined : by
    return Promise.all(derived.listAsks(state, limit, whose).map((row) => this.#show(row)))
  }

  /** To people of other tenants, and to those whom it does not ask, it is not there. */
  async get(id: string, by: Approver = ''): Promise<Approval> {
    return this.#show(this.#require(id, by))
  }

  /** Adds the approval of a role. Once no other is missing, the effect is decided anew and performed. */
  async approve(id: string, digest: string, role: string | undefined, by: Approver): Promise<Approval> {
    const { row, shown } = await this.#open(id, by, digest)
    placeFor(shown, role, by)
    const { agent, effect } = await this.#effect(row)
    const actor = agent.standing.actor()
    const asked = requestOf(this.#ctx, actor.row.tenant, effect.tool, effect.args, actor.settings)
    const request = asked && !('bad' in asked) ? asked.request : undefined
    const place = placeFor({ ask: effect.asks ?? [], approved: effect.approved }, role, by)
    requireApprover(this.#ctx, actor, effect, request, place, by)
    // It may have been asked for anew while it was looked for: what is approved is what was shown.
    if (!digestOf(shown.effect, effect.tool, effect.args).startsWith(digest)) throw otherDigest(id, digest)
    const left = agent.outgoing.approve(effect, place, nameOf(by))
    await this.#ctx.log.untilDurable(agent.state.tip.pos)
    if (typeof left === 'object') throw new KernelError('Refused', left.code, left.message)
    this.#ctx.crashPoint('approved.durable')
    return this.get(id, by)
  }

  async deny(id: string, by: Approver, why: string, digest?: string): Promise<Approval> {
    const { row } = await this.#open(id, by, digest)
    const { agent, effect } = await this.#effect(row)
    // Approved while it was looked for: it may be on its way.
    if (agent.state.effects.get(effect.id) !== effect)
      throw new KernelError('Conflict', 'AlreadyDecided', `\`${id}\` was decided on meanwhile`)
    requireStanding(this.#ctx, by)
    const error = { class: 'Refused', code: 'Denied', by: 'person', message: why } as const
    agent.outgoing.receive(effect, { ok: false, error }, false, { denied: nameOf(by) })
    await this.#ctx.log.untilDurable(agent.state.tip.pos)
    return this.get(id, by)
  }

  #require(id: string, by: Approver): Asked {
    const { derived } = this.#ctx
    derived.apply()
    const number = /^ap_(\d{1,15})$/.exec(id)?.[1]
    const row = number === undefined ? undefined : derived.findAskByRow(Number(number))
    const hidden = row && typeof by !== 'string' && !isShownTo(row, by)
    if (!row || hidden) throw new KernelError('NotFound', 'NoSuchApproval', `no approval \`${id}\``)
    return row
  }

  async #open(id: string, by: Approver, digest?: string): Promise<{ row: Asked; shown: Approval }> {
    const row = this.#require(id, by)
    const shown = await this.#show(row)
    if (row.state !== 'open') throw new KernelError('Conflict', 'AlreadyDecided', `\`${id}\` is ${row.state}`)
    const named = digest === undefined || (digest.length >= MIN_DIGEST && shown.digest.startsWith(digest))
    if (!named) throw otherDigest(id, digest)
    return { row, shown }
  }

  async #effect(row: Asked) {
    const address = this.#ctx.derived.findAgentByRow(row.agent)
    const agent = address && (await this.#agents.find(address))
    const effect = agent?.state.effects.get(row.effect as EffectId)
    if (agent?.state.held) throw new KernelError('Conflict', 'Held', `\`${agent.name}\` is held`)
    if (!agent || !effect?.asks || effect.dropped)
      throw new KernelError('Conflict', 'AlreadyDecided', 'it waits no more')
    return { agent, effect }
  }

  async #show(row: Asked): Promise<Approval> {
    const { tool, request, given, for: principal } = await this.#view.asked(`${row.address}@${row.effect}`)
    const changed = JSON.stringify(given) !== JSON.stringify(request)
    const effect = `${row.address}@${row.effect}`
    return {
      id: `ap_${row.id}`,
      effect,
      tool,
      args: request,
      ...(changed && { given }),
      for: principal,
      ask: JSON.parse(row.roles),
      approved: JSON.parse(row.approved),
      state: row.state,
      digest: digestOf(effect, tool, request),
    }
  }
}

function isShownTo({ address, roles }: Asked, by: Exclude<Approver, string>): boolean {
  const ask = JSON.parse(roles) as readonly (readonly string[])[]
  return parseAddress(address).tenant === by.tenant && rolesFor(ask, by).length > 0
}

function digestOf(effect: string, tool: string, request: unknown): string {
  return sha256(Buffer.from(JSON.stringify([effect, tool, request])))
    .toString('hex')
    .slice(0, 32)
}

function otherDigest(id: string, digest: string | undefined): KernelError {
  return new KernelError(
    'Conflict',
    'OtherDigest',
    `\`${digest}\` is not the digest of what \`${id}\` asks for`,
  )
}
