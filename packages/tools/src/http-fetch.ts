/**
 * `http.fetch`: the one door out. Every hop is translated and decided again, every address checked,
 * and nothing about a request is the guest's to frame.
 */

import { MIN_MASKABLE_BYTES, maskerOf, type OpenSecret } from '@cardinal/secrets'
import { type Dispatcher, request as send } from 'undici'
import { EgressDenied } from './address.ts'
import type { EgressDoor } from './egress-door.ts'
import { failed } from './failures.ts'
import { maskAll, readAnswer, type Search, TooLarge, Unsearchable } from './http-answer.ts'
import { type HttpPlan, outgoingOf, translateHttp } from './http-request.ts'
import { inject, type Outgoing } from './secret-slot.ts'
import type { Attempt, Receipt, Tool, WireError } from './tool.ts'
import { calledIn, noteUpstream } from './upstream.ts'

const MAX_HOPS = 5
const REDIRECTS = new Set([301, 302, 303, 307, 308])
/** Failures that prove that nothing of the request was sent. */
const NOT_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
  'EGRESS_DENIED',
])
export function httpFetch(door: EgressDoor): Tool {
  const gate = new OriginGate(door.options.connections)
  return {
    name: 'http.fetch',
    about: 'sends one HTTP request to a host, method and path that a grant names',
    sinks: ['{host}'],
    // What anybody may have written.
    yields: ['untrusted'],
    defaults: {
      scheme: ['https'],
      port: [443],
      method: ['GET', 'HEAD'],
      args: {},
      required: ['host', 'path'],
    },
    translate: translateHttp,
    perform: (plan, attempt) => perform(plan as HttpPlan, attempt, door, gate),
  }
}

async function perform(
  first: HttpPlan,
  attempt: Attempt,
  door: EgressDoor,
  gate: OriginGate,
): Promise<Receipt> {
  let plan = first
  const secret = await openFor(first, attempt)
  if (secret && 'class' in secret) return { ok: false, error: secret }
  // Whoever has had the secret may write it into every answer from then on.
  const search = secret && searchFor(first, secret)
  for (let hop = 0; ; hop++) {
    const release = await gate.enter(new URL(plan.url).origin, attempt.signal)
    if (!release) return failed('Cancelled', 'Cancelled', 'cancelled before it was sent')
    let sent: Sent
    try {
      if (hop === 0) await attempt.started()
      // What goes elsewhere than the first request did goes without its secret.
      const own = plan.injection && secret
      sent = await sendOnce({ plan, secret: own, search, redirected: hop > 0 }, attempt, door)
    } catch (error) {
      // Only that it could not be noted as started: nothing left, and the place is somebody else's.
      release()
      throw error
    }
    if (!('location' in sent)) {
      void attempt.recorded.then(release)
      return sent.receipt
    }
    release()
    if (hop === MAX_HOPS) return failed('Unavailable', 'TooManyRedirects', `more than ${MAX_HOPS} redirects`)
    const next = await follow(plan, sent.location, attempt)
    if ('class' in next) return { ok: false, error: next }
    plan = next
  }
}

/** The secret of a request, or why it must not be sent with one. Nothing has left yet. */
async function openFor(plan: HttpPlan, attempt: Attempt): Promise<OpenSecret | WireError | undefined> {
  const { injection } = plan
  if (!injection) return undefined
  const secret = await attempt.secret(injection.ref)
  if ('class' in secret) return secret
  const refused = (code: string, message: string): WireError => ({
    class: 'Refused',
    code,
    by: 'middleware',
    message: `secret \`${injection.ref}\` ${message}`,
  })
  if (!secret.masker && injection.binding.answer !== 'status')
    return refused(
      'SecretTooShort',
      'is too short to be found in an answer: say `answer: status` where it is bound',
    )
  const password = injection.binding.as === 'basic' ? passwordOf(secret.value) : undefined
  if (password && password.length < MIN_MASKABLE_BYTES && injection.binding.answer !== 'status')
    return refused(
      'SecretTooShort',
      'has a password that is too short to be found in an answer: say `answer: status` where it is bound',
    )
  const bare = outgoingOf(plan)
  const parts = [bare.url, ...Object.values(bare.headers), bare.body?.toString('latin1') ?? '']
  if (parts.some((part) => secret.masker?.maskText(part) !== undefined))
    return refused('SecretByValue', 'stands in the arguments, where its bytes are never written')
  const filled = inject(bare, injection, secret)
  return 'bad' in filled ? refused('SecretUnusable', filled.bad) : secret
}

