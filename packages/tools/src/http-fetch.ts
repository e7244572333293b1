/**
 * `http.fetch`: the one door out. Every hop is translated and decided again, every address checked,
 * and nothing about a request is the guest's to frame.
 */
import { Agent, type Dispatcher, request as send } from 'undici'
import {
  checkAddress,
  checkedLookup,
  checkHost,
  EgressDenied,
  type EgressPolicy,
  isLiteral,
} from './address.ts'
import { type HttpPlan, translateHttp } from './http-request.ts'
import type { Attempt, Receipt, Tool, WireError } from './tool.ts'

export interface HttpOptions {
  readonly policy: EgressPolicy
  /** Connections to one origin at a time; what is beyond waits, unstarted. */
  readonly connections: number
  readonly timeoutMs: number
}

const MAX_RESPONSE = 4 << 20
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
/** Headers of the answer that belong to the connection, not to the guest. */
const CONTROL = /[\ufffd\u0000-\u0008\u000b\u000c\u000e-\u001f]/
const HIDDEN = new Set(['connection', 'keep-alive', 'transfer-encoding', 'set-cookie', 'set-cookie2'])

export interface HttpTool extends Tool {
  close(): Promise<void>
}

export function httpFetch(options: HttpOptions): HttpTool {
  const gate = new OriginGate(options.connections)
  const agents = new Map<number, Agent>()
  const older = new Set<Agent>()
  let version = options.policy.version()
  const agentFor = (port: number) => {
    // A connection that was made when its address was allowed outlives no change.
    if (version !== options.policy.version()) {
      for (const agent of agents.values()) {
        older.add(agent)
        void agent.close().finally(() => older.delete(agent))
      }
      agents.clear()
      version = options.policy.version()
    }
    const known = agents.get(port)
    if (known) return known
    const lookup = checkedLookup(options.policy, () => port)
    const made = new Agent({
      connections: options.connections,
      pipelining: 1,
      connect: { lookup, timeout: options.timeoutMs },
    })
    agents.set(port, made)
    return made
  }
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
    perform: (plan, attempt) => perform(plan as HttpPlan, attempt, options, gate, agentFor),
    close: async () => {
      await Promise.all([...agents.values(), ...older].map((agent) => agent.destroy()))
    },
  }
}

async function perform(
  first: HttpPlan,
  attempt: Attempt,
  options: HttpOptions,
  gate: OriginGate,
  agentFor: (port: number) => Dispatcher,
): Promise<Receipt> {
  let plan = first
  for (let hop = 0; ; hop++) {
    const release = await gate.enter(new URL(plan.url).origin, attempt.signal)
    if (!release) return failed('Cancelled', 'Cancelled', 'cancelled before it was sent')
    let sent: Sent
    try {
      if (hop === 0) await attempt.started()
      sent = await sendOnce(plan, attempt, options, agentFor, hop > 0)
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
    const next = follow(plan, sent.location, attempt)
    if ('class' in next) return { ok: false, error: next }
    plan = next
  }
}

type Sent = { readonly receipt: Receipt } | { readonly location: string }

async function sendOnce(
  plan: HttpPlan,
  attempt: Attempt,
  options: HttpOptions,
  agentFor: (port: number) => Dispatcher,
  redirected: boolean,
): Promise<Sent> {
  const url = new URL(plan.url)
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
  const repeatable = plan.method === 'GET' || plan.method === 'HEAD'
  let answered = false
  try {
    const literal = url.hostname.replace(/^\[|\]$/g, '')
    checkHost(literal, options.policy)
    if (isLiteral(literal)) checkAddress(url.hostname, literal, port, options.policy)
    const answer = await send(url, {
      method: plan.method as Dispatcher.HttpMethod,
      headers: headersOf(plan, attempt),
      body: plan.body ? Buffer.from(plan.body) : null,
      dispatcher: agentFor(port),
      signal: AbortSignal.any([attempt.signal, AbortSignal.timeout(options.timeoutMs)]),
      headersTimeout: options.timeoutMs,
      bodyTimeout: options.timeoutMs,
    })
    answered = true
    const location = answer.headers.location
    const elsewhere = REDIRECTS.has(answer.statusCode) && typeof location === 'string'
    if (elsewhere && (plan.redirect === 'error' || (plan.redirect === 'follow' && repeatable))) {
      await answer.body.dump()
      if (plan.redirect === 'follow') return { location: new URL(location, url).href }
      const cls = repeatable ? 'Unavailable' : 'Withheld'
      return {
        receipt: failed(cls, 'Redirected', 'the answer points elsewhere, and the program wants none such'),
      }
    }
    return { receipt: { ok: true, value: { ...(await readAnswer(answer, plan)), redirected } } }
  } catch (error) {
    if (repeatable && attempt.signal.aborted)
      return { receipt: failed('Cancelled', 'Cancelled', 'cancelled before it was answered') }
    return {
      receipt: { ok: false, error: sortFailure(error as NodeJS.ErrnoException, repeatable, answered) },
    }
  }
}

function headersOf(plan: HttpPlan, attempt: Attempt): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, value] of plan.headers) headers[name] = value
  if (plan.idempotencyHeader) headers[plan.idempotencyHeader.toLowerCase()] = attempt.idempotencyKey
  return headers
}

