/** The routes of the HTTP API: what each takes and gives. The OpenAPI document is made from this file. */
import { createRoute, type RouteConfig, z } from '@hono/zod-openapi'

const MAX_WAIT_S = 600

const whole = (max: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/, 'is no whole number')
    .transform((text) => Math.min(Number(text), max))

const LINES = 10_000
export const limit = whole(LINES)
  .optional()
  .openapi({ type: 'integer', description: 'the newest so many; 100 if left out' })

const problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string().openapi({ description: 'stable; see docs/errors.md' }),
    class: z.string(),
  })
  .openapi('Problem')
const refused = {
  description: 'what went wrong',
  content: { 'application/problem+json': { schema: problem } },
}

/** A route whose success is JSON of this shape, and whose every failure is a problem. */
export function route<R extends Omit<RouteConfig, 'responses'>>(
  config: R,
  answer: z.ZodType,
  more: RouteConfig['responses'] = {},
): R & RouteConfig {
  const ok = { description: 'done', content: { 'application/json': { schema: answer } } }
  return createRoute({ ...config, responses: { 200: ok, ...more, default: refused } }) as R & RouteConfig
}

export const json = <T extends z.ZodType>(schema: T) => ({
  required: true,
  content: { 'application/json': { schema } },
})
const one = z.object({
  tenant: z.string(),
  type: z.string(),
  key: z.string(),
})
const at = '/v1/agents/{tenant}/{type}/{key}'
const anything = z.unknown().openapi({ description: 'any JSON' })
const effectRef = z
  .string()
  .openapi({ description: '`tenant/type/key@turn.index`', example: 'acme/clerk/alice@142.0' })

const answered = z
  .object({ invocation: z.string(), state: z.enum(['done', 'open', 'failed']), value: anything.optional() })
  .openapi('Answer')
const working = {
  202: { description: 'taken in, and still working', content: { 'application/json': { schema: answered } } },
}
const waitQuery = z.object({
  wait: whole(MAX_WAIT_S)
    .optional()
    .openapi({ type: 'integer', description: `seconds, ${MAX_WAIT_S} at most` }),
})

export const health = route(
  { method: 'get', path: '/v1/health', summary: 'whether the node works' },
  z.object({ ok: z.boolean(), publicKey: z.string(), agents: z.int(), live: z.int(), rows: z.int() }),
)

const project = json(
  z.strictObject({
    documents: z.array(z.strictObject({ file: z.string(), text: z.string() })).min(1),
    programs: z.record(
      z.string(),
      z.union([
        z.strictObject({ code: z.string(), map: z.string() }),
        z.strictObject({ wasm: z.base64().describe('a module that keeps to the turn ABI') }),
      ]),
    ),
    components: z
      .record(z.string(), z.base64())
      .optional()
      .openapi({ description: 'components that documents name, as `Tool tenant/name`' }),
  }),
)
const applied = z.object({
  kind: z.string(),
  name: z.string(),
  generation: z.int().optional(),
  changed: z.boolean(),
})
const planned = applied.extend({
  agents: z.int().optional().openapi({ description: 'agents that it decides from then on' }),
  program: z.enum(['new', 'changed', 'same']).optional(),
  card: anything.optional().openapi({ description: 'in full form, what it gains and loses, and warnings' }),
})

export const apply = route(
  {
    method: 'post',
    path: '/v1/apply',
    summary: 'apply manifests, all or nothing',
    request: { body: project },
  },
  z.object({ applied: z.array(applied) }),
)

export const plan = route(
  {
    method: 'post',
    path: '/v1/plan',
    summary: 'what an apply of these manifests would change; changes nothing',
    request: { body: project },
  },
  z.object({ planned: z.array(planned) }),
)

const toolInfo = z.object({
  name: z.string(),
  about: z.string(),
  effect: z.enum(['read', 'idempotent', 'once']).optional(),
  in: anything,
  out: anything.optional(),
  sinks: z.array(z.string()),
  yields: z.array(z.string()),
  help: z.string(),
})

export const listTools = route(
  {
    method: 'get',
    path: '/v1/tools/{tenant}',
    summary: 'the tools of a tenant',
    request: { params: z.object({ tenant: z.string() }) },
  },
  z.object({ tools: z.array(toolInfo) }),
)

export const agentTools = route(
  {
    method: 'get',
    path: `${at}/tools`,
    summary: "the tools that an agent's cards let it call",
    request: { params: one },
  },
  z.object({ tools: z.array(toolInfo) }),
)

