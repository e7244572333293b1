/** Taking in what comes from outside for agents: calls, cancels, events; and saying what became of a call. */
import { input, join, UNTOUCHED } from '@cardinal/cards'
import type { Pos } from '@cardinal/oplog'
import type { LiveAgent } from './agent.ts'
import type { Agents } from './agents.ts'
import type { ScopeData } from './authority-wire.ts'
import { type Context, hmac } from './context.ts'
import { KernelError } from './errors.ts'
import { type Address, type InvocationId, newInvocationId, parseAddress, showAddress } from './ids.ts'
import type { LoadedImage, MethodInfo } from './images.ts'
import type { Invocations } from './invocations.ts'
import { type AgentLimits, told } from './limits.ts'
import { requireLiveCard } from './live-card.ts'
import type { Reply } from './reply.ts'
import type { View } from './view.ts'
import { requireNotWiping } from './wiping.ts'

export interface Invoke {
  readonly address: string
  readonly method: string
  readonly args?: unknown
  readonly principal?: string
  readonly idempotencyKey?: string
  readonly tenant?: string
  /** The name of a card: what is done for this call must lie in what it allows. */
  readonly under?: string
}

/** An invocation under way. */
export interface Begun {
  readonly id: InvocationId
  readonly reply: Promise<Reply>
  readonly acknowledged: () => Promise<void>
}

/** What became of an invocation so far. */
export interface Result {
  readonly state: 'open' | 'done' | 'failed'
  readonly reply?: Reply
  readonly pending?: Promise<Reply>
}

/** What comes from outside is anybody's. */
const ROUTE_LABELS: readonly string[] = ['untrusted']

export class Intake {
  readonly #ctx: Context
  readonly #agents: Agents
  readonly #invocations: Invocations
  readonly #view: View

  constructor(ctx: Context, agents: Agents, invocations: Invocations, view: View) {
    this.#ctx = ctx
    this.#agents = agents
    this.#invocations = invocations
    this.#view = view
  }

