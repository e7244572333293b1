/**
 * Performing one effect, after its turn is durable, and recording its receipt.
 *
 * A `once` effect is started on the record before anything leaves; if the node dies after that,
 * nobody can know, and recovery turns it into `Indeterminate`. Reads and keyed effects are repeated.
 */
import type { Attempt, Receipt, Tool, Translated, WireError } from '@cardinal/tools'
import { type Context, hmac } from './context.ts'
import { type Authority, redecide } from './decide.ts'
import type { OpenEffect } from './state.ts'

export interface Performer {
  readonly birth: Buffer
  readonly authority: () => Authority
  /** Records that an attempt begins, and resolves once that is durable. */
  readonly started: () => Promise<void>
  readonly signal: AbortSignal
}

/** An attempt that had not begun when its agent was stopped: it is begun by whoever takes the agent up again. */
export class Stopping extends Error {}

const ATTEMPTS = 3
const BACKOFF_MS = 100

export interface Performed {
  readonly receipt: Receipt
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
  const tool = ctx.findTool(who.authority().tenant, effect.tool)
  if (!tool)
    return refused({
      class: 'Refused',
      code: 'NoSuchTool',
      by: 'card',
      message: 'there is no tool of this name any more',
    })
  const translated = tool.translate(effect.args, who.authority().settings)
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
    const no = redecide(who.authority(), translated.request, ctx.clock.nowMs())
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
    const receipt = await tool.perform(translated.plan, attemptOf(ctx, who, effect, recorded))
    const repeatable =
      effect.class === 'idempotent' &&
      !receipt.ok &&
      (receipt.error.class === 'Indeterminate' || receipt.error.class === 'Unavailable')
    if (!repeatable || n === ATTEMPTS || who.signal.aborted) return { receipt, recorded: resolve }
    resolve()
    await new Promise((resolve) => setTimeout(resolve, BACKOFF_MS * 2 ** (n - 1)))
    const no = redecide(who.authority(), translated.request, ctx.clock.nowMs())
    if (no)
      return indeterminate(
        'an earlier attempt may have been done, and it is no longer allowed to be repeated',
      )
  }
}

function attemptOf(ctx: Context, who: Performer, effect: OpenEffect, recorded: Promise<void>): Attempt {
  return {
    idempotencyKey: hmac(hmac(ctx.secret, 'idempotency', who.birth), effect.id)
      .toString('hex')
      .slice(0, 40),
    started: async () => {
      if (effect.class !== 'once') return
      await who.started()
      ctx.crashPoint('effect.started')
    },
    recorded,
    decide: (request) => redecide(who.authority(), request, ctx.clock.nowMs()),
    signal: who.signal,
  }
}

function refused(error: WireError): Performed {
  return { receipt: { ok: false, error }, recorded: () => {} }
}

function indeterminate(message: string): Performed {
  return refused({ class: 'Indeterminate', code: 'Indeterminate', message })
}
