/**
 * Performing one effect, after its turn is durable, and recording its receipt.
 *
 * A `once` effect is started on the record before anything leaves; if the node dies after that,
 * nobody can know, and recovery turns it into `Indeterminate`. Reads and keyed effects are repeated.
 */

import type { EffectRequest } from '@cardinal/cards'
import type { Attempt, Receipt, Tool, Translated, WireError } from '@cardinal/tools'
import type { Actor } from './asking.ts'
import { type Context, hmac } from './context.ts'
import { redecide } from './decide.ts'
import { effectRequest } from './requests.ts'
import type { OpenEffect } from './state.ts'
import type { IntentMeta } from './wire.ts'

export interface Performer {
  readonly actor: () => Actor
  /** Records a decision that was made anew. */
  readonly decided: (intent: IntentMeta, request: EffectRequest) => void
  /** Records that an attempt begins, and resolves once that is durable. */
  readonly started: () => Promise<void>
  readonly signal: AbortSignal
}

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
  if ('bad' in translated)
    return refused({
      class: 'Malformed',
      code: 'BadArguments',
      message: `\`${tool.name}\` was given ${translated.bad}`,
    })
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
    const no = anew(who, effect, effectRequest(effect.tool, translated), 'again')
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
  for (let n = 1; ; n++) {
    const { promise: recorded, resolve } = Promise.withResolvers<void>()
    let receipt: Receipt
    try {
      receipt = await tool.perform(translated.plan, attemptOf(ctx, who, effect, translated, recorded))
    } catch (error) {
      if (!(error instanceof Sunk)) throw error
      return n === 1 ? refused(error.error) : indeterminate(SUNK)
    }
    const repeatable =
      effect.class === 'idempotent' &&
      !receipt.ok &&
      (receipt.error.class === 'Indeterminate' || receipt.error.class === 'Unavailable')
    if (!repeatable || n === ATTEMPTS || who.signal.aborted)
      return { receipt, recorded: resolve, attempted: true }
    resolve()
    await new Promise((resolve) => setTimeout(resolve, BACKOFF_MS * 2 ** (n - 1)))
  }
}

const SUNK = 'an earlier attempt may have been done, and it is no longer allowed to be repeated'

function attemptOf(
  ctx: Context,
  who: Performer,
  effect: OpenEffect,
  translated: Translated,
  recorded: Promise<void>,
): Attempt {
  return {
    idempotencyKey: hmac(hmac(ctx.secret, 'idempotency', who.actor().birth), effect.id)
      .toString('hex')
      .slice(0, 40),
    started: async () => {
      // It may have waited its turn behind others: authority that sank meanwhile counts.
      const no = redecide(who.actor(), effect, effectRequest(effect.tool, translated), false)
      if (no) throw new Sunk(no)
      if (effect.class !== 'once') return
      await who.started()
      ctx.crashPoint('effect.started')
    },
    recorded,
    decide: (request) => anew(who, effect, { q: request, tool: effect.tool, spend: new Map() }, 'hop'),
    signal: who.signal,
  }
}

/** Decides on a request that its turn did not say, and records that. */
function anew(
  who: Performer,
  effect: OpenEffect,
  request: EffectRequest,
  what: IntentMeta['what'],
): WireError | undefined {
  const no = redecide(who.actor(), effect, request, true)
  const verdict = no ? 'refuse' : 'allow'
  who.decided({ effect: effect.id, what, verdict, ...(no?.by && { by: no.by }) }, request)
  return no
}

function refused(error: WireError): Performed {
  return { receipt: { ok: false, error }, attempted: false, recorded: () => {} }
}

function indeterminate(message: string): Performed {
  return refused({ class: 'Indeterminate', code: 'Indeterminate', message })
}
