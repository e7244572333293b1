/** The HTTP API under `/v1`. Every route needs the bearer token; every error is problem+json. */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import fs from 'node:fs'
import { CardError } from '@cardinal/cards'
import { ManifestError, parseManifests } from '@cardinal/manifests'
import { LogError } from '@cardinal/oplog'
import { isRange } from '@cardinal/tools'
import { type ServerType, serve } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { z } from 'zod'
import type { Reply } from './agent.ts'
import { KernelError, type KernelErrorClass, statusOf } from './errors.ts'
import type { Kernel } from './kernel.ts'

export interface ApiOptions {
  readonly kernel: Kernel
  readonly port: number
  readonly host?: string
}

export interface Api {
  readonly url: string
  readonly token: string
  close(): Promise<void>
}

const MAX_WAIT_S = 600
const DEFAULT_WAIT_S = 30

const applyBody = z.strictObject({
  documents: z.array(z.strictObject({ file: z.string(), text: z.string() })).min(1),
  programs: z.record(z.string(), z.strictObject({ code: z.string(), map: z.string() })),
})

/** The token of this data folder, made once; readable by its owner only. */
export function readToken(file: string): string {
  if (!fs.existsSync(file))
    fs.writeFileSync(file, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600 })
  return fs.readFileSync(file, 'utf8').trim()
}

/** Listens on loopback. `PortInUse` if somebody else does. */
export async function serveApi({ kernel, port, host = '127.0.0.1' }: ApiOptions): Promise<Api> {
  const token = readToken(kernel.folder.token)
  const app = routes(kernel, token)
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
        server.close(() => resolve())
        ;(server as { closeAllConnections?: () => void }).closeAllConnections?.()
      }),
  }
}

function routes(kernel: Kernel, token: string): Hono {
  const app = new Hono()
  const expected = Buffer.from(`Bearer ${token}`)
  app.onError((error, c) => problem(c, error))
  app.notFound((c) =>
    problem(c, new KernelError('NotFound', 'NoSuchRoute', `no route \`${c.req.method} ${c.req.path}\``)),
  )
  app.use('*', async (c, next) => {
    const given = Buffer.from(c.req.header('authorization') ?? '')
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      return problem(
        c,
        new KernelError(
          'Refused',
          'NoToken',
          'a bearer token is needed; it is in the file `token` of the data folder',
        ),
        401,
      )
    }
    return next()
  })
  app.get('/v1/health', (c) => c.json({ ok: true, publicKey: kernel.publicKey, ...kernel.stats() }))
  app.post('/v1/apply', async (c) => {
    const body = parse(applyBody, await json(c))
    const options = { isRange, defaultsOf: kernel.defaultsOf }
    const manifests = body.documents.flatMap(({ file, text }) => parseManifests(text, file, options))
    return c.json({ applied: await kernel.apply(manifests, new Map(Object.entries(body.programs))) })
  })
  agentRoutes(app, kernel)
  app.get('/v1/invocations/:id', async (c) =>
    answer(c, c.req.param('id'), await kernel.result(c.req.param('id')), waitSeconds(c.req.query('wait'), 0)),
  )
  app.delete('/v1/invocations/:id', async (c) => {
    await kernel.cancel(c.req.param('id'), c.req.query('why') ?? 'cancelled by the caller')
    return c.json({ cancelled: c.req.param('id') })
  })
  app.get('/v1/why/:ref{.+}', async (c) =>
    c.json(await kernel.view.why(decodeURIComponent(c.req.param('ref')))),
  )
  app.get('/v1/effects', (c) => c.json({ effects: kernel.view.effectsInDoubt() }))
  app.post('/v1/effects/resolve', async (c) => {
    const { effect, outcome } = parse(
      z.strictObject({ effect: z.string(), outcome: z.enum(['done', 'failed']) }),
      await json(c),
    )
    await kernel.resolveEffect(effect, outcome, 'operator')
    return c.json({ effect, outcome })
  })
  return app
}

