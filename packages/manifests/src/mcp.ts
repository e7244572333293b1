/** MCP servers as manifests declare them, and what was accepted of them. */
import { codec } from '@cardinal/cards'
import { isSecretName } from '@cardinal/secrets'
import { type McpAccepted, type McpServerDeclaration, mcpToolName } from '@cardinal/tools'
import type { McpServerDocument, McpToolsDocument } from './document.ts'
import { durationMs } from './duration.ts'
import { checkEgress } from './egress.ts'
import { ToolProblem } from './problem.ts'

const TIMEOUT_MS = 60_000

export function mcpServerOf({ metadata, spec }: McpServerDocument): McpServerDeclaration {
  const { stdio, http, timeout, effects, sinks, yields } = spec
  checkEgress(stdio?.egress, ['stdio', 'egress'])
  for (const kind of ['stdio', 'http'] as const) {
    const named = spec[kind]?.secret?.ref
    if (named !== undefined && !isSecretName(named))
      throw new ToolProblem(
        [kind, 'secret', 'ref'],
        `\`${named}\` is no name of a secret; one server has one for all agents`,
      )
  }
  for (const sink of sinks ?? [])
    try {
      codec.decodeFlow({ sinks: [sink] })
    } catch (error) {
      throw new ToolProblem(['sinks'], (error as Error).message)
    }
  return {
    name: metadata.name,
    ...(stdio && { stdio }),
    ...(http && { http }),
    ...(effects && { effects }),
    ...(sinks && { sinks }),
    ...(yields && { yields }),
    timeoutMs: timeout === undefined ? TIMEOUT_MS : durationMs(timeout),
  }
}

export function mcpAcceptedOf({ metadata, spec }: McpToolsDocument): McpAccepted {
  const names = new Map<string, string>()
  for (const [i, { name }] of spec.tools.entries()) {
    const known = mcpToolName(metadata.name, name)
    const other = names.get(known)
    if (other !== undefined)
      throw new ToolProblem(['tools', i, 'name'], `\`${name}\` and \`${other}\` would both be \`${known}\``)
    names.set(known, name)
  }
  return { name: metadata.name, ...(spec.integrity && { integrity: spec.integrity }), tools: spec.tools }
}
