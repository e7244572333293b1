/**
 * Agents as tools of the Model Context Protocol, over Streamable HTTP, in both its eras. What a client may
 * call, and within which card, stands in its record; each call is an invocation like any other.
 */
import type { CallToolResult, ServerContext, Tool } from '@modelcontextprotocol/server'
import {
  createMcpHandler,
  hostHeaderValidationResponse,
  isSpecType,
  localhostAllowedHostnames,
  localhostAllowedOrigins,
  originValidationResponse,
  ProtocolError,
  ProtocolErrorCode,
  Server,
} from '@modelcontextprotocol/server'
import { KernelError } from './errors.ts'
import type { MethodInfo } from './images.ts'
import type { Kernel } from './kernel.ts'
import { type LetIn, type OfferedTool, OWN_TOOLS } from './mcp-clients.ts'
import type { Reply, ReplyError } from './reply.ts'
import { within } from './within.ts'

/** How long a call is waited for, of a client that hears of its progress meanwhile and of one that does not. */
const WAIT_MS = { told: 600_000, untold: 50_000 }
const PROGRESS_EVERY_MS = 5000
/** Calls of one client that are at work at a time. */
const MAX_CALLS = 64
const KEY = 'cardinal/idempotency-key'
const RESULT_TOOL = `${OWN_TOOLS}result`

interface Serving {
  readonly kernel: Kernel
  readonly client: LetIn
  /** Aborted when the node closes. */
  readonly closing: AbortSignal
}

/** Serves one request of one client. The caller has authenticated it. */
export function serveMcp(kernel: Kernel, closing: AbortSignal) {
  const handler = createMcpHandler(
    ({ authInfo }) => serverFor({ kernel, closing, client: authInfo?.extra?.client as LetIn }),
    // Requests that are refused are told so; what the node itself does wrong is written where it happens.
    { onerror: () => {} },
  )
  return (request: Request, client: LetIn): Promise<Response> => {
    // A page in a browser on this machine can reach this port, by whatever name it gives it.
    const refused =
      hostHeaderValidationResponse(request, localhostAllowedHostnames()) ??
      originValidationResponse(request, localhostAllowedOrigins())
    if (refused) return Promise.resolve(refused)
    const authInfo = { token: '', clientId: `${client.tenant}/${client.name}`, scopes: [], extra: { client } }
    return handler.fetch(request, { authInfo })
  }
}

function serverFor(serving: Serving): Server {
  const { client } = serving
  const server = new Server({ name: 'cardinal', version: '1' }, { capabilities: { tools: {} } })
  server.setRequestHandler('tools/list', async () => {
    const described = await Promise.all(client.tools.map((tool) => describe(serving, tool)))
    return { tools: [...described.filter((tool) => tool !== undefined), RESULT] }
  })
  server.setRequestHandler('tools/call', async ({ params }, ctx) => {
    const given = params.arguments ?? {}
    if (params.name === RESULT_TOOL)
      return server.projectCallToolResult(await resultOf(serving, given, ctx), undefined)
    const tool = client.tools.find(({ name }) => name === params.name)
    if (!tool)
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, `no tool \`${params.name}\` is offered`)
    const info = await methodOf(serving, tool)
    const answer = await call(serving, tool, argsOf(info, given), { ctx, meta: params._meta ?? {} })
    return server.projectCallToolResult(answer, outOf(info))
  })
  return server
}

/** Waits for what another call began: of the same client only. */
const RESULT: Tool = {
  name: RESULT_TOOL,
  description: 'What became of a call that was still at work when it was answered, by its invocation.',
  inputSchema: {
    type: 'object',
    properties: {
      invocation: { type: 'string' },
      wait: { type: 'number', description: 'seconds, at most 50' },
    },
    required: ['invocation'],
  },
}

/** Nothing of a method that its program has no more: the others are there all the same. */
async function describe(serving: Serving, tool: OfferedTool): Promise<Tool | undefined> {
  const info = await findMethod(serving, tool)
  if (!info) return undefined
  const outputSchema = outOf(info)
  return {
    name: tool.name,
    description: info.about ?? `\`${tool.method}\` of \`${tool.agent}\``,
    inputSchema: takesObject(info)
      ? { type: 'object', ...info.in }
      : { type: 'object', properties: { value: info.in }, required: ['value'] },
    ...(outputSchema && { outputSchema }),
  } as Tool
}

async function findMethod(
  { kernel }: Serving,
  { agent, method }: OfferedTool,
): Promise<MethodInfo | undefined> {
  const methods = await kernel.methods(agent)
  return Object.hasOwn(methods, method) ? methods[method] : undefined
}

async function methodOf(serving: Serving, tool: OfferedTool): Promise<MethodInfo> {
  const info = await findMethod(serving, tool)
  if (info) return info
  const text = `\`${tool.agent}\` has no method \`${tool.method}\` any more`
  throw new ProtocolError(ProtocolErrorCode.InvalidParams, text)
}

/** Arguments of tools are objects; a method that takes something else gets it as `value`. */
function takesObject({ in: schema }: MethodInfo): boolean {
  return schema === undefined || schema.type === 'object'
}

function argsOf(info: MethodInfo, given: Record<string, unknown>): unknown {
  return takesObject(info) ? given : given.value
}

/** Only objects are described: a client checks what it gets by this. */
function outOf({ out }: MethodInfo): Record<string, unknown> | undefined {
  return out?.type === 'object' ? out : undefined
}

