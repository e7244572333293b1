/** From the arguments of an effect to what cards decide on. */
import { type EffectRequest, parseAmounts } from '@cardinal/cards'
import type { ToolSettings, Translated } from '@cardinal/tools'
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
): Asked | { readonly bad: string } | undefined {
  const found = ctx.findTool(tenant, tool)
  if (!found) return undefined
  const translated = found.translate(args, settings)
  if ('bad' in translated) return translated
  return { translated, request: effectRequest(tool, translated) }
}

export function effectRequest(
  tool: string,
  { request, cost }: Pick<Translated, 'request' | 'cost'>,
): EffectRequest {
  return {
    q: request,
    tool,
    spend: parseAmounts(cost.spend ?? {}, 'spend'),
    ...(cost.bytesOut > 0 && { takes: new Map([['bytesOut', BigInt(cost.bytesOut)]]) }),
  }
}
