/** Tools as the rules know them. */
import { codec, DECLASSIFY, type GrantDefaults, type World } from '@cardinal/cards'
import type { Tool } from '@cardinal/tools'

/** What agents do to one another has no sinks: it is joined into whoever receives it. */
export function toolRows(tools: readonly Tool[]): World['tools'] {
  const rows: World['tools'] = new Map()
  for (const name of ['agent.invoke', 'agent.send', 'agent.spawn', DECLASSIFY])
    rows.set(name, { place: name.split('.'), sinks: [], yields: [] })
  for (const { name, sinks, yields } of tools) {
    const cells = sinks.map((sink) =>
      sink === '{host}' ? 'host' : sink === '{model}' ? 'model' : sinkOf(sink),
    )
    rows.set(name, { place: name.split('.'), sinks: cells, yields })
  }
  return rows
}

function sinkOf(text: string) {
  const [cell] = codec.decodeFlow({ sinks: [text] }).sinks
  if (!cell) throw new Error('a sink is a cell')
  return cell
}

/** What a grant for acts between agents must write: without it, it would match nothing. */
export function defaultsOfAgents(tool: string): GrantDefaults | undefined {
  if (tool === 'agent.spawn') return { required: ['resource'] }
  if (tool === DECLASSIFY) return { required: ['resource', 'method'], requiredArgs: ['value'] }
  return tool.startsWith('agent.') ? { required: ['resource', 'method'] } : undefined
}
