/**
 * The HTTP API under `/v1`: every route needs the node's token, but approvals, which people reach by their own; every
 * error is problem+json. And `/mcp`, where clients of the Model Context Protocol come in with tokens of their own.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import fs from 'node:fs'
import type { Server } from 'node:http'
import { Readable } from 'node:stream'
import { CardError, TokenError } from '@cardinal/cards'
import { ManifestError, parseFiles } from '@cardinal/manifests'
import { LogError } from '@cardinal/oplog'
import { isRange, mcpToolName } from '@cardinal/tools'
import { type ServerType, serve } from '@hono/node-server'
import { OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { cardRoutes } from './api-cards.ts'
import { address, json, OPERATOR, on, param, parse, setCaller } from './api-parts.ts'
import { approvalRoutes, isForPeople, peopleRoutes } from './api-people.ts'
import { secretRoutes } from './api-secrets.ts'
import { componentDigest } from './components.ts'
import { KernelError, type KernelErrorClass, statusOf } from './errors.ts'
import { parseAddress, showAddress } from './ids.ts'
import type { Kernel } from './kernel.ts'
import { serveMcp } from './mcp-server.ts'
import { principalOf } from './people.ts'
import type { Reply } from './reply.ts'
import * as routes from './routes.ts'
import { within } from './within.ts'

export interface ApiOptions {
  readonly kernel: Kernel
  readonly port: number
  readonly host?: string
}

export interface Api {
  readonly url: string
  readonly token: string
  /** Takes no more requests; those that wait for an answer get the id of their invocation instead. */
  close(): Promise<void>
}

const DEFAULT_WAIT_S = 30
const MAX_BODY = 5 << 20
const MAX_APPLY = 128 << 20
const CLOSE_GRACE_MS = 500
const MCP_PATH = '/mcp'

/** The token of this data folder, made once; readable by its owner only. */
export function readToken(file: string): string {
  if (!fs.existsSync(file))
    fs.writeFileSync(file, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600 })
  return fs.readFileSync(file, 'utf8').trim()
}

/** Listens on loopback. `PortInUse` if somebody else does. */
export async function serveApi({ kernel, port, host = '127.0.0.1' }: ApiOptions): Promise<Api> {
  const token = readToken(kernel.folder.token)
  const closing = new AbortController()
  const app = makeApp({ kernel, token, closing: closing.signal })
  const server: ServerType = await new Promise((resolve, reject) => {
    const made = serve({ fetch: app.fetch, port, hostname: host }, () => resolve(made))
    made.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'EADDRINUSE'
          ? new KernelError('Conflict', 'PortInUse', `port ${port} is in use; choose another with \`--port\``)
          : error,
      )
    })
  })
  const address = server.address() as { port: number }
  kernel.ownPort(address.port)
  return {
    url: `http://${host}:${address.port}`,
    token,
    close: () =>
      new Promise((resolve) => {
        closing.abort()
        const http = server as Server
        const late = setTimeout(() => http.closeAllConnections(), CLOSE_GRACE_MS)
        http.close(() => {
          clearTimeout(late)
          resolve()
        })
        http.closeIdleConnections()
      }),
  }
}

interface Served {
  readonly kernel: Kernel
  readonly token: string
  /** Aborted when the node closes. */
  readonly closing: AbortSignal
}