interface Called {
  readonly ctx: ServerContext
  readonly meta: Record<string, unknown>
}

async function call(
  serving: Serving,
  tool: OfferedTool,
  args: unknown,
  called: Called,
): Promise<CallToolResult> {
  const { kernel, client } = serving
  const key = called.meta[KEY]
  if (client.calls.size >= MAX_CALLS)
    return wrong({ class: 'Busy', code: 'Busy', message: `${MAX_CALLS} calls of this client are at work` })
  const call = Symbol()
  client.calls.add(call)
  try {
    const { id, reply, acknowledged } = await kernel.begin({
      address: tool.agent,
      method: tool.method,
      args,
      principal: client.principal,
      under: client.card,
      ...(typeof key === 'string' && { idempotencyKey: key }),
    })
    const ended = await until(serving, reply, called)
    // Whoever was ended meanwhile is told nothing of it.
    requireIn(serving)
    if (!ended) await acknowledged()
    return ended ? shown(id, ended) : atWork(id)
  } catch (error) {
    return failure(error)
  } finally {
    client.calls.delete(call)
  }
}

/** The reply, or nothing if it takes longer than its client waits. */
async function until(
  serving: Serving,
  reply: Promise<Reply>,
  { ctx, meta }: Called,
): Promise<Reply | undefined> {
  const progressToken = meta.progressToken as string | number | undefined
  const told = progressToken !== undefined
  let steps = 0
  const tell = () => {
    steps++
    const params = { progressToken: progressToken as string, progress: steps, message: 'still at work' }
    // Whoever has gone away hears nothing; the call goes on, and is on record.
    ctx.mcpReq.notify({ method: 'notifications/progress', params }).catch(() => {})
  }
  const ticking = told ? setInterval(tell, PROGRESS_EVERY_MS) : undefined
  try {
    const { closing, client } = serving
    return await within(reply, told ? WAIT_MS.told : WAIT_MS.untold, [
      closing,
      ctx.mcpReq.signal,
      client.ended,
    ])
  } finally {
    clearInterval(ticking)
  }
}

function requireIn({ kernel, client }: Serving): void {
  if (client.ended.aborted) throw new KernelError('Refused', 'NoToken', 'this client was ended')
  kernel.mcpClients.requireLive(client)
}

async function resultOf(
  serving: Serving,
  given: Record<string, unknown>,
  ctx: ServerContext,
): Promise<CallToolResult> {
  const { kernel, client, closing } = serving
  const { invocation, wait = 0 } = given
  if (typeof invocation !== 'string' || typeof wait !== 'number')
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, '`invocation` is a text, `wait` a number')
  try {
    // Of somebody else's it is not even said that they are there.
    const by = kernel.view.callerOf(invocation)
    if (by?.tenant !== client.tenant || by.principal !== client.principal)
      throw new KernelError('NotFound', 'NoSuchInvocation', `no invocation \`${invocation}\``)
    const found = await kernel.result(invocation)
    const waitMs = Math.min(Math.max(wait, 0) * 1000, WAIT_MS.untold)
    const reply =
      found.reply ??
      (await within(found.pending as Promise<Reply>, waitMs, [closing, ctx.mcpReq.signal, client.ended]))
    requireIn(serving)
    return reply ? shown(invocation, reply) : atWork(invocation)
  } catch (error) {
    return failure(error)
  }
}

function shown(invocation: string, reply: Reply): CallToolResult {
  const _meta = { 'cardinal/invocation': invocation }
  if (!reply.ok) {
    const said = wrong(reply.error)
    return { ...said, _meta: { ..._meta, ...said._meta } }
  }
  const { value } = reply
  // A method that speaks the protocol's own language is taken at its word.
  if (isContent(value)) return { ...value, _meta }
  const text = typeof value === 'string' ? value : JSON.stringify(value ?? null)
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  return {
    content: [{ type: 'text', text }],
    ...(isObject && { structuredContent: value as Record<string, unknown> }),
    _meta,
  }
}

function isContent(value: unknown): value is CallToolResult {
  const fields = typeof value === 'object' && value !== null ? Object.keys(value) : []
  if (!fields.includes('content')) return false
  if (fields.some((field) => !['content', 'structuredContent', 'isError'].includes(field))) return false
  return isSpecType.CallToolResult(value)
}

function atWork(invocation: string): CallToolResult {
  const text = `still at work, and goes on. Ask \`${RESULT_TOOL}\` for invocation \`${invocation}\`; do not call again`
  return { content: [{ type: 'text', text }], isError: true, _meta: { 'cardinal/invocation': invocation } }
}

function failure(error: unknown): CallToolResult {
  if (!(error instanceof KernelError)) {
    process.stderr.write(`cardinal: ${(error as Error)?.stack ?? String(error)}\n`)
    throw new ProtocolError(ProtocolErrorCode.InternalError, 'a bug of the node; its own output says more')
  }
  return wrong({ ...error.details, ...error.toReply() })
}

function wrong({ class: cls, code, message, effect, by }: ReplyError): CallToolResult {
  const text = `${cls} (${code}): ${message}${effect === undefined ? '' : `; see ${effect}`}`
  const said = { class: cls, code, message, ...(effect && { effect }), ...(by && { by }) }
  return { content: [{ type: 'text', text }], isError: true, _meta: { 'cardinal/error': said } }
}
