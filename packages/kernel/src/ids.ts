/** Names of agents, invocations and effects, parsed once at the boundary. */
import { randomUUID } from 'node:crypto'
import { KernelError } from './errors.ts'

export interface Address {
  readonly tenant: string
  readonly type: string
  readonly key: string
}

export type InvocationId = string & { readonly __brand: 'InvocationId' }
/** `seq.index`: the turn that asked for it, and which of its effects. */
export type EffectId = string & { readonly __brand: 'EffectId' }

const TIME_DIGITS = 11

/**
 * Names an invocation: when it was taken in (milliseconds, 44 bits), so that rows in order of their
 * ids lie together, and 52 random bits. Those come from a UUID, for which Node keeps entropy ready.
 */
export function newInvocationId(nowMs: number): InvocationId {
  const uuid = randomUUID()
  const time = Math.floor(nowMs).toString(16).padStart(TIME_DIGITS, '0').slice(-TIME_DIGITS)
  // Without the digits that say which kind of UUID it is.
  return `inv_${time}${uuid.slice(0, 8)}${uuid.slice(31, 36)}` as InvocationId
}

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
const KEY = /^[A-Za-z0-9._~@-]{1,128}$/
const EFFECT = /^(\d{1,15})\.(\d{1,5})$/

export function parseAddress(text: string, tenant?: string): Address {
  const parts = text.split('/')
  const [t, type = '', key = ''] = parts.length === 2 && tenant !== undefined ? [tenant, ...parts] : parts
  if (
    parts.length > 3 ||
    t === undefined ||
    !NAME.test(t) ||
    !NAME.test(type) ||
    !KEY.test(key) ||
    /^\.+$/.test(key)
  ) {
    throw new KernelError('Malformed', 'BadAddress', `\`${text}\` is no address; write tenant/type/key`)
  }
  return { tenant: t, type, key }
}

export function showAddress({ tenant, type, key }: Address): string {
  return `${tenant}/${type}/${key}`
}

export function effectId(seq: number, index: number): EffectId {
  return `${seq}.${index}` as EffectId
}

/** `tenant/type/key@seq.index`. */
export function parseEffectRef(
  text: string,
  tenant?: string,
): { address: Address; effect: EffectId; seq: number; index: number } {
  const at = text.lastIndexOf('@')
  const match = EFFECT.exec(text.slice(at + 1))
  if (at < 0 || !match)
    throw new KernelError(
      'Malformed',
      'BadEffect',
      `\`${text}\` is no effect; write tenant/type/key@turn.index`,
    )
  return {
    address: parseAddress(text.slice(0, at), tenant),
    effect: match[0] as EffectId,
    seq: Number(match[1]),
    index: Number(match[2]),
  }
}