function makeApp(served: Served): OpenAPIHono {
  const app = new OpenAPIHono()
  const { kernel } = served
  const expected = Buffer.from(served.token)
  app.onError((error, c) => problem(c, error))
  app.notFound((c) =>
    problem(c, new KernelError('NotFound', 'NoSuchRoute', `no route \`${c.req.method} ${c.req.path}\``)),
  )
  app.use('*', async (c, next) => {
    // Clients have tokens of their own there, and this one is none of them.
    if (c.req.path === MCP_PATH) return next()
    const given = Buffer.from(bearerOf(c))
    if (given.length === expected.length && timingSafeEqual(given, expected)) return next()
    const person = kernel.people.authenticate(bearerOf(c))
    if (person) {
      if (!isForPeople(c.req.path))
        return problem(c, new KernelError('Refused', 'NotForPeople', 'this token is for approvals alone'))
      setCaller(c, person)
      return next()
    }
    const error = new KernelError(
      'Refused',
      'NoToken',
      'a bearer token is needed; it is in the file `token` of the data folder',
    )
    return problem(c, error, 401)
  })
  app.use('*', (c, next) => {
    // Files are taken in while they come; the bounds of the home hold for them.
    if (c.req.method === 'PUT' && /\/(file|home\/import)$/.test(c.req.path)) return next()
    const isProject = c.req.path === routes.apply.path || c.req.path === routes.plan.path
    const maxSize = isProject ? MAX_APPLY : MAX_BODY
    const tooLarge = (at: Context) =>
      problem(at, new KernelError('Malformed', 'TooLarge', `a body of more than ${maxSize} bytes`), 413)
    const length = c.req.header('content-length')
    // Who says a length sends no more than that; counting what comes costs a stream a request.
    if (length !== undefined) return Number(length) > maxSize ? Promise.resolve(tooLarge(c)) : next()
    return bodyLimit({ maxSize, onError: tooLarge })(c, next)
  })
  nodeRoutes(app, served)
  agentRoutes(app, served)
  readRoutes(app, served.kernel)
  cardRoutes(app, served.kernel)
  approvalRoutes(app, served.kernel)
  peopleRoutes(app, served.kernel)
  secretRoutes(app, served.kernel)
  mcpRoutes(app, served)
  app.doc31('/v1/openapi.json', {
    openapi: '3.1.0',
    info: {
      title: 'Cardinal',
      version: '1',
      description:
        'Agents under cards. Loopback only, one token; people who approve and clients of `/mcp` have their own.',
    },
    security: [{ bearer: [] }],
  })
  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer' })
  return app
}

function nodeRoutes(app: OpenAPIHono, { kernel, closing }: Served): void {
  on(app, routes.health, async (c) => c.json({ ok: true, publicKey: kernel.publicKey, ...kernel.stats() }))
  const project = async (c: Context) => {
    const body = parse(routes.apply.request.body.content['application/json'].schema, await json(c))
    const given = Object.entries(body.components ?? {}).map(
      ([name, text]) => [name, Buffer.from(text, 'base64')] as const,
    )
    const components = new Map(given.map(([name, bytes]) => [name, componentDigest(bytes)]))
    const manifests = parseFiles(body.documents, { isRange, defaultsOf: kernel.defaultsOf, components })
    return [manifests, new Map(Object.entries(body.programs)), given.map(([, bytes]) => bytes)] as const
  }
  on(app, routes.apply, async (c) => c.json({ applied: await kernel.apply(...(await project(c))) }))
  on(app, routes.plan, async (c) => c.json({ planned: await kernel.applying.plan(...(await project(c))) }))
  on(app, routes.listTools, async (c) => c.json({ tools: kernel.tools(param(c, 'tenant')) }))
  on(app, routes.mcpLook, async (c) => {
    const given = parse(routes.mcpLook.request.body.content['application/json'].schema, await json(c))
    const servers = parseFiles([given], { isRange, defaultsOf: kernel.defaultsOf }).filter(
      (manifest) => manifest.kind === 'McpServer',
    )
    if (servers.length === 0)
      throw new KernelError('Malformed', 'BadManifest', `${given.file}: no document of kind McpServer`)
    const looked = await Promise.all(
      servers.map(async (server) => {
        const accepted = await kernel.mcp.look(server, OPERATOR)
        const known = accepted.tools.map(({ name }) => ({ name, as: mcpToolName(accepted.name, name) }))
        return { tenant: server.tenant, ...accepted, known }
      }),
    )
    return c.json({ servers: looked })
  })
  on(app, routes.generations, async (c) =>
    c.json({ generations: kernel.applying.generations(param(c, 'tenant'), param(c, 'type')) }),
  )
  on(app, routes.rollback, async (c) => {
    const schema = routes.rollback.request.body.content['application/json'].schema
    const wanted = parse(schema, await json(c))
    return c.json({ ...(await kernel.rollback(param(c, 'tenant'), param(c, 'type'), wanted)) })
  })
  on(app, routes.result, async (c) => {
    const { wait } = parse(routes.result.request.query, c.req.query())
    const id = param(c, 'id')
    return answer(c, id, await kernel.result(id), { waitS: wait ?? 0, closing })
  })
  on(app, routes.cancel, async (c) => {
    await kernel.cancel(param(c, 'id'), c.req.query('why') ?? 'cancelled by the caller')
    return c.json({ cancelled: param(c, 'id') })
  })
  on(app, routes.receipt, async (c) => {
    const { content } = routes.receipt.request.body
    const { effect, open = false } = parse(content['application/json'].schema, await json(c))
    return c.json({ ...(await kernel.receipts.of(effect, open)) })
  })
  on(app, routes.audit, async (c) => c.json(await kernel.audit()))
  on(app, routes.drain, async (c) => {
    const { content } = routes.drain.request.body
    const { after } = parse(content['application/json'].schema, await json(c))
    return c.json({ ...(await kernel.drain(after)) })
  })
  on(app, routes.listEffects, async (c) => c.json({ effects: kernel.view.effectsInDoubt() }))
  on(app, routes.resolveEffect, async (c) => {
    const { content } = routes.resolveEffect.request.body
    const { effect, outcome } = parse(content['application/json'].schema, await json(c))
    await kernel.resolveEffect(effect, outcome, OPERATOR)
    return c.json({ effect, outcome })
  })
}