  /**
   * Takes in an invocation for a caller who waits for the reply, which is durable with all that led
   * to it. Whoever shows the id without the reply awaits `acknowledged` first.
   */
  async begin(call: Invoke): Promise<Begun> {
    const address = parseAddress(call.address, call.tenant)
    this.#ctx.pace.called(address.tenant)
    const text = textOf(call, this.#ctx.limits.of(address))
    // Nobody is born for a call that cannot be made.
    const born = await this.#agents.find(address)
    requireMethod(address, born?.image ?? (await this.#imageOf(address)), call.method)
    if (!born) this.#requireRoomFor(address)
    const agent = born ?? (await this.#agents.require(address))
    return this.#begin(agent, call, requireMethod(address, agent.image, call.method).shared === true, text)
  }

  /** Nobody is born of whose type or tenant nothing is taken in. */
  #requireRoomFor(address: Address): void {
    const unborn = { address, name: showAddress(address), state: { pending: [] } }
    const refusal = this.#ctx.admission.refusal(unborn)
    if (refusal) throw refusal
  }

  /** The same of a method that is the runtime's own: no program declares it, and only the kernel calls it. */
  async beginOwn(call: Invoke): Promise<Begun> {
    const address = parseAddress(call.address, call.tenant)
    const text = textOf(call, this.#ctx.limits.of(address))
    const agent = await this.#agents.require(address)
    if (agent.state.held) throw new KernelError('Conflict', 'Held', `\`${agent.name}\` is held`)
    return this.#begin(agent, call, true, text)
  }

  #begin(agent: LiveAgent, call: Invoke, shared: boolean, text: string): Begun {
    if (agent.state.quarantined)
      throw new KernelError('Diverged', 'Quarantined', `\`${agent.name}\` is quarantined`)
    requireNotWiping(agent)
    const refusal = this.#ctx.admission.refusal(agent)
    const same = hmac(agent.key.key, 'same', call.method, '\0', text).toString('hex')
    const key =
      call.idempotencyKey === undefined
        ? undefined
        : hmac(
            agent.key.key,
            'request',
            call.principal ?? '',
            '\0',
            call.method,
            '\0',
            call.idempotencyKey,
          ).toString('hex')
    const earlier = key === undefined ? undefined : this.#findEarlier(agent, key)
    // Whoever asks again for what was taken in is no new one.
    if (!earlier && refusal) throw refusal
    if (earlier) {
      if (earlier.same !== same)
        throw new KernelError('Conflict', 'KeyReused', 'this idempotency key was used with other arguments')
      const { log } = this.#ctx
      const reply = this.#replyOf(earlier.invocation)
      // Whoever does not wait for it must not be told of its failure either.
      reply.catch(() => {})
      return {
        id: earlier.invocation,
        reply,
        acknowledged: () => log.untilDurable((log.end - 1) as Pos),
      }
    }
    return this.#accept(agent, call, shared, text, key, same)
  }

  #accept(
    agent: LiveAgent,
    call: Invoke,
    shared: boolean,
    text: string,
    key: string | undefined,
    same: string,
  ): Begun {
    const { clock, log, control } = this.#ctx
    const id = newInvocationId(clock.nowMs())
    const event = Buffer.from(
      `{"t":"invoke","id":"${id}","method":${JSON.stringify(call.method)},"args":${text}}`,
    )
    const deadline =
      clock.nowMs() + (control.findGeneration(agent.address.tenant, agent.address.type)?.timeoutMs ?? 0)
    const meta = {
      what: 'invoke',
      invocation: id,
      method: call.method,
      principal: call.principal ?? 'local',
      labels: ROUTE_LABELS,
      deadline,
      ...(shared && { shared }),
      ...(key && { key, same }),
    }
    if (agent.state.stopped) throw new KernelError('Stopped', 'Stopped', `\`${agent.name}\` is stopped`)
    const { world, row } = agent.standing
    const scope = call.under === undefined ? undefined : scopeUnder(agent, call.under, call.method)
    const taken = input(world, {
      id,
      to: row.id,
      method: call.method,
      principal: meta.principal,
      labels: ROUTE_LABELS,
    })
    if (!taken.ok) throw new KernelError('Stopped', taken.code, `\`${agent.name}\` is stopped`)
    const payloads = [event]
    if (scope) {
      // The rules' own turn was made without it; the one that the entry says takes its place.
      world.turns.delete(id)
      payloads.push(Buffer.from(JSON.stringify({ scope, caller: { principal: meta.principal } })))
    }
    const reply = this.#invocations.wait(id)
    const tip = agent.append('accepted', scope ? { ...meta, turn: 1 } : meta, payloads)
    if (key) agent.requestKeys.set(key, { same, invocation: id })
    agent.pump()
    const acknowledged = async () => {
      await log.untilDurable(tip.pos)
      this.#ctx.crashPoint('accepted.durable')
    }
    return { id, reply, acknowledged }
  }

  #findEarlier(agent: LiveAgent, key: string): { same: string; invocation: InvocationId } | undefined {
    const recent = agent.requestKeys.get(key)
    if (recent) return recent
    const row = this.#ctx.derived.findAgent(agent.address)
    return row && this.#ctx.derived.findRequestKey(row.id, key)
  }

  async #replyOf(id: InvocationId): Promise<Reply> {
    // The earlier request may have been taken in a moment ago: rows know it once it is durable.
    await this.#ctx.log.untilDurable((this.#ctx.log.end - 1) as Pos)
    const found = await this.result(id)
    return found.reply ?? (found.pending as Promise<Reply>)
  }

