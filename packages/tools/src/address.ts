/** Which network addresses an effect may reach, whatever a card says. */
import { lookup as dnsLookup, type LookupAddress } from 'node:dns'
import ipaddr from 'ipaddr.js'

/** An operator's word that some names may resolve into some private ranges. */
export interface Zone {
  readonly name: string
  readonly hosts: readonly string[]
  /** CIDR ranges, as `10.1.0.0/16`. */
  readonly ranges: readonly string[]
}

/** An operator's word that nobody reaches some names and ranges. */
export interface Network {
  readonly name: string
  /** Hosts, as `a.example` and `*.example`, and CIDR ranges. */
  readonly deny: readonly string[]
}

export interface EgressPolicy {
  /** Networks in force now. */
  readonly networks: () => readonly Network[]
  /** Grows with every change of zones or networks: connections that are open were made under older ones. */
  readonly version: () => number
  /** Zones in force now. */
  readonly zones: () => readonly Zone[]
  /** Ports on which this node itself listens. */
  readonly ownPorts: () => ReadonlySet<number>
}

export class EgressDenied extends Error {
  readonly code = 'EGRESS_DENIED'
}

/** Metadata services answer here; no zone opens them. */
const NEVER = [
  '169.254.0.0/16',
  'fe80::/10',
  'fd00:ec2::254/128',
  '100.100.100.200/32',
  '0.0.0.0/8',
  '::/128',
]

type Address = ipaddr.IPv4 | ipaddr.IPv6

function inRange(address: Address, cidr: string): boolean {
  const [base, bits] = ipaddr.parseCIDR(cidr)
  return (
    address.kind() === base.kind() &&
    address.match([base, bits] as [ipaddr.IPv4, number] & [ipaddr.IPv6, number])
  )
}

export function isRange(text: string): boolean {
  return ipaddr.isValidCIDR(text)
}

export function isLiteral(host: string): boolean {
  return ipaddr.isValid(host)
}

/** What an operator may deny: a host as it stands in URLs, `*.suffix`, `*`, an address, or a range. */
export function isDeniable(text: string): boolean {
  if (isLiteral(text)) return true
  // Addresses are looked at as IPv4 wherever they are: such a range would match nothing.
  if (isRange(text)) return !isMapped(text)
  const host = /^(\*|(\*\.)?([a-z0-9_-]+\.)*[a-z0-9_-]+)$/.test(text)
  // A name that ends in a number is an address in another spelling, and never stands in a URL.
  return host && !/(^|\.)(\d+|0x[0-9a-f]*)$/.test(text)
}

function isMapped(range: string): boolean {
  const [base] = ipaddr.parseCIDR(range)
  return base.kind() === 'ipv6' && (base as ipaddr.IPv6).isIPv4MappedAddress()
}

function denied(policy: EgressPolicy): readonly string[] {
  return policy.networks().flatMap(({ deny }) => deny)
}

/** Throws `EgressDenied` where the operator denies the name to all. */
export function checkHost(host: string, policy: EgressPolicy): void {
  const name = host.replace(/\.$/, '')
  const hit = (entry: string) =>
    entry === '*' || entry === name || (entry.startsWith('*.') && name.endsWith(entry.slice(1)))
  if (denied(policy).some(hit)) throw new EgressDenied(`\`${host}\` is denied to all by the operator`)
}

/** Whether a denied address or range holds an address. */
function holdsAddress(entry: string, address: Address): boolean {
  if (isRange(entry)) return inRange(address, entry)
  return isLiteral(entry) && ipaddr.process(entry).toNormalizedString() === address.toNormalizedString()
}

/** Throws `EgressDenied` unless `host`, which resolved to `text`, may be reached on `port`. */
export function checkAddress(host: string, text: string, port: number, policy: EgressPolicy): void {
  const address = ipaddr.process(text)
  checkHost(host, policy)
  if (denied(policy).some((entry) => holdsAddress(entry, address)))
    throw new EgressDenied(`\`${host}\` resolves to an address that the operator denies to all`)
  if (NEVER.some((range) => inRange(address, range)))
    throw new EgressDenied(`\`${host}\` resolves to an address that no agent may reach`)
  const loopback = address.range() === 'loopback'
  if (loopback && policy.ownPorts().has(port))
    throw new EgressDenied(`\`${host}:${port}\` is this node itself`)
  if (address.range() === 'unicast') return
  const zone = policy
    .zones()
    .find((z) => z.hosts.includes(host) && z.ranges.some((range) => inRange(address, range)))
  if (!zone) throw new EgressDenied(`\`${host}\` resolves into a private range, and no zone says that it may`)
}

type Callback = (error: Error | null, address: string | LookupAddress[], family?: number) => void

/** A resolver whose every answer is checked; one forbidden address among several refuses them all. */
export function checkedLookup(policy: EgressPolicy, portOf: (host: string) => number) {
  return (host: string, options: { all?: boolean | undefined }, callback: Callback): void => {
    dnsLookup(host, { all: true, verbatim: true }, (error, addresses) => {
      if (error) return callback(error, '')
      try {
        for (const { address } of addresses) checkAddress(host, address, portOf(host), policy)
      } catch (denied) {
        return callback(denied as Error, '')
      }
      const [first] = addresses
      if (!first) return callback(new EgressDenied(`\`${host}\` has no address`), '')
      if (options.all) callback(null, [first])
      else callback(null, first.address, first.family)
    })
  }
}