/** Agents as tools of the Model Context Protocol, and who may call them so. */
function mcpRoutes(app: OpenAPIHono, { kernel, closing }: Served): void {
  const serveClient = serveMcp(kernel, closing)
  app.all(MCP_PATH, (c) => {
    const client = kernel.mcpClients.authenticate(bearerOf(c))
    if (client) return serveClient(c.req.raw, client)
    c.header('WWW-Authenticate', 'Bearer')
    const text = 'the token of a client is needed: `cardinal mcp clients add`'
    return problem(c, new KernelError('Refused', 'NoToken', text), 401)
  })
  on(app, routes.listMcpClients, async (c) => {
    const { tenant } = parse(routes.listMcpClients.request.query, c.req.query())
    return c.json({ clients: kernel.mcpClients.list(tenant) })
  })
  on(app, routes.addMcpClient, async (c) => {
    const wish = parse(routes.addMcpClient.request.body.content['application/json'].schema, await json(c))
    return c.json({ ...(await kernel.mcpClients.add(wish, OPERATOR)), path: MCP_PATH })
  })
  on(app, routes.removeMcpClient, async (c) => {
    await kernel.mcpClients.remove(param(c, 'tenant'), param(c, 'name'), OPERATOR)
    return c.json({ removed: `${param(c, 'tenant')}/${param(c, 'name')}` })
  })
}

function bearerOf(c: Context): string {
  return /^bearer (.*)$/i.exec(c.req.header('authorization') ?? '')?.[1] ?? ''
}

