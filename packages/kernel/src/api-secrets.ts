/** Serving the routes about secrets. */
import type { OpenAPIHono } from '@hono/zod-openapi'
import { OPERATOR, on, param, parse } from './api-parts.ts'
import type { Kernel } from './kernel.ts'
import * as routes from './routes-secrets.ts'

export function secretRoutes(app: OpenAPIHono, { secrets }: Kernel): void {
  on(app, routes.listSecrets, async (c) => {
    const { tenant } = parse(routes.listSecrets.request.query, c.req.query())
    return c.json({ secrets: await secrets.list(tenant) })
  })
  on(app, routes.putSecret, async (c) => {
    const { name, rotate } = parse(routes.putSecret.request.query, c.req.query())
    const value = Buffer.from(await c.req.arrayBuffer())
    const done =
      rotate === 'true'
        ? secrets.rotate(param(c, 'tenant'), name, value, OPERATOR)
        : secrets.set(param(c, 'tenant'), name, value, OPERATOR)
    return c.json(await done)
  })
  on(app, routes.removeSecret, async (c) => {
    const { name } = parse(routes.removeSecret.request.query, c.req.query())
    await secrets.remove(param(c, 'tenant'), name, OPERATOR)
    return c.json({ removed: name })
  })
}
