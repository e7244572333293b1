/** The options that every command has, and what numbers in options may be. */
import { type Command, InvalidArgumentError } from 'commander'
import { type Endpoint, findEndpoint, type Where } from './client.ts'
import type { Format } from './output.ts'

export function formatOf(command: Command): Format {
  return command.optsWithGlobals().format === 'json' ? 'json' : 'text'
}

export function endpointOf(command: Command): Endpoint {
  return findEndpoint(command.optsWithGlobals() as Where)
}

/** Parses an option while the command line is read, so that a mistake in it stops everything. */
export function whole(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
    if (value >= least && value <= most) return value
    throw new InvalidArgumentError(
      most === Number.MAX_SAFE_INTEGER
        ? `a whole number from ${least} on is needed`
        : `a whole number from ${least} to ${most} is needed`,
    )
  }
}

/** A header can carry no more than this; an empty key would be one key for everybody. */
export function requestKey(text: string): string {
  if (/^[\x21-\x7e]{1,256}$/.test(text)) return text
  throw new InvalidArgumentError('a key is 1 to 256 printable ASCII characters without spaces')
}

/** How far back, in milliseconds, as `10m`. */
export function duration(text: string): number {
  const match = /^(\d{1,9})(s|m|h|d)$/.exec(text)
  if (!match) throw new InvalidArgumentError('a duration is needed, as 30s, 10m, 2h or 7d')
  return Number(match[1]) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[match[2] as 's']
}
