/** A bound limited to some hosts: what a person means by limiting a card's egress. */
import { type Bound, MAX_CARD_BOXES, normalise } from './bound.ts'
import type { Box } from './box.ts'
import { type Cell, cellHas, cellLeq, cellMeet, exact } from './cell.ts'
import { CardError } from './errors.ts'
import { parseHostCell } from './names.ts'
import { DECLASSIFY } from './rules/declassify.ts'
import type { ToolRow, World } from './rules/state.ts'
import { sinkOfHost } from './sink.ts'

/**
 * What of a bound carries data to these hosts at most. Tools are named one by one, as they are declared
 * now: one that is declared later is not among them. Throws `BadGrant` for what is no host, and
 * `TooManyGrants`.
 *
 * @example
 * limitToHosts(world.tools, card.now, ['*.acme.example'])
 */
export function limitToHosts(tools: World['tools'], bound: Bound, hosts: readonly string[]): Bound {
  const cells = hosts.map((host) => parseHostCell(host, 'egress'))
  const boxes = bound.flatMap((box) => [...tools].flatMap(([name, tool]) => limited(box, name, tool, cells)))
  const met = normalise(boxes)
  if (met.length > MAX_CARD_BOXES)
    throw new CardError(
      'TooManyGrants',
      'egress',
      `${met.length} grants; a card holds at most ${MAX_CARD_BOXES}`,
    )
  return met
}

function limited(box: Box, name: string, { place, sinks }: ToolRow, hosts: readonly Cell[]): Box[] {
  if (!cellHas(box.tool, place)) return []
  // A wider grant never meant it (R8).
  if (name === DECLASSIFY && box.tool.kind !== 'exact') return []
  const only = { ...box, tool: box.tool.kind === 'exact' ? box.tool : exact(name.split('.')) }
  const allowed = hosts.flatMap((host) => sinkOfHost(host) ?? [])
  // A model is no host: who may only go to hosts asks none.
  if (sinks.includes('model')) return []
  const fixed = sinks.filter((sink) => sink !== 'host' && sink !== 'model')
  if (!fixed.every((sink) => allowed.some((cell) => cellLeq(sink, cell)))) return []
  if (fixed.length === sinks.length) return [only]
  return hosts.flatMap((host) => {
    const met = cellMeet(box.host, host)
    return met ? [{ ...only, host: met }] : []
  })
}
