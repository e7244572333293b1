/** Models as manifests declare them. */
import { isSecretName } from '@cardinal/secrets'
import type { ModelDeclaration } from '@cardinal/tools'
import type { ModelDocument } from './document.ts'
import { durationMs } from './duration.ts'
import { ToolProblem } from './problem.ts'

const MAX_TOKENS = 4096
const TIMEOUT_MS = 120_000

export function modelOf({ metadata, spec }: ModelDocument): ModelDeclaration {
  const { timeout, maxTokens = MAX_TOKENS, ...rest } = spec
  if (spec.secret && !isSecretName(spec.secret.ref.replaceAll('{key}', 'k')))
    throw new ToolProblem(['secret', 'ref'], `\`${spec.secret.ref}\` is no name of a secret`)
  if (spec.provider === 'compatible' && spec.url === undefined)
    throw new ToolProblem(['provider'], 'say in `url` where a compatible endpoint is')
  return {
    name: metadata.name,
    ...rest,
    maxTokens,
    timeoutMs: timeout === undefined ? TIMEOUT_MS : durationMs(timeout),
  }
}