/** The next hop's plan, decided like any request; credentials do not follow to another origin. */
function follow(plan: HttpPlan, location: string, attempt: Attempt): HttpPlan | WireError {
  const sameOrigin = new URL(location).origin === new URL(plan.url).origin
  const headers = plan.headers.filter(
    ([name]) => sameOrigin || (name !== 'authorization' && name !== 'cookie'),
  )
  const { method, redirect } = plan
  const next = translateHttp({ method, url: location, headers, redirect }, { idempotency: [] })
  if ('bad' in next)
    return { class: 'Unavailable', code: 'BadRedirect', message: `a redirect to ${next.bad}` }
  return attempt.decide(next.request) ?? (next.plan as HttpPlan)
}

class TooLarge extends Error {}

async function readAnswer(answer: Dispatcher.ResponseData, plan: HttpPlan): Promise<object> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of answer.body) {
    size += (chunk as Buffer).length
    if (size > MAX_RESPONSE) throw new TooLarge(`an answer of more than ${MAX_RESPONSE} bytes`)
    chunks.push(chunk as Buffer)
  }
  const bytes = Buffer.concat(chunks)
  const headers = Object.entries(answer.headers).flatMap(([name, value]) =>
    value === undefined || HIDDEN.has(name)
      ? []
      : (Array.isArray(value) ? value : [value]).map((v) => [name, v]),
  )
  return {
    status: answer.statusCode,
    statusText: '',
    url: plan.url,
    headers,
    ...bodyOf(bytes),
  }
}

/** Text where the bytes are text, so that a guest need not decode what was never binary. */
function bodyOf(bytes: Buffer): { text: string } | { base64: string } {
  const text = bytes.toString('utf8')
  // Control characters take six bytes each in JSON: such a body is binary.
  return Buffer.byteLength(text) === bytes.length && !CONTROL.test(text)
    ? { text }
    : { base64: bytes.toString('base64') }
}

/** Whether a failure leaves the world as it was (`Unavailable`) or nobody knows (`Indeterminate`). */
function sortFailure(error: NodeJS.ErrnoException, repeatable: boolean, answered: boolean): WireError {
  const code = error.code ?? ''
  if (error instanceof EgressDenied)
    return { class: 'Refused', code: 'EgressDenied', by: 'middleware', message: error.message }
  if (error instanceof TooLarge) {
    return { class: repeatable ? 'Unavailable' : 'Withheld', code: 'AnswerTooLarge', message: error.message }
  }
  const what = code || error.name
  if (repeatable || NOT_SENT.has(code))
    return { class: 'Unavailable', code: 'NoAnswer', message: `no answer: ${what}`, retryAfterMs: 1000 }
  return {
    class: 'Indeterminate',
    code: 'Indeterminate',
    message: `${answered ? 'the answer broke off' : 'no answer came'} (${what}); whether it was done is unknown`,
  }
}

function failed(cls: WireError['class'], code: string, message: string): Receipt {
  return { ok: false, error: { class: cls, code, message } }
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
