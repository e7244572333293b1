/**
 * Running a chain: outwards in its order, back in the reverse. Whatever goes wrong in it ends the effect:
 * on the way out nothing has happened yet and it is refused; on the way back it has, and is withheld.
 *
 * A chain that waits for nothing runs in one step: its result is there when the function returns.
 */
import type { Receipt, WireError } from '@cardinal/tools'
import { asJson, MAX_VALUE_BYTES } from './json.ts'
import type { Back, Call, Middleware, Step } from './middleware.ts'

/** What one member did, as the record says it. */
export type Did = readonly [name: string, digest: string, did: Step['do'] | 'fail']

export interface Ran {
  readonly args: unknown
  readonly did: readonly Did[]
  /** Roles that must approve, besides those that cards name. */
  readonly ask: readonly string[]
  /** When what asks is over; undefined: never. */
  readonly expiresMs: number | undefined
  readonly end:
    | { readonly kind: 'pass' }
    | { readonly kind: 'refuse'; readonly error: WireError }
    | { readonly kind: 'answer'; readonly receipt: Receipt; readonly read: boolean; readonly by: number }
}

/** The time that one member may take. */
const TIMEOUT_MS = 10_000
const MAX_WAIT_MS = 60_000

/** Runs the requests of a chain. Never rejects but for `signal`. */
export function runRequests(
  chain: readonly Middleware[],
  call: Call,
  signal: AbortSignal,
): Ran | Promise<Ran> {
  return requestsFrom({ args: call.args, did: [], ask: [], expiresMs: undefined }, chain, call, signal)
}

type Running = Omit<Ran, 'end'>

function requestsFrom(
  running: Running,
  chain: readonly Middleware[],
  call: Call,
  signal: AbortSignal,
): Ran | Promise<Ran> {
  let now = running
  while (now.did.length < chain.length) {
    const member = chain[now.did.length] as Middleware
    const step = stepOf(member, { ...call, args: now.args }, signal)
    if (step instanceof Promise)
      return step.then((done) => {
        const next = after(now, member, done)
        return 'end' in next ? next : requestsFrom(next, chain, call, signal)
      })
    const next = after(now, member, step)
    if ('end' in next) return next
    now = next
  }
  return { ...now, end: { kind: 'pass' } }
}

/** What a member does, or `fail` for whatever else than a step it gives. */
function stepOf(member: Middleware, call: Call, signal: AbortSignal): StepOrFail | Promise<StepOrFail> {
  if (!member.request) return { do: 'pass' }
  try {
    const step = member.request(call, signal)
    if (!(step instanceof Promise)) return checked(step)
    return within(step, signal).then(async (done) => {
      const known = checked(done)
      if (known.do !== 'wait') return known
      // Who waits longer waits by itself.
      if (known.ms > MAX_WAIT_MS)
        return {
          do: 'refuse',
          code: 'RateLimited',
          message: 'not now',
          retryAfterMs: Math.ceil(known.ms),
        } as const
      await pause(known.ms, signal)
      return known
    }, failed)
  } catch (error) {
    return failed(error)
  }
}

type StepOrFail = Step | { readonly do: 'fail'; readonly why: string }

function failed(error: unknown): StepOrFail {
  return { do: 'fail', why: error instanceof TooSlow ? error.message : 'it failed' }
}

function checked(step: Step): StepOrFail {
  const bad = { do: 'fail', why: 'it gave something that is no step' } as const
  if (typeof step !== 'object' || step === null) return bad
  switch (step.do) {
    case 'pass':
      return step
    case 'rewrite': {
      const args = asJson(step.args)
      return args === undefined
        ? { do: 'fail', why: `arguments of more than ${MAX_VALUE_BYTES} bytes, or no JSON` }
        : { do: 'rewrite', args: args.value }
    }
    case 'refuse':
      return isText(step.code, 64) && isText(step.message, 2000) && isTime(step.retryAfterMs) ? step : bad
    case 'answer': {
      const receipt = typeof step.read === 'boolean' ? receiptOf(step.receipt) : undefined
      return receipt ? { do: 'answer', receipt, read: step.read } : bad
    }
    case 'wait':
      return Number.isFinite(step.ms) && step.ms >= 0 ? step : bad
    case 'ask':
      return isTime(step.expiresMs) &&
        Array.isArray(step.roles) &&
        step.roles.length > 0 &&
        step.roles.every((r) => typeof r === 'string')
        ? step
        : bad
    default:
      return bad
  }
}

function isText(value: unknown, most: number): boolean {
  return typeof value === 'string' && value.length <= most
}

function isTime(value: unknown): boolean {
  return value === undefined || (Number.isFinite(value) && (value as number) >= 0)
}

