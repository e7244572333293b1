/**
 * Performing one effect, after its turn is durable, and recording its receipt.
 *
 * A `once` effect is started on the record before anything leaves; if the node dies after that,
 * nobody can know, and recovery turns it into `Indeterminate`. Reads and keyed effects are repeated.
 */

import type { EffectRequest } from '@cardinal/cards'
import type { Retry } from '@cardinal/middleware'
import type { Attempt, Receipt, Tool, Translated, WireError } from '@cardinal/tools'
import type { Actor } from './asking.ts'
import { type Context, hmac } from './context.ts'
import { redecide } from './decide.ts'
import { badArguments, effectRequest } from './requests.ts'
import type { OpenEffect } from './state.ts'
import type { IntentMeta } from './wire.ts'

export interface Performer {
  readonly actor: () => Actor
  /** Records a decision that was made anew; durable once it resolves. */
  readonly decided: (intent: IntentMeta, request: EffectRequest) => Promise<void>
  /** Records that an attempt begins, and resolves once that is durable. */
  readonly started: () => Promise<void>
  /** How often middleware wants it tried; left out: keyed effects a few times, others once. */
  readonly retry?: Retry | undefined
  readonly signal: AbortSignal
}

/** As which tool the requests of a program are on record. */
const EGRESS = 'http.fetch'

/** An attempt that had not begun when its agent was stopped: it is begun by whoever takes the agent up again. */
export class Stopping extends Error {}

const ATTEMPTS = 3
const BACKOFF_MS = 100

/** An attempt that had not begun when its authority sank. */
class Sunk extends Error {
  readonly error: WireError
  constructor(error: WireError) {
    super(error.message)
    this.error = error
  }
}

export interface Performed {
  readonly receipt: Receipt
  /** Whether anything was tried, so that the receipt may tell of the world outside. */
  readonly attempted: boolean
  /** Of the tool as it was performed, and what the other side calls the last attempt. */
  readonly version?: string | undefined
  readonly upstream?: string | undefined
  readonly attempts?: number
  /** To be called once the receipt is on record. */
  readonly recorded: () => void
}

/** Never rejects for what the world does. `again` says that an earlier run of the node may have tried. */
export async function performEffect(
  ctx: Context,
  who: Performer,
  effect: OpenEffect,
  again: boolean,
): Promise<Performed> {
  const { row, settings } = who.actor()
  const tool = ctx.findTool(row.tenant, effect.tool)
  if (!tool)
    return refused({
      class: 'Refused',
      code: 'NoSuchTool',
      by: 'card',
      message: 'there is no tool of this name any more',
    })
  const translated = tool.translate(effect.args, settings)
  if ('bad' in translated) return refused(badArguments(tool.name, translated))
  if (effect.class === 'idempotent' && translated.effectClass !== 'idempotent') {
    // The manifest no longer names the key's header: without the key it must not go out again.
    if (again) return indeterminate('it may have been done, and the manifest no longer says how to repeat it')
    return refused({
      class: 'Refused',
      code: 'NoGrant',
      by: 'card',
      message: 'the manifest no longer names its idempotency header',
    })
  }
  if (again) {
    if (effect.class === 'once' && effect.started)
      return indeterminate('it was started before the node stopped; whether it was done is unknown')
    const no = await anew(who, effect, effectRequest(effect.tool, translated), 'again')
    // A keyed effect may already have happened: a refusal now must not tell the guest that it did not.
    if (no)
      return effect.class === 'idempotent'
        ? indeterminate('it may have been done, and is no longer allowed to be repeated')
        : refused(no)
  }
  ctx.crashPoint('effect.before')
  const performed = await attempts(ctx, who, effect, tool, translated)
  ctx.crashPoint('effect.performed')
  return performed
}

