/**
 * The guest's side of a turn: events in, effects and replies out.
 *
 * One event is delivered, its promise jobs are drained by the engine, then the next; so whatever a
 * program queues belongs to the event delivered last. All built-ins used here are captured before
 * any program runs: a program that changes a prototype changes its own world, not this file's.
 */
import { BadArguments, BadResult, type Checks, checksOf, jsonSchema } from './checks.ts'
import { running, serve } from './current.ts'
import { openDeclassified } from './declassified.ts'
import { CardinalError, Refused, toError, type WireError } from './errors.ts'
import { endTransaction, forgetLost, leaveHome, openHome } from './guest/home.ts'
import { answerPut, type FilePart, PUT_METHOD, writeInitial } from './guest/put-file.ts'
import { show } from './show.ts'
import type { Call, Duration, Json, Method } from './types.ts'

const parse = JSON.parse
const stringify = JSON.stringify
const hasOwn = Object.hasOwn
const PromiseOf = Promise
const then = Promise.prototype.then
const call = Function.prototype.call.bind(Function.prototype.call) as <T>(
  f: unknown,
  self: unknown,
  ...args: unknown[]
) => T
const mapGet = Map.prototype.get
const mapSet = Map.prototype.set
const mapDelete = Map.prototype.delete
const mapForEach = Map.prototype.forEach
const push = Array.prototype.push
const join = Array.prototype.join
const shift = Array.prototype.shift
const splice = Array.prototype.splice
const exec = RegExp.prototype.exec

/** Who this agent is, as the kernel told it at birth. */
export interface Birth {
  readonly address: string
  readonly key: string
  readonly card: { readonly id: string }
  /** All birth cards with their handles; an older kernel knew one. */
  readonly cards?: readonly { readonly card: number; readonly id: string }[]
}

type Event =
  | ({ readonly t: 'birth'; readonly home?: 'same' | 'other' } & Birth)
  | { readonly t: 'invoke'; readonly id: string; readonly method: string; readonly args: Json }
  /** A call of nothing, in an instance that is thrown away: what it leaves in memory is what saves lie over. */
  | { readonly t: 'rehearse'; readonly id: string; readonly method: string; readonly args: Json }
  | { readonly t: 'receipt'; readonly id: number; readonly ok: true; readonly value: Json }
  | { readonly t: 'receipt'; readonly id: number; readonly ok: false; readonly error: WireError }
  | { readonly t: 'emit'; readonly name: string; readonly value: Json }
  | { readonly t: 'cancel'; readonly id: string; readonly why: string }
  | { readonly t: 'abandon'; readonly ids: readonly string[] }
  | { readonly t: 'card'; readonly card: number; readonly id: string }
  | { readonly t: 'offer'; readonly card: number; readonly id: string; readonly from: string }

interface Waiter {
  readonly invocation: string | null
  readonly resolve: (value: Json) => void
  readonly reject: (error: unknown) => void
}

interface EventWaiter {
  readonly invocation: string | null
  readonly resolve: (value: Json) => void
  readonly reject: (error: unknown) => void
}

/** The constructor of a program's agent, with its declared methods. */
interface Program {
  new (): object
  readonly methods?: Record<string, Method>
}

const compiled = new Map<string, Checks>()
const waiters = new Map<number, Waiter>()
const eventWaiters = new Map<string, EventWaiter[]>()
const earlyEvents = new Map<string, Json[]>()
let effects: string[] = []
let replies: string[] = []
let logs: string[] = []
let drops: number[] = []
let nextEffect = 1
let program: Program | undefined
let birth: Birth | undefined
let agent: Record<string, unknown> | undefined
let onTurn: () => void = () => {}
let onOffer: (event: object) => void = () => {}
let onCard: (event: object) => void = () => {}

/** Called once by the bundle with the module's default export. */
export function register(given: unknown, base: new () => object): void {
  if (program) throw new TypeError('a program is registered once')
  if (typeof given !== 'function' || !(given.prototype instanceof base)) {
    throw new TypeError('the default export of a program must be a class that extends Agent')
  }
  const made = given as unknown as Program
  for (const [name, method] of Object.entries(made.methods ?? {})) {
    const checks = checksOf(name, method)
    if (checks.in || checks.out) compiled.set(name, checks)
  }
  program = made
}