/** What answers are searched for: the secret, and of a login the password by itself, which services take apart. */
function searchFor({ injection }: HttpPlan, secret: OpenSecret): Search & { readonly secret: OpenSecret } {
  const password = injection?.binding.as === 'basic' ? passwordOf(secret.value) : undefined
  const maskers = [
    ...(secret.masker ? [secret.masker] : []),
    ...(password ? [maskerOf(password, secret.ref)] : []),
  ]
  return { secret, maskers, statusOnly: injection?.binding.answer === 'status' }
}

function passwordOf(login: Buffer): Buffer | undefined {
  const at = login.indexOf(':')
  return at < 0 ? undefined : login.subarray(at + 1)
}

type Sent = { readonly receipt: Receipt } | { readonly location: string }

/** One request of an effect: the first, or one that a redirect asked for. */
interface Hop {
  readonly plan: HttpPlan
  readonly secret: OpenSecret | undefined
  readonly search: (Search & { readonly secret: OpenSecret }) | undefined
  readonly redirected: boolean
}

async function sendOnce(
  { plan, secret, search, redirected }: Hop,
  attempt: Attempt,
  door: EgressDoor,
): Promise<Sent> {
  const outgoing = filledOf(plan, secret, attempt)
  const url = new URL(outgoing.url)
  const { timeoutMs } = door.options
  const repeatable = plan.method === 'GET' || plan.method === 'HEAD'
  let answered = false
  try {
    door.check(url)
    const answer = await send(url, {
      method: plan.method as Dispatcher.HttpMethod,
      headers: outgoing.headers,
      body: outgoing.body,
      dispatcher: door.dispatcherFor(url),
      signal: AbortSignal.any([attempt.signal, AbortSignal.timeout(timeoutMs)]),
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
    })
    answered = true
    // What cannot be searched for the secret may hold it.
    if (!search || search.maskers.length > 0)
      noteUpstream(attempt, calledIn(answer.headers), search?.maskers ?? [])
    const location = answer.headers.location
    const elsewhere = REDIRECTS.has(answer.statusCode) && typeof location === 'string'
    const tells =
      elsewhere && search && maskAll(search.maskers, location, (masker, now) => masker.maskText(now))
    if (elsewhere && search && (tells !== undefined || search.maskers.length === 0)) {
      await answer.body.dump()
      if (tells !== undefined) attempt.masked(search.secret)
      const cls = repeatable ? 'Unavailable' : 'Withheld'
      const why =
        tells === undefined ? 'and cannot be searched for the secret' : 'with the secret in the place'
      return { receipt: failed(cls, 'SecretEchoed', `the answer points elsewhere ${why}`) }
    }
    if (
      elsewhere &&
      (plan.redirect === 'error' || (plan.redirect === 'follow' && repeatable && attempt.follows))
    ) {
      await answer.body.dump()
      if (plan.redirect === 'follow') return { location: new URL(location, url).href }
      const cls = repeatable ? 'Unavailable' : 'Withheld'
      return {
        receipt: failed(cls, 'Redirected', 'the answer points elsewhere, and the program wants none such'),
      }
    }
    const { seen, masked } = await readAnswer(answer, plan, search)
    if (masked && search) attempt.masked(search.secret)
    return { receipt: { ok: true, value: { ...seen, redirected } } }
  } catch (error) {
    if (repeatable && attempt.signal.aborted)
      return { receipt: failed('Cancelled', 'Cancelled', 'cancelled before it was answered') }
    return {
      receipt: { ok: false, error: sortFailure(error as NodeJS.ErrnoException, repeatable, answered) },
    }
  }
}

