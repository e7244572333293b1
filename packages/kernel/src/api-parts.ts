/** What all routes of the API have in common: being served, and reading what was sent. */
import { parsePlainJson } from '@cardinal/cards'
import type { OpenAPIHono, RouteConfig, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { Approver } from './approvers.ts'
import { KernelError } from './errors.ts'
import type { RecordedPerson } from './people.ts'

/** Whoever has the node's own token. */
export const OPERATOR = 'operator'

const CALLERS = new WeakMap<Request, RecordedPerson>()

/** Notes whose token a request came with; left out: the operator's. */
export function setCaller(c: Context, person: RecordedPerson): void {
  CALLERS.set(c.req.raw, person)
}

export function callerOf(c: Context): Approver {
  return CALLERS.get(c.req.raw) ?? OPERATOR
}

/** Serves a route, and writes it into the OpenAPI document. */
export function on(app: OpenAPIHono, route: RouteConfig, handle: (c: Context) => Promise<Response>): void {
  app.openAPIRegistry.registerPath(route)
  app.on(route.method, [route.path.replaceAll(/\{(\w+)\}/g, ':$1')], handle)
}

export function param(c: Context, name: string): string {
  return c.req.param(name) ?? ''
}

export function address(c: Context): string {
  return `${param(c, 'tenant')}/${param(c, 'type')}/${param(c, 'key')}`
}

export async function json(c: Context, read: (text: string) => unknown = JSON.parse): Promise<unknown> {
  const text = await c.req.text()
  if (text === '') return null
  try {
    return read(text)
  } catch (error) {
    throw new KernelError('Malformed', 'BadJson', `the body is not JSON: ${(error as Error).message}`)
  }
}

/** As `json`, where a body bounds something: numbers as they are written, and no key twice. */
export function exactJson(c: Context): Promise<unknown> {
  return json(c, parsePlainJson)
}

export function parse<T extends z.ZodType>(schema: T, given: unknown): z.output<T> {
  const parsed = schema.safeParse(given)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new KernelError(
    'Malformed',
    'BadRequest',
    `\`${issue?.path.join('.') ?? ''}\`: ${issue?.message ?? 'not valid'}`,
  )
}
