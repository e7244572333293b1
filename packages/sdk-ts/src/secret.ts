/** Handles of secrets: a program names one where it goes out, and never has its bytes. */

import type { Card } from './types.ts'

declare const kind: unique symbol

declare global {
  interface RequestInit {
    /** The card that a request is made by; left out: the birth card. */
    via?: Card
    /** Secrets by the slot that each stands in: `query.NAME`, `body.NAME` or `header.NAME`. */
    secrets?: Record<string, Secret>
  }
}

/** Stands where a header's value does; it is no text, and prints its name. */
export type Secret = string & { readonly [kind]: 'secret' }

const names = new WeakMap<object, string>()
const call = Function.prototype.call.bind(Function.prototype.call) as <T>(
  f: unknown,
  self: unknown,
  ...args: unknown[]
) => T
const { get, set } = WeakMap.prototype

class Handle {
  toString(): string {
    return `[secret ${call<string>(get, names, this)}]`
  }
  toJSON(): string {
    return this.toString()
  }
}

/**
 * The secret that the manifest calls `name`. Legal in its slot only: as the value of a header in the
 * `headers` of `fetch`, or in its `secrets`. The host fills it in after everything was decided.
 *
 *     await fetch('https://ledger.acme.example/accounts', { headers: { authorization: secret('ledger') } })
 *     await fetch('https://maps.example/v1/route', { secrets: { 'query.key': secret('maps') } })
 */
export function secret(name: string): Secret {
  const handle = Object.freeze(new Handle())
  call(set, names, handle, String(name))
  return handle as unknown as Secret
}

/** The name of a handle; undefined for anything else. */
export function secretName(value: unknown): string | undefined {
  return typeof value === 'object' && value !== null ? call<string | undefined>(get, names, value) : undefined
}
