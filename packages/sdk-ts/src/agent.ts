/** What a program imports: the base class and the ways to act. */
import { birthCard, callToolsBy, viaOf } from './cards.ts'
import { declassified } from './declassified.ts'
import { toError } from './errors.ts'
import { awaitEvent, effect, milliseconds, requireBirth, silenced, write } from './runtime.ts'
import { show } from './show.ts'
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
    return birthCard()
  }
}

/**
 * Calls a tool. The effect leaves the sandbox only after its turn is durable, and its result comes
 * back in a later turn; after a crash it is neither lost nor done twice. With `timeout`, rejects with
 * `Indeterminate` after it: what was sent may be done all the same.
 */
export function tool<N extends keyof Tools>(
  name: N,
  args: Tools[N]['in'],
  options: Opts = {},
): Call<Tools[N]['out']> {
  for (const only of ['after', 'detach', 'under', 'admits', 'key'] as const)
    if (options[only] !== undefined) throw new TypeError(`\`${only}\` is for calls of agents, not of tools`)
  const started = effect(String(name), args, viaOf(options.via))
  if (options.timeout === undefined) return started
  const late = toError({
    class: 'Indeterminate',
    code: 'TimedOut',
    message: `no answer of \`${String(name)}\` within ${options.timeout}; whether it was done is unknown`,
  })
  const timed = within(started, options.timeout, late, () => void started.cancel())
  return Object.defineProperties(timed, {
    id: { value: started.id },
    cancel: { value: started.cancel },
  }) as Call<Json>
}

callToolsBy((name, args, options) => tool(name, args, options) as Call<Json>)

/** Settles as `awaited` does, or rejects with `late` after `duration`, whichever is first. */
function within<T>(awaited: Promise<T>, duration: Duration, late: Error, giveUp: () => void): Promise<T> {
  const timer = effect('cardinal.sleep', { ms: milliseconds(duration) })
  const settled = new Promise<T>((resolve, reject) => {
    // Settled before the timer is cancelled: its own rejection must not come first.
    awaited.then(
      (value) => {
        resolve(value)
        void timer.cancel()
      },
      (error) => {
        reject(error)
        void timer.cancel()
      },
    )
    timer.then(() => {
      reject(late)
      giveUp()
    }, reject)
  })
  return silenced(settled)
}

/**
 * Makes the result of a method few bits that are passed on whatever the agent has read, if its card
 * grants `agent.declassify` for this method and value; each such answer takes of the limit `bits`.
 * Legal only as what the method returns. One that the card does not allow is an answer like any other.
 *
 *     async isFraud({ client }: { client: string }) {
 *       const rows = await tool('ledger.query', { client })
 *       return declassify(looksOdd(rows) ? 'yes' : 'no')
 *     }
 */
export function declassify<T extends string | number | boolean>(value: T, options: { via?: Card } = {}): T {
  return declassified(value, viaOf(options.via)) as unknown as T
}

/** Waits durably: the wait survives a crash and costs no memory. */
export function sleep(duration: Duration): Promise<void> {
  return effect('cardinal.sleep', { ms: milliseconds(duration) }).then(() => undefined)
}

/** Resolves once, when somebody emits `name` to this agent. With `expires`, rejects with `Unavailable` after it. */
export function event<T = Json>(name: string, options: { expires?: Duration } = {}): Promise<T> {
  const { arrived, forget } = awaitEvent(name)
  if (options.expires === undefined) return arrived as Promise<T>
  const late = toError({
    class: 'Unavailable',
    code: 'TimedOut',
    message: `no event \`${name}\` within ${options.expires}`,
  })
  return within(arrived as Promise<T>, options.expires, late, forget)
}

/** Writes a line to the agent's log. Lines are part of the record and never leave the node by themselves. */
export function log(...parts: unknown[]): void {
  write('info', parts.map(show).join(' '))
}