/** Exactly what leaves. */
function filledOf(plan: HttpPlan, secret: OpenSecret | undefined, attempt: Attempt): Outgoing {
  const bare = outgoingOf(plan)
  const keyed = plan.idempotencyHeader
    ? { [plan.idempotencyHeader.toLowerCase()]: attempt.idempotencyKey }
    : {}
  const outgoing = { ...bare, headers: { ...bare.headers, ...keyed } }
  if (!secret || !plan.injection) return outgoing
  // What comes back is searched for the secret, which a compressed answer would hide.
  const plain = { ...outgoing, headers: { ...outgoing.headers, 'accept-encoding': 'identity' } }
  const filled = inject(plain, plan.injection, secret)
  if ('bad' in filled) throw new Error('a secret that fitted its slot fits it still')
  return filled
}

/** The next hop's plan, decided like any request; credentials and secrets do not follow to another origin. */
async function follow(plan: HttpPlan, location: string, attempt: Attempt): Promise<HttpPlan | WireError> {
  const sameOrigin = new URL(location).origin === new URL(plan.url).origin
  const headers = plan.headers.filter(
    ([name]) => sameOrigin || (name !== 'authorization' && name !== 'cookie'),
  )
  const { method, redirect, injection } = plan
  const secrets = sameOrigin && injection ? { [injection.binding.slot]: 'own' } : undefined
  const own = injection ? { own: { ...injection.binding, ref: injection.ref } } : {}
  const next = translateHttp(
    { method, url: location, headers, redirect, secrets },
    { idempotency: [], secrets: own, key: '' },
  )
  if ('bad' in next)
    return { class: 'Unavailable', code: 'BadRedirect', message: `a redirect to ${next.bad}` }
  return (await attempt.decide(next.request)) ?? (next.plan as HttpPlan)
}

/** Whether a failure leaves the world as it was (`Unavailable`) or nobody knows (`Indeterminate`). */
function sortFailure(error: NodeJS.ErrnoException, repeatable: boolean, answered: boolean): WireError {
  const code = error.code ?? ''
  if (error instanceof EgressDenied)
    return { class: 'Refused', code: 'EgressDenied', by: 'middleware', message: error.message }
  const withheld = repeatable ? 'Unavailable' : 'Withheld'
  if (error instanceof TooLarge) return { class: withheld, code: 'AnswerTooLarge', message: error.message }
  if (error instanceof Unsearchable) return { class: withheld, code: 'SecretScan', message: error.message }
  const what = code || error.name
  if (repeatable || NOT_SENT.has(code))
    return { class: 'Unavailable', code: 'NoAnswer', message: `no answer: ${what}`, retryAfterMs: 1000 }
  return {
    class: 'Indeterminate',
    code: 'Indeterminate',
    message: `${answered ? 'the answer broke off' : 'no answer came'} (${what}); whether it was done is unknown`,
  }
}

/** Lets so many attempts to one origin run at a time; the others wait and have not started. */
class OriginGate {
  readonly #limit: number
  readonly #running = new Map<string, number>()
  readonly #waiting = new Map<string, (() => void)[]>()

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Resolves to the function that leaves again, or to nothing if `signal` aborted first. */
  async enter(origin: string, signal: AbortSignal): Promise<(() => void) | undefined> {
    while ((this.#running.get(origin) ?? 0) >= this.#limit) {
      if (signal.aborted) return undefined
      await new Promise<void>((resolve) => {
        const list = this.#waiting.get(origin) ?? []
        list.push(resolve)
        this.#waiting.set(origin, list)
        // Whoever gave up must not be woken in place of somebody who waits.
        const giveUp = () => {
          const at = list.indexOf(resolve)
          if (at >= 0) list.splice(at, 1)
          resolve()
        }
        signal.addEventListener('abort', giveUp, { once: true })
      })
    }
    if (signal.aborted) return undefined
    this.#running.set(origin, (this.#running.get(origin) ?? 0) + 1)
    return () => {
      const left = (this.#running.get(origin) ?? 1) - 1
      if (left === 0) this.#running.delete(origin)
      else this.#running.set(origin, left)
      this.#waiting.get(origin)?.shift()?.()
    }
  }
}
