/** The options that every command has. */
import type { Command } from 'commander'
import { type Endpoint, findEndpoint, type Where } from './client.ts'
import { CliError } from './errors.ts'
import type { Format } from './output.ts'

export function formatOf(command: Command): Format {
  const { format } = command.optsWithGlobals() as { format?: string }
  if (format === undefined || format === 'text' || format === 'json') return format ?? 'text'
  throw new CliError('Usage', 'Usage', `\`--format ${format}\`: text or json`)
}

export function endpointOf(command: Command): Endpoint {
  return findEndpoint(command.optsWithGlobals() as Where)
}
