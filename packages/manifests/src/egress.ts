/** Grants that reach out: what is wrong with them before anybody's card is made of them. */
import { CardError } from '@cardinal/cards'
import { type EgressGrant, egressBound } from '@cardinal/tools'
import { parse as parseName } from 'tldts'
import { ToolProblem } from './problem.ts'

/** Throws `ToolProblem` where the way out of a program is none, or leads to names that anybody may have. */
export function checkEgress(
  grants: readonly EgressGrant[] | undefined,
  at: readonly (string | number)[],
): void {
  if (!grants) return
  try {
    egressBound(grants, 'egress')
  } catch (error) {
    if (!(error instanceof CardError)) throw error
    const [, index, field] = /^egress(?:\[(\d+)\])?\.?(.*)$/.exec(error.path) ?? []
    const place = [...(index === undefined ? [] : [Number(index)]), ...(field ? [field] : [])]
    throw new ToolProblem([...at, ...place], error.message)
  }
  for (const [i, grant] of grants.entries()) {
    const host = String(grant.host)
    const suffix = suffixOf(grant)
    if (suffix !== undefined) throw new ToolProblem([...at, i, 'host'], belowSuffix(suffix))
    if (host === '*')
      throw new ToolProblem([...at, i, 'host'], 'a program has no way out to everywhere: name the hosts')
    const read = URL.parse(`http://${host}`)?.hostname
    if (!host.startsWith('*.') && read !== host)
      throw new ToolProblem(
        [...at, i, 'host'],
        `\`${host}\` would match no request; it is written \`${read}\``,
      )
  }
}

/** The public suffix, as `com` or `github.io`, below which a grant would reach every name. */
export function suffixOf(grant: object): string | undefined {
  const hosts = [(grant as { host?: unknown }).host].flat()
  return hosts
    .flatMap((host) => (typeof host === 'string' && host.startsWith('*.') ? [host.slice(2)] : []))
    .find((name) => {
      const { publicSuffix, isIcann, isPrivate } = parseName(name, { allowPrivateDomains: true })
      return publicSuffix === name && (isIcann === true || isPrivate === true)
    })
}

export function belowSuffix(suffix: string): string {
  return `anybody may have a name below \`${suffix}\`: name the hosts, or a suffix that is somebody's`
}