function agentRoutes(app: OpenAPIHono, { kernel, closing }: Served): void {
  on(app, routes.invoke, async (c) => {
    const key = c.req.header('idempotency-key')
    const under = c.req.query('under')
    const as = c.req.query('as')
    const principal = as === undefined ? OPERATOR : principalOf(kernel.people.require(param(c, 'tenant'), as))
    // Everything that may be wrong with the request is found before anything is taken in.
    const waitS = waitOf(c.req.header('prefer') ?? '')
    const args = c.req.header('content-length') === '0' ? null : await json(c)
    const call = {
      address: address(c),
      method: param(c, 'method'),
      args,
      principal,
      ...(key !== undefined && { idempotencyKey: key }),
      ...(under !== undefined && { under }),
    }
    const { id, reply, acknowledged } = await kernel.begin(call)
    return answer(c, id, { state: 'open', pending: reply }, { waitS, closing, acknowledged })
  })
  on(app, routes.emit, async (c) => {
    await kernel.emit(address(c), param(c, 'name'), await json(c))
    return c.json({ emitted: param(c, 'name') })
  })
  on(app, routes.replay, async (c) => {
    const { to } = parse(routes.replay.request.query, c.req.query())
    return c.json(await kernel.replay(address(c), to))
  })
  on(app, routes.sql, async (c) => {
    const { sql, limit } = parse(routes.sql.request.body.content['application/json'].schema, await json(c))
    return c.json(await kernel.sql(address(c), sql, OPERATOR, limit))
  })
  const pathOf = (c: Context) => {
    const given = c.req.query('path')
    if (given) return given
    throw new KernelError('Malformed', 'BadRequest', '`path`: says which file')
  }
  on(app, routes.listFiles, async (c) => {
    const { path, after } = parse(routes.listFiles.request.query, c.req.query())
    return c.json(await kernel.files.list(address(c), path, OPERATOR, after))
  })
  on(app, routes.readFile, async (c) => {
    const bytes = await kernel.files.read(address(c), pathOf(c), OPERATOR)
    return c.body(new Uint8Array(bytes), 200, { 'content-type': 'application/octet-stream' })
  })
  on(app, routes.putFile, async (c) => {
    const body = c.req.raw.body ?? new Blob([]).stream()
    return c.json(await kernel.files.put(address(c), pathOf(c), body, OPERATOR))
  })
  on(app, routes.progress, async (c) => {
    const agent = showAddress(parseAddress(address(c)))
    return c.body(eventsOf(kernel, agent, closing), 200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
    })
  })
  on(app, routes.agentTools, async (c) => c.json({ tools: await kernel.toolsOf(address(c)) }))
  on(app, routes.agentLimits, async (c) => c.json({ limits: await kernel.limitsOf(address(c)) }))
  on(app, routes.home, async (c) => c.json(await kernel.checkHome(address(c))))
  on(app, routes.exportHome, async (c) => {
    const { file } = await kernel.transfer.export(address(c), OPERATOR)
    const stream = fs.createReadStream(file)
    // Once it is open, it is there until it is sent, whatever becomes of its name.
    stream.once('open', () => fs.rmSync(file))
    return c.body(Readable.toWeb(stream) as ReadableStream, 200, {
      'content-type': 'application/octet-stream',
    })
  })
  on(app, routes.importHome, async (c) => {
    const { key, replace } = parse(routes.importHome.request.query, c.req.query())
    const body = c.req.raw.body ?? new Blob([]).stream()
    const wish = { nodeKey: key, replace: replace === 'true' }
    const { address: from, bytes } = await kernel.transfer.import(address(c), body, wish, OPERATOR)
    return c.json({ address: address(c), from, bytes })
  })
  on(app, routes.agentTree, async (c) => {
    const { limit } = parse(routes.agentTree.request.query, c.req.query())
    return c.json(await kernel.view.tree(address(c), limit))
  })
  const acts: Record<(typeof routes.AGENT_ACTS)[number][0], (agent: string) => Promise<void>> = {
    hold: (agent) => kernel.hold(agent, true, OPERATOR),
    release: (agent) => kernel.hold(agent, false, OPERATOR),
    suspend: async (agent) => {
      if (await kernel.suspend(agent)) return
      throw new KernelError('Conflict', 'StillWorking', `\`${agent}\` is in the middle of something`)
    },
    end: (agent) => kernel.end(agent, OPERATOR),
    wipe: (agent) => kernel.wipe(agent, OPERATOR),
    erase: (agent) => kernel.erase(agent),
  }
  for (const act of routes.AGENT_ACTS)
    on(app, routes.agentAct(act), async (c) => {
      await acts[act[0]](address(c))
      return c.json({ [act[1]]: address(c) })
    })
}

function readRoutes(app: OpenAPIHono, kernel: Kernel): void {
  on(app, routes.listAgents, async (c) =>
    c.json({ agents: kernel.view.agents(parse(routes.listAgents.request.query, c.req.query())) }),
  )
  on(app, routes.getAgent, async (c) => c.json(await kernel.view.agent(address(c))))
  on(app, routes.history, async (c) => {
    const { limit, since, after } = parse(routes.history.request.query, c.req.query())
    return c.json({
      history: await kernel.view.history(address(c), { limit, sinceMs: since, afterSeq: after }),
    })
  })
  on(app, routes.logs, async (c) => {
    const { limit } = parse(routes.logs.request.query, c.req.query())
    return c.json({ logs: await kernel.view.logs(address(c), limit) })
  })
  // A reference holds slashes, which a client may or may not have encoded.
  app.openAPIRegistry.registerPath(routes.why)
  app.get('/v1/why/:ref{.+}', async (c) => c.json(await kernel.view.why(c.req.param('ref'))))
}