function agentRoutes(app: Hono, kernel: Kernel): void {
  const at = '/v1/agents/:tenant/:type/:key'
  const address = (c: Context) => `${c.req.param('tenant')}/${c.req.param('type')}/${c.req.param('key')}`
  app.get('/v1/agents', (c) => {
    const { tenant, type, after, limit } = c.req.query()
    return c.json({
      agents: kernel.view.agents({
        tenant,
        type,
        after,
        limit: limit === undefined ? undefined : wholeNumber(limit, 100),
      }),
    })
  })
  app.get(at, async (c) => c.json(await kernel.view.agent(address(c))))
  app.post(`${at}/invoke/:method`, async (c) => {
    const prefer = c.req.header('prefer') ?? ''
    const key = c.req.header('idempotency-key')
    const args = c.req.header('content-length') === '0' ? null : await json(c)
    const call = {
      address: address(c),
      method: c.req.param('method'),
      args,
      principal: 'operator',
      ...(key !== undefined && { idempotencyKey: key }),
    }
    const { id, reply, acknowledged } = await kernel.begin(call)
    const wait = /respond-async/.test(prefer)
      ? 0
      : waitSeconds(/wait=(\d+)/.exec(prefer)?.[1], DEFAULT_WAIT_S)
    return answer(c, id, { state: 'open', pending: reply }, wait, acknowledged)
  })
  app.post(`${at}/emit/:name`, async (c) => {
    await kernel.emit(address(c), c.req.param('name'), await json(c))
    return c.json({ emitted: c.req.param('name') })
  })
  app.get(`${at}/history`, async (c) => {
    const { limit, since, after } = c.req.query()
    const lines = await kernel.view.history(address(c), {
      limit: limit === undefined ? undefined : wholeNumber(limit, 100),
      sinceMs: since === undefined ? undefined : Number(since),
      afterSeq: after === undefined ? undefined : Number(after),
    })
    return c.json({ history: lines })
  })
  app.get(`${at}/logs`, async (c) =>
    c.json({ logs: await kernel.view.logs(address(c), wholeNumber(c.req.query('limit'), 100)) }),
  )
  app.post(`${at}/replay`, async (c) => {
    const to = c.req.query('to')
    return c.json(await kernel.replay(address(c), to === undefined ? undefined : wholeNumber(to, 0)))
  })
  app.post(`${at}/erase`, async (c) => {
    await kernel.erase(address(c))
    return c.json({ erased: address(c) })
  })
}

async function answer(
  c: Context,
  id: string,
  found: { state: string; reply?: Reply; pending?: Promise<Reply> },
  waitS: number,
  acknowledged: () => Promise<void> = async () => {},
): Promise<Response> {
  c.header('Cardinal-Invocation', id)
  const reply =
    found.reply ?? (waitS === 0 ? undefined : await within(found.pending as Promise<Reply>, waitS * 1000))
  if (!reply) {
    await acknowledged()
    return c.json({ invocation: id, state: 'open' }, 202)
  }
  if (reply.ok) return c.json({ invocation: id, state: 'done', value: reply.value })
  const { class: cls, code, message, ...rest } = reply.error
  return problem(c, new KernelError(cls as KernelErrorClass, code, message, { invocation: id, ...rest }))
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

function wholeNumber(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0)
    throw new KernelError('Malformed', 'BadRequest', `\`${text}\` is not a whole number`)
  return value
}

/** How long a caller may keep a request open. */
function waitSeconds(text: string | undefined, otherwise: number): number {
  return Math.min(wholeNumber(text, otherwise), MAX_WAIT_S)
}

async function json(c: Context): Promise<unknown> {
  const text = await c.req.text()
  if (text === '') return null
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new KernelError('Malformed', 'BadJson', `the body is not JSON: ${(error as Error).message}`)
  }
}

function parse<T>(schema: z.ZodType<T>, given: unknown): T {
  const parsed = schema.safeParse(given)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new KernelError(
    'Malformed',
    'BadRequest',
    `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not valid'}`,
  )
}

/** `application/problem+json`; what is not one of our errors is a bug, and its text stays inside. */
function problem(c: Context, error: unknown, status?: number): Response {
  const known =
    error instanceof KernelError ||
    error instanceof LogError ||
    error instanceof ManifestError ||
    error instanceof CardError
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
    detail: known ? error.message : 'the kernel met its own defect; see its standard error',
    code,
    class: cls,
    ...details,
  }
  return c.body(JSON.stringify(body), body.status as 500, { 'content-type': 'application/problem+json' })
}