async function attempts(
  ctx: Context,
  who: Performer,
  effect: OpenEffect,
  tool: Tool,
  translated: Translated,
): Promise<Performed> {
  let upstream: string | undefined
  const called = (id: string) => {
    upstream = id
  }
  for (let n = 1; ; n++) {
    upstream = undefined
    const { promise: recorded, resolve } = Promise.withResolvers<void>()
    let receipt: Receipt
    const guard: Guard = { begun: false, fault: undefined }
    try {
      receipt = await tool.perform(
        translated.plan,
        attemptOf(ctx, who, effect, translated, recorded, guard, called),
      )
    } catch (error) {
      if (error instanceof Sunk)
        return n === 1
          ? refused(error.error)
          : { ...indeterminate(SUNK), version: tool.version, attempts: n - 1 }
      // What failed here, and not in the tool, ends the node.
      if (error === guard.fault || error instanceof Stopping) throw error
      ctx.onBroken(`${who.actor().name}@${effect.id}`, tool.name, error)
      receipt = broken(tool.name, effect, guard)
    }
    const failed =
      !receipt.ok && (receipt.error.class === 'Indeterminate' || receipt.error.class === 'Unavailable')
    const { times, firstMs, mostMs } = retryOf(who, effect)
    if (!failed || n >= times || who.signal.aborted)
      return { receipt, recorded: resolve, attempted: true, version: tool.version, upstream, attempts: n }
    resolve()
    await new Promise((resolve) => setTimeout(resolve, Math.min(mostMs, firstMs * 2 ** (n - 1))))
  }
}

/** What may be repeated, and how often: what must happen once is tried once, whatever anybody says. */
function retryOf({ retry }: Performer, { class: cls }: OpenEffect): Retry {
  if (cls !== 'idempotent' && (cls !== 'read' || !retry)) return ONCE
  return retry ?? { times: ATTEMPTS, firstMs: BACKOFF_MS, mostMs: BACKOFF_MS * 2 ** ATTEMPTS }
}

const ONCE: Retry = { times: 1, firstMs: 0, mostMs: 0 }
const SUNK = 'an earlier attempt may have been done, and it is no longer allowed to be repeated'

function attemptOf(
  ctx: Context,
  who: Performer,
  effect: OpenEffect,
  translated: Translated,
  recorded: Promise<void>,
  guard: Guard,
  upstream: Attempt['upstream'],
): Attempt {
  const { name, row } = who.actor()
  const { tenant } = row
  return {
    idempotencyKey: hmac(hmac(ctx.secret, 'idempotency', who.actor().birth), effect.id)
      .toString('hex')
      .slice(0, 40),
    started: async () => {
      // It may have waited its turn behind others: authority that sank meanwhile counts.
      const no = redecide(who.actor(), effect, effectRequest(effect.tool, translated), false)
      if (no) throw new Sunk(no)
      guard.begun = true
      if (effect.class !== 'once') return
      await who.started().catch((error: unknown) => {
        guard.fault = error
        throw error
      })
      ctx.crashPoint('effect.started')
    },
    recorded,
    follows: !effect.mediated,
    decide: (request) => anew(who, effect, { q: request, tool: effect.tool, spend: new Map() }, 'hop'),
    egress: (request, verdict) =>
      who.decided(
        { effect: effect.id, what: 'egress', verdict },
        { q: request, tool: EGRESS, spend: new Map() },
      ),
    upstream,
    secret: (ref) => ctx.secrets.open(tenant, ref),
    masked: ({ ref }) => ctx.secrets.noteMask(tenant, ref),
    capture: (ref, value) => ctx.secrets.capture(tenant, ref, value, `${name}@${effect.id}`),
    // What middleware has not seen, nobody watches.
    ...(!effect.mediated && { progress: ctx.progress.of(name, `${name}@${effect.id}`) }),
    signal: who.signal,
  }
}

/** How far an attempt got, and what of ours failed in it. */
interface Guard {
  begun: boolean
  fault: unknown
}

/**
 * A tool that throws is broken, and that is nobody else's affair: an agent that could end the node by it would
 * end it again at every start. The agent is not told what was thrown; that may hold anything.
 */
function broken(tool: string, { class: cls }: OpenEffect, { begun }: Guard): Receipt {
  const message = `\`${tool}\` broke down`
  if (begun && cls !== 'read')
    return {
      ok: false,
      error: {
        class: 'Indeterminate',
        code: 'Indeterminate',
        message: `${message}; whether it was done is unknown`,
      },
    }
  return { ok: false, error: { class: 'Unavailable', code: 'ToolBroke', message } }
}

/** Decides on a request that its turn did not say, and records that. */
async function anew(
  who: Performer,
  effect: OpenEffect,
  request: EffectRequest,
  what: IntentMeta['what'],
): Promise<WireError | undefined> {
  const no = redecide(who.actor(), effect, request, true)
  const verdict = no ? 'refuse' : 'allow'
  await who.decided({ effect: effect.id, what, verdict, ...(no?.by && { by: no.by }) }, request)
  return no
}

function refused(error: WireError): Performed {
  return { receipt: { ok: false, error }, attempted: false, recorded: () => {} }
}

function indeterminate(message: string): Performed {
  return refused({ class: 'Indeterminate', code: 'Indeterminate', message })
}