  /** What became of an invocation. An open one comes with a promise of its reply. */
  async result(id: string): Promise<Result> {
    const known = this.#invocations.findReply(id as InvocationId)
    if (known) return { state: known.ok ? 'done' : 'failed', reply: known }
    this.#ctx.derived.apply()
    const row = this.#ctx.derived.findInvocation(id)
    if (!row) throw new KernelError('NotFound', 'NoSuchInvocation', `no invocation \`${id}\``)
    if (row.reply === null) return { state: 'open', pending: this.#invocations.wait(row.id) }
    const reply = this.#view.readReply(row)
    return { state: reply.ok ? 'done' : 'failed', reply }
  }

  async cancel(id: string, why: string): Promise<void> {
    this.#ctx.derived.apply()
    const row = this.#ctx.derived.findInvocation(id)
    const agentRow = row && this.#ctx.derived.findAgentByRow(row.agent)
    if (!row || !agentRow) throw new KernelError('NotFound', 'NoSuchInvocation', `no invocation \`${id}\``)
    if (row.reply !== null)
      throw new KernelError('Conflict', 'AlreadyEnded', `invocation \`${id}\` has ended`)
    const agent = await this.#agents.require(agentRow)
    const ended = this.#invocations.wait(row.id)
    agent.ending.end(row.id, 'Cancelled', 'Cancelled', why)
    await ended
  }

  async emit(address: string, name: string, value: unknown): Promise<void> {
    const agent = await this.requireBorn(parseAddress(address))
    const event = Buffer.from(
      `{"t":"emit","name":${JSON.stringify(name)},"value":${argsText(value, agent.limits)}}`,
    )
    const refusal = this.#ctx.admission.refusal(agent)
    if (refusal) throw refusal
    if (agent.state.stopped) throw new KernelError('Stopped', 'Stopped', `\`${agent.name}\` is stopped`)
    requireNotWiping(agent)
    join(agent.standing.row, { flow: UNTOUCHED.flow, labels: new Set(ROUTE_LABELS) })
    const tip = agent.append('accepted', { what: 'emit', principal: 'local', labels: ROUTE_LABELS }, [event])
    agent.pump()
    await this.#ctx.log.untilDurable(tip.pos)
  }

  /** What callers may ask of an agent: of its own image, or of the one that it would be born with. */
  async methods(address: string): Promise<LoadedImage['methods']> {
    const parsed = parseAddress(address)
    const row = this.#ctx.derived.findAgent(parsed)
    return (row ? await this.#ctx.images.get(row.image) : await this.#imageOf(parsed)).methods
  }

  async requireBorn(address: Address): Promise<LiveAgent> {
    const agent = await this.#agents.find(address)
    if (!agent) throw new KernelError('NotFound', 'NoSuchAgent', `no agent \`${showAddress(address)}\``)
    return agent
  }

  #imageOf(address: Address): Promise<LoadedImage> {
    return this.#ctx.images.get(this.#ctx.control.requireGeneration(address.tenant, address.type).image)
  }
}

/** The card must hold now, as one that an agent names; a method of its own authority is bound by none (R20). */
function scopeUnder(agent: LiveAgent, under: string, method: string): ScopeData {
  requireLiveCard(agent.standing.world, under)
  return agent.image.methods[method]?.authority === 'own' ? [] : [{ cards: [under] }]
}

function requireMethod(address: Address, image: LoadedImage, name: string): MethodInfo {
  const method = Object.hasOwn(image.methods, name) ? image.methods[name] : undefined
  if (method) return method
  const known = Object.keys(image.methods).join(', ')
  throw new KernelError(
    'NotFound',
    'NoSuchMethod',
    `\`${address.type}\` has no method \`${name}\`${known && `; it has ${known}`}`,
  )
}

function textOf(call: Invoke, limits: AgentLimits): string {
  if (call.idempotencyKey === '')
    throw new KernelError('Malformed', 'BadKey', 'an idempotency key is not empty')
  return argsText(call.args, limits)
}

function argsText(args: unknown, { payload }: AgentLimits): string {
  const text = JSON.stringify(args ?? null)
  const bytes = Buffer.byteLength(text)
  if (bytes > payload.value)
    throw new KernelError('Malformed', 'TooLarge', `${bytes} bytes of arguments: ${told('payload', payload)}`)
  return text
}