export const agentLimits = route(
  {
    method: 'get',
    path: `${at}/limits`,
    summary: 'what bounds an agent, and where each limit is set',
    request: { params: one },
  },
  z.object({
    limits: z.array(
      z.object({
        limit: z.string(),
        value: z.number().nullable().openapi({ description: 'bytes, ones or milliseconds; null: no bound' }),
        shown: z.string().openapi({ description: 'as manifests write it' }),
        setFor: z.string(),
      }),
    ),
  }),
)

export const mcpLook = route(
  {
    method: 'post',
    path: '/v1/mcp/look',
    summary: 'what tools the MCP servers of a manifest have now; applies nothing',
    request: { body: json(z.strictObject({ file: z.string(), text: z.string() })) },
  },
  z.object({
    servers: z.array(
      z.object({
        tenant: z.string(),
        name: z.string(),
        integrity: z.string().optional(),
        known: z.array(z.object({ name: z.string(), as: z.string() })),
        tools: z.array(anything),
      }),
    ),
  }),
)

const offered = z.strictObject({
  name: z.string(),
  agent: z.string().openapi({ description: '`type/key`' }),
  method: z.string(),
})
const mcpClient = z.strictObject({
  tenant: z.string(),
  name: z.string(),
  card: z.string().openapi({ description: 'what is done for its calls lies within this card' }),
  tools: z.array(offered).max(1000),
})

export const listMcpClients = route(
  {
    method: 'get',
    path: '/v1/mcp/clients',
    summary: 'who may call agents over the Model Context Protocol',
    request: { query: z.object({ tenant: z.string().optional() }) },
  },
  z.object({ clients: z.array(mcpClient) }),
)

export const addMcpClient = route(
  {
    method: 'post',
    path: '/v1/mcp/clients',
    summary: 'let a client call methods of agents as tools; its token is in this answer and in no other',
    request: { body: json(mcpClient) },
  },
  z.object({ token: z.string(), path: z.string() }),
)

export const removeMcpClient = route(
  {
    method: 'delete',
    path: '/v1/mcp/clients/{tenant}/{name}',
    summary: 'end a client: its token is worth nothing from then on',
    request: { params: z.object({ tenant: z.string(), name: z.string() }) },
  },
  z.object({ removed: z.string() }),
)

const typeOf = z.object({ tenant: z.string(), type: z.string() })

export const generations = route(
  {
    method: 'get',
    path: '/v1/types/{tenant}/{type}/generations',
    summary: 'the applied versions of a manifest, the newest first',
    request: { params: typeOf },
  },
  z.object({
    generations: z.array(
      z.object({ generation: z.int(), applied: z.string(), image: z.string(), current: z.boolean() }),
    ),
  }),
)

export const rollback = route(
  {
    method: 'post',
    path: '/v1/types/{tenant}/{type}/rollback',
    summary: 'apply an earlier version again, as a new generation',
    request: {
      params: typeOf,
      body: json(
        z.strictObject({
          to: z.int().min(1).optional().openapi({ description: 'the one before the current, if left out' }),
          dryRun: z.boolean().optional(),
        }),
      ),
    },
  },
  planned,
)

export const listAgents = route(
  {
    method: 'get',
    path: '/v1/agents',
    summary: 'agents, by address',
    request: {
      query: z.object({
        tenant: z.string().optional(),
        type: z.string().optional(),
        after: z.string().optional().openapi({ description: 'the last address of the page before' }),
        limit,
      }),
    },
  },
  z.object({ agents: z.array(anything) }),
)

export const getAgent = route(
  { method: 'get', path: at, summary: 'one agent', request: { params: one } },
  z.object({ address: z.string(), state: z.string() }),
)

export const invoke = route(
  {
    method: 'post',
    path: `${at}/invoke/{method}`,
    summary: 'call a method',
    description:
      'The body is the argument. `Prefer: wait=30` waits so long, `respond-async` not at all; the header `Cardinal-Invocation` names the invocation either way.',
    request: {
      params: one.extend({ method: z.string() }),
      headers: z.object({
        'idempotency-key': z.string().optional(),
        prefer: z.string().optional(),
      }),
      query: z.object({
        under: z
          .string()
          .optional()
          .openapi({ description: 'a card: what is done for the call must lie in what it allows' }),
        as: z.string().optional().openapi({ description: 'the person in whose name it is called' }),
      }),
      body: json(anything),
    },
  },
  answered,
  working,
)