/** Runs at the start of every event: where per-turn randomness forgets what it has drawn. */
export function atEvent(reset: () => void): void {
  onTurn = reset
}

/** Who takes in events of a kind that this file only passes on. */
export function atEvents(kind: 'offer' | 'card', take: (event: object) => void): void {
  if (kind === 'offer') onOffer = take
  else onCard = take
}

export function requireBirth(): Birth {
  if (!birth) throw new TypeError('an agent has no identity while its image is built')
  return birth
}

/** Queues an effect; the promise settles when its receipt is delivered in a later turn. */
export function effect(tool: string, args: unknown, via?: number): Call<Json> {
  requireBirth()
  const id = nextEffect++
  const invocation = running()
  const text = stringify(args)
  if (text === undefined) throw new TypeError(`the arguments of \`${tool}\` are not JSON`)
  const promise = new PromiseOf<Json>((resolve, reject) => {
    call(mapSet, waiters, id, { invocation, resolve, reject })
  })
  const head = `{"c":${id},"inv":${stringify(invocation)},"tool":${stringify(tool)}`
  call(push, effects, `${head}${via === undefined ? '' : `,"via":${stringify(via)}`},"args":${text}}`)
  return asCall(silenced(promise), id)
}

/**
 * Nobody may be listening when a receipt arrives turns later; the kernel's own errors are no
 * unhandled rejections. What a program derives from this promise is.
 */
export function silenced<T>(promise: Promise<T>): Promise<T> {
  call(then, promise, undefined, () => {})
  return promise
}

function asCall(promise: Promise<Json>, id: number): Call<Json> {
  const cancel = async (why = 'cancelled by the program') => {
    const waiter = call<Waiter | undefined>(mapGet, waiters, id)
    if (!waiter) return
    drop(id)
    waiter.reject(cancelled(why))
  }
  return Object.defineProperties(promise, {
    id: { value: String(id) },
    cancel: { value: cancel },
  }) as unknown as Call<Json>
}

function drop(id: number): void {
  call(mapDelete, waiters, id)
  call(push, drops, id)
}

function cancelled(why: string): CardinalError {
  return toError({ class: 'Cancelled', code: 'Cancelled', message: why })
}

/**
 * Resolves once the named event is emitted from outside; one that came early is not lost. Who gives
 * up says `forget`, so that the next event goes to somebody who waits.
 */
export function awaitEvent(name: string): { arrived: Promise<Json>; forget: () => void } {
  requireBirth()
  const early = call<Json[] | undefined>(mapGet, earlyEvents, name)
  if (early && early.length > 0)
    return { arrived: PromiseOf.resolve(call<Json>(shift, early)), forget: () => {} }
  const invocation = running()
  const list = call<EventWaiter[] | undefined>(mapGet, eventWaiters, name) ?? []
  let waiter: EventWaiter | undefined
  const arrived = new PromiseOf<Json>((resolve, reject) => {
    waiter = { invocation, resolve, reject }
    call(push, list, waiter)
    call(mapSet, eventWaiters, name, list)
  })
  const forget = () => {
    for (let i = 0; i < list.length; i++) if (list[i] === waiter) call(splice, list, i, 1)
  }
  return { arrived: silenced(arrived), forget }
}

export function write(level: string, text: string): void {
  if (birth) call(push, logs, `[${stringify(level)},${stringify(text)}]`)
}

export function milliseconds(duration: Duration | number): number {
  if (typeof duration === 'number' && duration >= 0) return duration
  const match = call<RegExpExecArray | null>(exec, /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/, String(duration))
  if (!match) throw new TypeError(`\`${String(duration)}\` is not a duration; write 500ms, 30s, 5m, 2h or 7d`)
  const unit = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[match[2] as 'ms' | 's' | 'm' | 'h' | 'd']
  return Number(match[1]) * unit
}

