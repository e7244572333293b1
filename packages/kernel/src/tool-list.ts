/** Which tools there are, and which of them an agent's cards let it call. */
import { type AgentRow, type Bound, ceilingTerms, cellHas, isLive, type World } from '@cardinal/cards'
import { infoOf, type Tool, type ToolInfo } from '@cardinal/tools'

/**
 * The tools that some live card of an agent names, within what it may ever do: no more, and not how far each
 * goes; that is told by `explain`.
 */
export function toolsWithin(world: World, row: AgentRow, tools: readonly Tool[]): ToolInfo[] {
  const cards = [...row.held].filter((card) => isLive(world, card))
  const ceilings = ceilingTerms(world, row)
  const names = (bound: Bound, place: readonly string[]) => bound.some((box) => cellHas(box.tool, place))
  return tools
    .filter(({ name }) => {
      const place = name.split('.')
      return cards.some(({ now }) => names(now, place)) && ceilings.every((bound) => names(bound, place))
    })
    .map(infoOf)
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}