/** Frames that a slow reader is behind by before some are lost. */
const MAX_BEHIND = 1024
const ALIVE_EVERY_MS = 15_000

/** Server-sent events of what comes of an agent's effects, until the reader goes away or the node closes. */
function eventsOf(kernel: Kernel, agent: string, closing: AbortSignal): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  let stop = () => {}
  let lost = 0
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const send = (text: string) => controller.enqueue(encoder.encode(text))
        const unwatch = kernel.progress.watch(agent, (frame) => {
          if ((controller.desiredSize ?? 0) <= 0) {
            lost++
            return
          }
          if (lost > 0) send(`event: lost\ndata: ${lost}\n\n`)
          lost = 0
          send(`event: progress\ndata: ${JSON.stringify(frame)}\n\n`)
        })
        const alive = setInterval(() => send(': here\n\n'), ALIVE_EVERY_MS)
        const end = () => {
          stop()
          controller.close()
        }
        stop = () => {
          unwatch()
          clearInterval(alive)
          closing.removeEventListener('abort', end)
        }
        closing.addEventListener('abort', end, { once: true })
        send(': here\n\n')
      },
      cancel: () => stop(),
    },
    new CountQueuingStrategy({ highWaterMark: MAX_BEHIND }),
  )
}

/** Seconds that a `Prefer` header asks to wait (RFC 7240). */
function waitOf(prefer: string): number {
  if (/\brespond-async\b/.test(prefer)) return 0
  const wait = /\bwait=([^,;\s]*)/.exec(prefer)?.[1]
  return wait === undefined ? DEFAULT_WAIT_S : (parse(routes.result.request.query, { wait }).wait ?? 0)
}

interface Waiting {
  readonly waitS: number
  readonly closing: AbortSignal
  readonly acknowledged?: () => Promise<void>
}

async function answer(
  c: Context,
  id: string,
  found: { state: string; reply?: Reply; pending?: Promise<Reply> },
  { waitS, closing, acknowledged }: Waiting,
): Promise<Response> {
  c.header('Cardinal-Invocation', id)
  const pending = found.pending as Promise<Reply>
  const reply = found.reply ?? (waitS === 0 ? undefined : await within(pending, waitS * 1000, [closing]))
  if (!reply) {
    await acknowledged?.()
    return c.json({ invocation: id, state: 'open' }, 202)
  }
  if (reply.ok) return c.json({ invocation: id, state: 'done', value: reply.value })
  const { class: cls, code, message, ...rest } = reply.error
  return problem(c, new KernelError(cls as KernelErrorClass, code, message, { invocation: id, ...rest }))
}

/** `application/problem+json`; what is not one of our errors is a bug, and its text stays inside. */
function problem(c: Context, error: unknown, status?: number): Response {
  const known =
    error instanceof KernelError ||
    error instanceof LogError ||
    error instanceof ManifestError ||
    error instanceof CardError ||
    error instanceof TokenError
  if (!known) process.stderr.write(`cardinal: ${(error as Error)?.stack ?? String(error)}\n`)
  const cls = known ? (error.class as KernelErrorClass) : 'Bug'
  const code = known ? error.code : 'Bug'
  const details = error instanceof KernelError ? error.details : {}
  const retryAfterMs = details.retryAfterMs as number | undefined
  if (retryAfterMs !== undefined) c.header('Retry-After', String(Math.ceil(retryAfterMs / 1000)))
  const body = {
    type: `urn:cardinal:error:${code}`,
    title: cls,
    status: status ?? statusOf(cls) ?? 500,
    detail: known
      ? `${error instanceof CardError && error.path !== '' ? `${error.path}: ` : ''}${error.message}`
      : 'the kernel met its own defect; see its standard error',
    code,
    class: cls,
    ...details,
  }
  return c.body(JSON.stringify(body), body.status as 500, { 'content-type': 'application/problem+json' })
}
