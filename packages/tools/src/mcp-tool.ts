/** A tool of an MCP server: its arguments checked as it described them, its answers untrusted. */
import type { GrantDefaults } from '@cardinal/cards'
import type { OpenSecret } from '@cardinal/secrets'
import { wrongAnswer } from './answer-schema.ts'
import { checkedPart } from './foreign-schema.ts'
import type { McpToolDeclaration } from './mcp-declaration.ts'
import { McpProblem, type McpServers, nameOf } from './mcp-servers.ts'
import { placeOfSecret } from './secret-slot.ts'
import type { Attempt, EffectClass, Receipt, Tool, WireError } from './tool.ts'

/** What a grant for a tool of a server fills in. */
export function mcpDefaults({ server, tool }: McpToolDeclaration): GrantDefaults {
  const { required } = checkedPart(tool.inputSchema)
  return {
    required: secretOf(server) ? ['secret'] : [],
    requiredArgs: required ?? [],
    irreversible: effectOf(server, tool.name) === 'once',
  }
}

type ClientFor = (
  ...of: Parameters<McpServers['clientFor']> extends [string, ...infer Rest] ? Rest : never
) => ReturnType<McpServers['clientFor']>

export function mcpTool(declaration: McpToolDeclaration, servers: McpServers, tenant: string): Tool {
  const clientFor: ClientFor = (...of) => servers.clientFor(tenant, ...of)
  const { name, server, tool, digest } = declaration
  const input = checkedPart(tool.inputSchema)
  const effectClass = effectOf(server, tool.name)
  return {
    name,
    about: tool.description ?? tool.name,
    version: digest.slice(0, 16),
    defaults: mcpDefaults(declaration),
    input: tool.inputSchema,
    output: outputOf(tool),
    effect: effectClass,
    // What a server does with them nobody here sees.
    sinks: server.sinks ?? ['*'],
    yields: [...new Set(['untrusted', ...(server.yields ?? [])])],
    translate: (args, { key }) => {
      if (typeof args !== 'object' || args === null || Array.isArray(args))
        return { bad: 'no object of arguments' }
      const wrong = wrongAnswer(input, args)
      if (wrong !== undefined) return { bad: `arguments that are not as it describes them, at ${wrong}` }
      const ref = secretOf(server)?.replaceAll('{key}', key)
      const secret = ref === undefined ? {} : { secret: placeOfSecret(ref) }
      const request = { tool: name.split('.'), args: new Map(Object.entries(args)), ...secret }
      return {
        request,
        cost: { calls: 1, bytesOut: JSON.stringify(args).length },
        effectClass,
        plan: { args, ref },
      }
    },
    perform: (plan, attempt) => perform(declaration, effectClass, plan as Plan, attempt, clientFor),
  }
}

/** The structured part is as its server describes it; it is not checked here. */
function outputOf({ outputSchema }: McpToolDeclaration['tool']): object {
  return {
    type: 'object',
    properties: {
      content: { type: 'array', items: {} },
      ...(outputSchema && { structured: outputSchema }),
      isError: { type: 'boolean' },
    },
    required: ['content'],
  }
}

interface Plan {
  readonly args: Record<string, unknown>
  readonly ref: string | undefined
}

function secretOf({ stdio, http }: McpToolDeclaration['server']): string | undefined {
  return stdio?.secret?.ref ?? http?.secret?.ref
}

function effectOf({ effects }: McpToolDeclaration['server'], tool: string): EffectClass {
  return (effects && Object.hasOwn(effects, tool) ? effects[tool] : undefined) ?? 'once'
}

async function perform(
  { server, tool, digest }: McpToolDeclaration,
  effectClass: EffectClass,
  { args, ref }: Plan,
  attempt: Attempt,
  clientFor: ClientFor,
): Promise<Receipt> {
  const secret = ref === undefined ? undefined : await attempt.secret(ref)
  if (secret && 'class' in secret) return { ok: false, error: secret }
  if (secret && !secret.masker)
    return failed(
      'Refused',
      'SecretTooShort',
      `secret \`${secret.ref}\` is too short to be found in an answer`,
      'middleware',
    )
  if (secret?.masker?.maskText(JSON.stringify(args)) !== undefined)
    return failed('Refused', 'SecretByValue', `secret \`${ref}\` stands in the arguments`, 'middleware')
  let client: Awaited<ReturnType<ClientFor>>
  try {
    client = await clientFor(server, secret, tool.name, digest)
  } catch (error) {
    if (!(error instanceof McpProblem)) throw error
    const { code, message } = error
    return code === 'NoServer'
      ? failed('Unavailable', code, message)
      : failed('Refused', code, message, 'middleware')
  }
  await attempt.started()
  try {
    const result = await client.callTool(
      { name: tool.name, arguments: args },
      { timeout: server.timeoutMs, maxTotalTimeout: server.timeoutMs, signal: attempt.signal },
    )
    return shownTo(result, secret, effectClass, attempt)
  } catch (error) {
    return failure(error, effectClass, attempt)
  }
}

/** What the agent sees: content and structured content, with nothing of the secret in it. */
function shownTo(
  {
    content,
    structuredContent,
    isError,
  }: { content?: unknown; structuredContent?: unknown; isError?: unknown },
  secret: OpenSecret | undefined,
  effectClass: EffectClass,
  attempt: Attempt,
): Receipt {
  const value = {
    content: content ?? [],
    ...(structuredContent !== undefined && { structured: structuredContent }),
    ...(isError === true && { isError: true }),
  }
  const masked = secret?.masker?.maskText(JSON.stringify(value))
  if (masked === undefined) return { ok: true, value }
  attempt.masked(secret as OpenSecret)
  try {
    return { ok: true, value: JSON.parse(masked) }
  } catch {
    const cls = effectClass === 'read' ? 'Unavailable' : 'Withheld'
    return failed(cls, 'SecretScan', 'the answer holds the secret in a form that cannot be taken out of it')
  }
}

/** Codes of JSON-RPC by which a server says that it has done nothing. */
const NOT_DONE = new Set([-32700, -32600, -32601, -32602])

function failure(error: unknown, effectClass: EffectClass, attempt: Attempt): Receipt {
  const { code } = error as { code?: unknown }
  if (NOT_DONE.has(code as number))
    return failed('Unavailable', 'ToolRefused', `the server takes no such call (${String(code)})`)
  if (effectClass === 'read') {
    if (attempt.signal.aborted) return failed('Cancelled', 'Cancelled', 'cancelled before it was answered')
    return failed('Unavailable', 'ToolFailed', `the server gave no answer (${nameOf(error)})`)
  }
  return failed(
    'Indeterminate',
    'Indeterminate',
    `the server gave no answer (${nameOf(error)}); whether it was done is unknown`,
  )
}

function failed(cls: WireError['class'], code: string, message: string, by?: string): Receipt {
  return { ok: false, error: { class: cls, code, message, ...(by && { by }) } }
}