/** The engine's entry: one event. */
export function deliver(text: string): string {
  const event = parse(text) as Event
  onTurn()
  serve(null)
  endTransaction()
  switch (event.t) {
    case 'birth':
      birth = {
        address: event.address,
        key: event.key,
        card: event.card,
        ...(event.cards && { cards: event.cards }),
      }
      if (!program) throw new TypeError('no program was registered')
      openHome(event.home)
      if (event.home === undefined) writeInitial()
      agent = new program() as Record<string, unknown>
      break
    case 'invoke':
      serve(event.id)
      invoke(event.id, event.method, event.args)
      break
    case 'rehearse':
      serve(event.id)
      invoke(event.id, event.method, event.args, true)
      break
    case 'receipt':
      receive(event)
      break
    case 'emit':
      emit(event.name, event.value)
      break
    case 'offer':
      onOffer(event)
      break
    case 'card':
      onCard(event)
      break
    case 'cancel':
      serve(event.id)
      stop(event.id, cancelled(event.why))
      break
    case 'abandon':
      for (const id of event.ids) {
        stop(id, undefined)
        forgetLost(id)
      }
      break
  }
  return ''
}

function receive(event: Extract<Event, { t: 'receipt' }>): void {
  const waiter = call<Waiter | undefined>(mapGet, waiters, event.id)
  if (!waiter) return
  call(mapDelete, waiters, event.id)
  serve(waiter.invocation)
  if (event.ok) waiter.resolve(event.value)
  else waiter.reject(toError(event.error))
}

function emit(name: string, value: Json): void {
  const waiting = call<EventWaiter[] | undefined>(mapGet, eventWaiters, name)
  const first = waiting && call<EventWaiter | undefined>(shift, waiting)
  if (first) {
    serve(first.invocation)
    first.resolve(value)
    return
  }
  const early = call<Json[] | undefined>(mapGet, earlyEvents, name) ?? []
  call(push, early, value)
  call(mapSet, earlyEvents, name, early)
}

/** Ends every wait of an invocation: with an error that it sees, or silently if it is abandoned. */
function stop(invocation: string, error: CardinalError | undefined): void {
  const ended: [number, Waiter][] = []
  call(mapForEach, waiters, (waiter: Waiter, id: number) => {
    if (waiter.invocation === invocation) call(push, ended, [id, waiter])
  })
  for (const [id, waiter] of ended) {
    drop(id)
    if (error) waiter.reject(error)
  }
  call(mapForEach, eventWaiters, (list: EventWaiter[]) => {
    for (let i = list.length - 1; i >= 0; i--) {
      const waiter = list[i]
      if (waiter?.invocation !== invocation) continue
      call(splice, list, i, 1)
      if (error) waiter.reject(error)
    }
  })
}

async function invoke(id: string, method: string, args: Json, rehearsed = false): Promise<void> {
  try {
    if (method === PUT_METHOD) return reply(id, true, stringify(answerPut(args as unknown as FilePart)))
    const declared = program?.methods
    const own = declared && hasOwn(declared, method) ? declared[method] : undefined
    const spec = rehearsed ? {} : own
    const body = rehearsed ? nothing : agent?.[method]
    if (!spec || typeof body !== 'function') throw new TypeError(`no method \`${method}\``)
    const checks = call<Checks | undefined>(mapGet, compiled, method)
    const given = checks?.in ? await checks.in(args) : args
    const result: unknown = await call(body, agent, given)
    const bits = openDeclassified(result)
    const value = bits ? bits.value : result
    reply(id, true, encodeResult(checks?.out ? await checks.out(value) : value), bits)
  } catch (error) {
    reply(id, false, stringify(describeError(error)))
  }
}

async function nothing(): Promise<void> {}

function reply(id: string, ok: boolean, text: string, bits?: { readonly via: number | undefined }): void {
  forgetLost(id)
  const more = bits ? `,"bits":${bits.via === undefined ? '{}' : `{"via":${bits.via}}`}` : ''
  call(push, replies, `{"inv":${stringify(id)},"ok":${ok},"value":${text}${more}}`)
}

class NotJson extends Error {}