export const result = route(
  {
    method: 'get',
    path: '/v1/invocations/{id}',
    summary: 'the answer of an invocation',
    request: { params: z.object({ id: z.string() }), query: waitQuery },
  },
  answered,
  working,
)

export const cancel = route(
  {
    method: 'delete',
    path: '/v1/invocations/{id}',
    summary: 'cancel an invocation',
    request: { params: z.object({ id: z.string() }), query: z.object({ why: z.string().optional() }) },
  },
  z.object({ cancelled: z.string() }),
)

export const emit = route(
  {
    method: 'post',
    path: `${at}/emit/{name}`,
    summary: 'send an event to an agent',
    request: { params: one.extend({ name: z.string() }), body: json(anything) },
  },
  z.object({ emitted: z.string() }),
)

export const history = route(
  {
    method: 'get',
    path: `${at}/history`,
    summary: 'what an agent was asked, did and was told, oldest first',
    request: {
      params: one,
      query: z.object({
        limit,
        since: whole(Number.MAX_SAFE_INTEGER)
          .optional()
          .openapi({ type: 'integer', description: 'milliseconds since 1970' }),
        after: whole(Number.MAX_SAFE_INTEGER)
          .optional()
          .openapi({ type: 'integer', description: 'only entries after this number' }),
      }),
    },
  },
  z.object({ history: z.array(anything) }),
)

export const logs = route(
  {
    method: 'get',
    path: `${at}/logs`,
    summary: 'what an agent logged',
    request: { params: one, query: z.object({ limit }) },
  },
  z.object({ logs: z.array(anything) }),
)

/** Not JSON: a stream of events. */
export const progress = createRoute({
  method: 'get',
  path: `${at}/progress`,
  summary: 'what comes of its effects while they go on, as the words of a model; nothing of it is kept',
  request: { params: one },
  responses: {
    200: {
      description: 'events `progress` of {effect, seq, text}; and `lost`, where somebody reads too slowly',
      content: { 'text/event-stream': { schema: z.string() } },
    },
    default: refused,
  },
})

export const replay = route(
  {
    method: 'post',
    path: `${at}/replay`,
    summary: 'repeat a recorded life beside the agent and compare every turn',
    request: {
      params: one,
      query: z.object({
        to: whole(Number.MAX_SAFE_INTEGER)
          .optional()
          .openapi({ type: 'integer', description: 'stop after this entry' }),
      }),
    },
  },
  z.object({ turns: z.int(), entries: z.int() }),
)

export const sql = route(
  {
    method: 'post',
    path: `${at}/sql`,
    summary: "read an agent's home with one statement that cannot write; it is recorded",
    request: {
      params: one,
      body: json(z.object({ sql: z.string().max(1 << 20), limit: z.int().min(1).max(LINES).optional() })),
    },
  },
  z.object({ columns: z.array(z.string()), rows: z.array(z.array(anything)), more: z.boolean() }),
)

export const home = route(
  {
    method: 'get',
    path: `${at}/home`,
    summary: "the size of an agent's home, and what SQLite's own check finds wrong with it",
    request: { params: one },
  },
  z.object({ bytes: z.int(), walBytes: z.int(), problems: z.array(z.string()) }),
)

const pathQuery = z
  .string()
  .openapi({ description: 'from the root of the files', example: '/notes/today.txt' })
const bytes = { schema: z.string().openapi({ format: 'binary' }) }

export const listFiles = route(
  {
    method: 'get',
    path: `${at}/files`,
    summary: "what is at a path of an agent's files, and in a directory what is in it; it is recorded",
    request: {
      params: one,
      query: z.object({
        path: pathQuery.default('/'),
        after: z.string().optional().openapi({ description: 'the last name of the page before' }),
      }),
    },
  },
  z.object({
    path: z.string(),
    kind: z.enum(['file', 'dir']),
    size: z.int(),
    entries: z.array(anything).optional(),
    more: z.boolean().optional(),
  }),
)

export const readFile: RouteConfig = createRoute({
  method: 'get',
  path: `${at}/file`,
  summary: "the bytes of one of an agent's files; it is recorded",
  request: { params: one, query: z.object({ path: pathQuery }) },
  responses: {
    200: { description: 'done', content: { 'application/octet-stream': bytes } },
    default: refused,
  },
})

