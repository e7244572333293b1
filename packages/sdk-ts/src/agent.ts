/** What a program imports: the base class and the ways to act. */
import { type CardinalError, toError } from './errors.ts'
import { awaitEvent, effect, milliseconds, requireBirth, write } from './runtime.ts'
import type { Call, Card, Duration, Json, Method, Opts, Ref, Tools } from './types.ts'

/** Base class of every program: one instance for the whole life of an agent, its fields are its state. */
export abstract class Agent {
  /** The only entry points, by name. Nothing else can be called from outside. */
  static methods: Record<string, Method> = {}

  get self(): Ref {
    return { address: requireBirth().address }
  }
  get key(): string {
    return requireBirth().key
  }
  get card(): Card {
    const { id } = requireBirth().card
    return {
      id,
      tool: (name, args, options) => tool(name, args, { ...options, via: { id } as Card }),
      fetch: globalThis.fetch,
    }
  }
}

/**
 * Calls a tool. The effect leaves the sandbox only after its turn is durable, and its result comes
 * back in a later turn; after a crash it is neither lost nor done twice.
 */
export function tool<N extends keyof Tools>(
  name: N,
  args: Tools[N]['in'],
  options: Opts = {},
): Call<Tools[N]['out']> {
  const started = effect(String(name), args, options.via?.id)
  if (options.timeout === undefined) return started
  const late: CardinalError = toError({
    class: 'Unavailable',
    code: 'TimedOut',
    message: `no answer of \`${String(name)}\` within ${options.timeout}`,
  })
  const timer = effect('cardinal.sleep', { ms: milliseconds(options.timeout) })
  const raced = Promise.race([
    started.finally(() => timer.cancel()),
    timer.then(() => {
      started.cancel()
      throw late
    }),
  ])
  return Object.defineProperties(raced, {
    id: { value: started.id },
    cancel: { value: started.cancel },
  }) as Call<Json>
}

/** Waits durably: the wait survives a crash and costs no memory. */
export function sleep(duration: Duration): Promise<void> {
  return effect('cardinal.sleep', { ms: milliseconds(duration) }).then(() => undefined)
}

/** Resolves once, when somebody emits `name` to this agent. With `expires`, rejects with `Unavailable` after it. */
export function event<T = Json>(name: string, options: { expires?: Duration } = {}): Promise<T> {
  const arrived = awaitEvent(name) as Promise<T>
  if (options.expires === undefined) return arrived
  const timer = effect('cardinal.sleep', { ms: milliseconds(options.expires) })
  const late = toError({
    class: 'Unavailable',
    code: 'TimedOut',
    message: `no event \`${name}\` within ${options.expires}`,
  })
  return Promise.race([
    arrived.finally(() => timer.cancel()),
    timer.then(() => {
      throw late
    }),
  ])
}

/** Writes a line to the agent's log. Lines are part of the record and never leave the node by themselves. */
export function log(...parts: unknown[]): void {
  write('info', parts.map(show).join(' '))
}

/** Text of a logged value: strings as they are, errors with their stack, the rest as JSON. */
export function show(value: unknown): string {
  if (typeof value === 'string') return value
  if (value instanceof Error) return `${value.name}: ${value.message}\n${value.stack ?? ''}`.trimEnd()
  try {
    return JSON.stringify(value) ?? String(value)
  } catch {
    return String(value)
  }
}
