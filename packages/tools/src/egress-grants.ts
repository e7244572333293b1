/**
 * Where a program in the sandbox may go: the tool's own card, which the operator writes beside its command.
 * Each request that it makes is decided by it, method and path included; none of it is its agent's.
 */
import { type Bound, CardError, cellHas, parseGrants } from '@cardinal/cards'

/** A grant for `http.fetch` as a manifest writes it, without its tool: `{ host: api.example, path: /v1/* }`. */
export type EgressGrant = Readonly<Record<string, unknown>>

const DEFAULTS = { scheme: ['https'], port: [443], method: ['GET', 'HEAD'] }
const FIELDS = new Set(['scheme', 'host', 'port', 'method', 'path'])

/** Throws `CardError` where something is no grant. Any arguments go: what is bounded is where they go to. */
export function egressBound(grants: readonly EgressGrant[], path: string): Bound {
  const written = grants.map((grant, i) => {
    const odd = Object.keys(grant).find((field) => !FIELDS.has(field))
    if (odd !== undefined)
      throw new CardError('BadGrant', `${path}[${i}].${odd}`, `a way out has ${[...FIELDS].join(', ')}`)
    if (typeof grant.host !== 'string') throw new CardError('BadGrant', `${path}[${i}].host`, 'a host')
    return { path: '/*', ...grant, tool: 'http.fetch', args: '*' }
  })
  return parseGrants(written, path, () => ({ ...DEFAULTS, args: {} }))
}

/** Whether any grant is for this host and port, whatever the request. */
export function namesHost(bound: Bound, host: readonly string[], port: number): boolean {
  return bound.some((box) => cellHas(box.host, host) && (box.port === '*' || box.port.has(String(port))))
}

/** The hosts that what the program was given can be carried to. */
export function sinksOfEgress(grants: readonly EgressGrant[] = []): string[] {
  return [...new Set(grants.map(({ host }) => String(host)))]
}