function encodeResult(result: unknown): string {
  if (result === undefined) return 'null'
  let text: string | undefined
  try {
    text = stringify(result)
  } catch (error) {
    throw new NotJson(`the result is not JSON: ${String((error as Error)?.message ?? error)}`)
  }
  if (text === undefined) throw new NotJson(`the result is not JSON: a ${typeof result}`)
  return text
}

function describeError(error: unknown): WireError & { readonly stack?: string } {
  const { name, message, stack, effect } = errorText(error)
  if (error instanceof NotJson) return { class: 'Thrown', code: 'NotJson', message }
  if (error instanceof BadArguments) return { class: 'Malformed', code: 'BadArguments', message }
  if (error instanceof BadResult) return { class: 'Thrown', code: 'BadResult', message }
  if (error instanceof CardinalError) {
    const effect = error.effect === undefined ? {} : { effect: error.effect }
    const why =
      error instanceof Refused ? { by: error.by, ...(error.missing && { missing: error.missing }) } : {}
    return { class: name, code: error.code, message, ...effect, ...why, ...(stack && { stack }) }
  }
  const seen = { ...(effect !== undefined && { effect }), ...(stack && { stack }) }
  return { class: 'Thrown', code: 'Thrown', message: `${name}: ${message}`, ...seen }
}

interface ErrorText {
  readonly name: string
  readonly message: string
  readonly stack?: string
  /** Of the first error of the kernel among its causes: what `why` explains. */
  readonly effect?: string
}

const MAX_CAUSES = 8

/** A thrown value may be anything, a proxy that throws included. What caused an error is told with it. */
function errorText(error: unknown): ErrorText {
  try {
    if (!(error instanceof Error)) return { name: 'Error', message: show(error) }
    const causes = causesOf(error)
    const told = causes.map((c) => (c instanceof Error ? `${c.name}: ${c.message}` : show(c)))
    const effect = causes.find((c) => c instanceof CardinalError && c.effect !== undefined)
    return {
      name: String(error.name),
      message: [String(error.message), ...told].join('; caused by '),
      stack: String(error.stack),
      ...(effect instanceof CardinalError && { effect: effect.effect as string }),
    }
  } catch {
    return { name: 'Error', message: 'a value that cannot be shown' }
  }
}

/** What an error was caused by, and what those were: `cause`, and the errors of an AggregateError. */
function causesOf(error: Error): unknown[] {
  const found: unknown[] = []
  const look = (at: unknown) => {
    if (!(at instanceof Error)) return
    for (const cause of [
      ...(at instanceof AggregateError ? at.errors : []),
      ...(at.cause === undefined ? [] : [at.cause]),
    ]) {
      if (found.length === MAX_CAUSES || found.includes(cause)) return
      found.push(cause)
      look(cause)
    }
  }
  look(error)
  return found
}

/** The engine's exit: everything queued since the last collect, as one JSON text. */
export function collect(): string {
  leaveHome()
  const list = (items: readonly unknown[]) =>
    items.length === 0 ? '[]' : `[${call<string>(join, items, ',')}]`
  const text = `{"effects":${list(effects)},"replies":${list(replies)},"logs":${list(logs)},"drops":${list(drops)},"open":${waiters.size}}`
  effects = []
  replies = []
  logs = []
  drops = []
  return text
}

/** What a program declares of itself: its methods with their JSON Schemas. */
export function describe(): string {
  if (!program) throw new TypeError('the program has no default export')
  const methods: Record<string, unknown> = {}
  for (const [name, method] of Object.entries(program.methods ?? {})) {
    if (typeof program.prototype?.[name] !== 'function') {
      throw new TypeError(`\`static methods\` names \`${name}\`, which the class does not have`)
    }
    if (name === PUT_METHOD) throw new TypeError(`\`${PUT_METHOD}\` is the runtime's own method`)
    methods[name] = {
      ...(method.about !== undefined && { about: method.about }),
      ...(method.shared && { shared: true }),
      ...(method.authority && { authority: method.authority }),
      ...(method.admits && { admits: method.admits }),
      ...(method.in && { in: jsonSchema(method.in, 'input') }),
      ...(method.out && { out: jsonSchema(method.out, 'output') }),
    }
  }
  return stringify({ version: 1, methods })
}
