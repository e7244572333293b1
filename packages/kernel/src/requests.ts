/** From the arguments of an effect to what cards decide on. */
import { type EffectRequest, parseAmounts } from '@cardinal/cards'
import type { BadArguments, Tool, ToolSettings, Translated, WireError } from '@cardinal/tools'
import type { Context } from './context.ts'

/** An effect on the outside world, ready to be decided. */
export interface Asked {
  readonly translated: Translated
  readonly request: EffectRequest
}

/** The request that a tool makes of arguments; `bad` says what is wrong with them. */
export function requestOf(
  ctx: Pick<Context, 'findTool'>,
  tenant: string,
  tool: string,
  args: unknown,
  settings: ToolSettings,
): Asked | BadArguments | undefined {
  const found = ctx.findTool(tenant, tool)
  if (!found) return undefined
  const translated = translate(found, args, settings)
  if ('bad' in translated) return translated
  return { translated, request: effectRequest(tool, translated) }
}

/**
 * Arguments are the guest's: what a tool cannot make a request of is no request, and nothing that ends the
 * node, whose record would end the next one, too.
 */
function translate(tool: Tool, args: unknown, settings: ToolSettings): ReturnType<Tool['translate']> {
  try {
    return tool.translate(args, settings)
  } catch (error) {
    return { bad: `arguments that it makes no request of (${(error as Error).name})` }
  }
}

/** What an agent is told of arguments that are no request. */
export function badArguments(tool: string, { bad, code }: BadArguments): WireError {
  const message = `\`${tool}\` was given ${bad}`
  if (code !== undefined) return { class: 'Refused', code, by: 'card', message }
  return { class: 'Malformed', code: 'BadArguments', message }
}

function takenOf({ bytesOut, tokens = 0 }: Translated['cost']): Pick<EffectRequest, 'takes'> {
  const takes: [string, bigint][] = []
  if (bytesOut > 0) takes.push(['bytesOut', BigInt(bytesOut)])
  if (tokens > 0) takes.push(['tokens', BigInt(tokens)])
  return takes.length > 0 ? { takes: new Map(takes) } : {}
}

export function effectRequest(
  tool: string,
  { request, cost }: Pick<Translated, 'request' | 'cost'>,
): EffectRequest {
  return {
    q: request,
    tool,
    spend: parseAmounts(cost.spend ?? {}, 'spend'),
    ...takenOf(cost),
  }
}