const ERRORS = new Set(['Refused', 'Unavailable'])

/** What stands in the tool's place is a result, or an error that says that nothing was done. */
function receiptOf(given: Receipt | undefined): Receipt | undefined {
  if (typeof given !== 'object' || given === null) return undefined
  if (given.ok === true) {
    const json = asJson(given.value)
    return json && { ok: true, value: json.value }
  }
  const { class: cls, code, message } = (given.ok === false && given.error) || ({} as Partial<WireError>)
  if (!ERRORS.has(cls ?? '') || !isText(code, 64) || !isText(message, 2000)) return undefined
  const by = cls === 'Refused' ? { by: 'middleware' } : {}
  const error = { class: cls, code, message, ...by } as WireError
  return { ok: false, error }
}

function after(running: Running, member: Middleware, step: StepOrFail): Running | Ran {
  const { name, digest } = member
  const did = [...running.did, [name, digest, step.do] as const]
  const next = { ...running, did }
  switch (step.do) {
    case 'pass':
    case 'wait':
      return next
    case 'rewrite':
      return { ...next, args: step.args }
    case 'ask': {
      const until = [running.expiresMs, step.expiresMs].filter((ms) => ms !== undefined)
      return {
        ...next,
        ask: [...new Set([...running.ask, ...step.roles])],
        expiresMs: until.length > 0 ? Math.min(...until) : undefined,
      }
    }
    case 'answer':
      return { ...next, end: { kind: 'answer', receipt: step.receipt, read: step.read, by: did.length - 1 } }
    case 'refuse':
      return { ...next, end: { kind: 'refuse', error: refusedBy(name, step) } }
    case 'fail':
      return { ...next, end: { kind: 'refuse', error: failure(name, step.why) } }
  }
}

function refusedBy(
  name: string,
  { code, message, retryAfterMs }: Step & { readonly do: 'refuse' },
): WireError {
  const said = `middleware \`${name}\`: ${message}`
  if (retryAfterMs !== undefined) return { class: 'Unavailable', code, message: said, retryAfterMs }
  return { class: 'Refused', code, by: 'middleware', message: said }
}

function failure(name: string, why: string): WireError {
  return {
    class: 'Refused',
    code: 'MiddlewareFailed',
    by: 'middleware',
    message: `middleware \`${name}\`: ${why}`,
  }
}

/** Runs the responses of a chain, from its end to its beginning. */
export async function runResponses(
  chain: readonly Middleware[],
  call: Call,
  receipt: Receipt,
  signal: AbortSignal,
): Promise<{ readonly receipt: Receipt; readonly withheldBy?: string }> {
  if (!receipt.ok) return { receipt }
  let { value } = receipt
  const { used } = receipt
  for (const member of [...chain].reverse()) {
    if (!member.response) continue
    const back = await backOf(member, call, value, signal)
    if ('withhold' in back) return { receipt: withheld(member.name, back.withhold), withheldBy: member.name }
    value = back.value
  }
  return { receipt: { ok: true, value, ...(used && { used }) } }
}

async function backOf(member: Middleware, call: Call, value: unknown, signal: AbortSignal): Promise<Back> {
  try {
    const given = member.response?.(call, value, signal) as Back | Promise<Back>
    const back = given instanceof Promise ? await within(given, signal) : given
    if (typeof back === 'object' && back !== null && 'withhold' in back)
      return { withhold: String(back.withhold) }
    const json = typeof back === 'object' && back !== null && 'value' in back ? asJson(back.value) : undefined
    return json ?? { withhold: 'it gave nothing that could go on' }
  } catch (error) {
    return { withhold: error instanceof TooSlow ? error.message : 'it failed' }
  }
}

/** It was performed: told that it was refused, whoever asked would do it again. */
function withheld(name: string, why: string): Receipt {
  const message = `it was done, and middleware \`${name}\` holds back what came of it: ${why}`
  return { ok: false, error: { class: 'Withheld', code: 'Withheld', message } }
}

class TooSlow extends Error {}

/** Nobody waits for ever: a member that hangs has failed. */
function within<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new TooSlow(`it took longer than ${TIMEOUT_MS} ms`)), TIMEOUT_MS)
    const giveUp = () => reject(signal.reason)
    signal.addEventListener('abort', giveUp, { once: true })
    const over = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', giveUp)
    }
    work.then(
      (value) => {
        over()
        resolve(value)
      },
      (error) => {
        over()
        reject(error)
      },
    )
  })
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    const giveUp = () => {
      clearTimeout(timer)
      resolve()
    }
    signal.addEventListener('abort', giveUp, { once: true })
  })
}
