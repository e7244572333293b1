/** Middleware as a manifest declares it: durations become milliseconds, and defaults are written out. */
import { CardError, encodeBudgets, type LimitNames, parseCardLimits } from '@cardinal/cards'
import { type MiddlewareDeclaration, parsePath, wrongRedaction } from '@cardinal/middleware'
import type { MiddlewareDocument } from './document.ts'
import { durationMs } from './duration.ts'
import { ToolProblem } from './problem.ts'
import { componentOf, type DigestOf } from './tools.ts'

const PER_MS = { second: 1000, minute: 60_000, hour: 3_600_000, day: 86_400_000 } as const
const MAX_WAIT_MS = 60_000
const RETRY_FIRST_MS = 200
const RETRY_MOST_MS = 10_000

export function middlewareOf(
  { metadata, spec }: MiddlewareDocument,
  digestOf: DigestOf,
): MiddlewareDeclaration {
  const { rateLimit, budget, retry, cache, approval, dryRun, wasm, ...rest } = spec
  for (const side of ['args', 'answer'] as const)
    spec.redact?.[side]?.forEach((one, i) => {
      const wrong = wrongRedaction(one)
      if (wrong) throw new ToolProblem(['redact', side, i], wrong)
    })
  const odd = spec.tools?.findIndex((tool) => /^(agent|cards|cardinal)\./.test(tool)) ?? -1
  if (odd >= 0)
    throw new ToolProblem(
      ['tools', odd],
      'middleware stands before tools; what agents do to one another is decided by their cards',
    )
  if (rateLimit?.wait !== undefined && durationMs(rateLimit.wait) > MAX_WAIT_MS)
    throw new ToolProblem(['rateLimit', 'wait'], 'an effect waits 60s at most')
  if (approval?.people !== undefined && approval.roles.length !== 1)
    throw new ToolProblem(
      ['approval', 'people'],
      'several people approve in one role; several roles are several people',
    )
  const { arg } = approval?.when ?? {}
  if (arg !== undefined && (arg.includes('*') || !parsePath(arg)))
    throw new ToolProblem(['approval', 'when', 'arg'], `\`${arg}\` is no path of one argument`)
  return {
    name: metadata.name,
    ...rest,
    ...(rateLimit && { rateLimit: rateOf(rateLimit) }),
    ...(budget && { budget: budgetOf(budget) }),
    ...(retry && {
      retry: {
        times: retry.times,
        firstMs: retry.first === undefined ? RETRY_FIRST_MS : durationMs(retry.first),
        mostMs: retry.most === undefined ? RETRY_MOST_MS : durationMs(retry.most),
      },
    }),
    ...(wasm && {
      wasm: { ...componentOf(wasm, digestOf), ...(wasm.with !== undefined && { with: wasm.with }) },
    }),
    ...(cache && { cache: { forMs: durationMs(cache.for) } }),
    ...(dryRun && { dryRun: { answer: dryRun.answer ?? null } }),
    ...(approval && {
      approval: {
        roles: approval.roles,
        ...(approval.people !== undefined && { people: approval.people }),
        ...(approval.expires !== undefined && { expiresMs: durationMs(approval.expires) }),
        ...(approval.when && { when: approval.when }),
      },
    }),
  }
}

function rateOf({ calls, per, by = 'agent', wait }: NonNullable<MiddlewareDocument['spec']['rateLimit']>) {
  return { calls, perMs: PER_MS[per], by, ...(wait !== undefined && { waitMs: durationMs(wait) }) }
}

const COUNTED: LimitNames = { counts: ['calls', 'asks', 'tokens'], sizes: ['bytesOut'], periods: false }

function budgetOf({ by = 'agent', per, ...most }: NonNullable<MiddlewareDocument['spec']['budget']>) {
  try {
    return { by, per, most: encodeBudgets(parseCardLimits(most, 'budget', COUNTED).budgets) }
  } catch (error) {
    if (!(error instanceof CardError)) throw error
    throw new ToolProblem(['budget', ...error.path.split('.').slice(1)], error.message)
  }
}
