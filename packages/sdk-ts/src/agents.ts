/** Other agents: calling them, and making them. */
import { handleOf, viaOf } from './cards.ts'
import { effect, milliseconds, requireBirth } from './runtime.ts'
import type { Call, Card, Duration, Json, Narrow, Opts, Stub } from './types.ts'

type Type<A> = (new () => A) | string

const WORD = /([a-z0-9])([A-Z])/g

/** The name of an agent's type: as it is written, or that of its class, in kebab case. */
function typeName(type: unknown): string {
  if (typeof type === 'string') return type
  const name = (type as { name?: unknown }).name
  if (typeof type !== 'function' || typeof name !== 'string' || name === '')
    throw new TypeError('a type of agent is its class or its name')
  return name.replace(WORD, '$1-$2').toLowerCase()
}

function delay(after: Duration | undefined, name: 'afterMs' | 'timeoutMs'): object {
  return after === undefined ? {} : { [name]: milliseconds(after) }
}

function send(to: string, method: string, input: unknown, o: Opts = {}): Call<Json> {
  const args = {
    to,
    method,
    args: input === undefined ? null : input,
    ...(o.key !== undefined && { key: o.key }),
    ...(o.under !== undefined && { under: handleOf(o.under) }),
    ...(o.admits !== undefined && { admits: o.admits }),
    ...delay(o.after, 'afterMs'),
    ...delay(o.timeout, 'timeoutMs'),
  }
  return effect(o.detach ? 'agent.send' : 'agent.invoke', args, viaOf(o.via))
}

function stubOf<A>(address: string): Stub<A> {
  return new Proxy(Object.freeze({ address }), {
    get(target, name) {
      if (name === 'address') return target.address
      // What a promise or JSON asks every object for is no method of an agent.
      if (typeof name !== 'string' || name === 'then' || name === 'toJSON') return undefined
      return (input?: unknown, options?: Opts) => send(address, name, input, options)
    },
  }) as unknown as Stub<A>
}

/**
 * An agent by its type and key: each of its methods is a call. A call is delivered exactly once, crashes
 * included, and rejects with `Refused`, `Stopped`, `Unavailable` or what the other agent threw.
 */
export function agent<A>(type: Type<A>, key: string): Stub<A> {
  const [tenant] = requireBirth().address.split('/')
  return stubOf<A>(`${tenant}/${typeName(type)}/${key}`)
}

/**
 * Makes an agent with cards that are narrower than this one's. It is born and has them in one step; it
 * ends with the invocation that made it, unless `keep` says otherwise.
 */
export async function spawn<A>(
  type: Type<A>,
  o: { card: Narrow | Narrow[]; key?: string; keep?: boolean; via?: Card },
): Promise<Stub<A>> {
  const args = {
    type: typeName(type),
    cards: Array.isArray(o.card) ? o.card : [o.card],
    ...(o.key !== undefined && { key: o.key }),
    ...(o.keep && { keep: true }),
  }
  const born = (await effect('agent.spawn', args, viaOf(o.via))) as { address: string }
  return stubOf<A>(born.address)
}