export const putFile = route(
  {
    method: 'put',
    path: `${at}/file`,
    summary: "put a file in an agent's home; the agent's inputs hold it",
    request: {
      params: one,
      query: z.object({ path: pathQuery }),
      body: { required: true, content: { 'application/octet-stream': bytes } },
    },
  },
  z.object({ path: z.string(), size: z.int() }),
)

export const exportHome: RouteConfig = createRoute({
  method: 'get',
  path: `${at}/home/export`,
  summary: 'the home of an agent, signed with what that had read; it is recorded',
  request: { params: one },
  responses: {
    200: { description: 'done', content: { 'application/octet-stream': bytes } },
    default: refused,
  },
})

export const importHome = route(
  {
    method: 'put',
    path: `${at}/home/import`,
    summary: 'let an agent begin anew with a home that was exported, and with what its agent had read',
    request: {
      params: one,
      query: z.object({
        key: z
          .string()
          .optional()
          .openapi({ description: 'of the node that signed it; this one, if left out' }),
        replace: z
          .enum(['true', 'false'])
          .optional()
          .openapi({ description: 'the agent may have been at work' }),
      }),
      body: { required: true, content: { 'application/octet-stream': bytes } },
    },
  },
  z.object({ address: z.string(), from: z.string(), bytes: z.int() }),
)

export const agentTree = route(
  {
    method: 'get',
    path: `${at}/tree`,
    summary: 'an agent, and those that it made',
    request: { params: one, query: z.object({ limit }) },
  },
  z.object({ address: z.string(), state: z.string(), below: z.array(anything) }),
)

/** What the host does to one agent: the verb of the route, the word of its answer, and what it means. */
export const AGENT_ACTS = [
  ['hold', 'held', 'freeze an agent: it takes inputs in and runs nothing'],
  ['release', 'released', 'let a held agent go on'],
  ['suspend', 'suspended', 'put an agent to sleep now, if it is quiet'],
  ['end', 'ended', 'stop an agent and whoever it made, for good: its birth cards are revoked'],
  ['wipe', 'wiped', 'let an agent begin anew: memory and inbox are gone, then what it had read and accepted'],
  ['erase', 'erased', 'destroy the key of an agent'],
] as const

export function agentAct([verb, done, summary]: (typeof AGENT_ACTS)[number]) {
  const config = { method: 'post', path: `${at}/${verb}`, summary, request: { params: one } } as const
  return route(config, z.object({ [done]: z.string() }))
}

export const why = route(
  {
    method: 'get',
    path: '/v1/why/{ref}',
    summary: 'why an effect was allowed or refused',
    request: { params: z.object({ ref: effectRef.openapi({ description: 'an effect, or `last`' }) }) },
  },
  z.object({ effect: z.string(), verdict: z.enum(['allow', 'ask', 'done', 'refuse', 'drop']) }),
)

export const receipt = route(
  {
    method: 'post',
    path: '/v1/receipts',
    summary: 'one effect, provable by itself',
    request: { body: json(z.strictObject({ effect: effectRef, open: z.boolean().optional() })) },
  },
  z.object({ format: z.string(), publicKey: z.string(), effect: z.string(), entries: z.array(anything) }),
)

export const audit = route(
  {
    method: 'post',
    path: '/v1/audit',
    summary: 'decide everything anew that was ever decided, from the log alone, and compare',
  },
  z.object({
    entries: z.int(),
    agents: z.int(),
    verdicts: z.int(),
    older: z.int(),
    unreadable: z.int(),
    mismatches: z.array(
      z.object({ at: z.string(), what: z.string(), recorded: z.unknown(), derived: z.unknown() }),
    ),
  }),
)

export const drain = route(
  {
    method: 'post',
    path: '/v1/drain',
    summary:
      'save agents of which turns would have to be repeated, some at a call, before another version of the node',
    request: { body: json(z.strictObject({ after: z.int().min(0).optional() })) },
  },
  z.object({
    saved: z.int(),
    left: z.array(z.object({ agent: z.string(), why: z.string() })),
    next: z.int().optional(),
  }),
)

export const listEffects = route(
  { method: 'get', path: '/v1/effects', summary: 'effects that were or are in doubt' },
  z.object({ effects: z.array(z.object({ effect: z.string(), resolved: z.string().nullable() })) }),
)

export const resolveEffect = route(
  {
    method: 'post',
    path: '/v1/effects/resolve',
    summary: 'say what became of an effect in doubt',
    request: { body: json(z.strictObject({ effect: effectRef, outcome: z.enum(['done', 'failed']) })) },
  },
  z.object({ effect: z.string(), outcome: z.string() }),
)
