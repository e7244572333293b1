/** Serving the routes about people, and those that people themselves may use: approvals, and nothing else. */
import type { OpenAPIHono } from '@hono/zod-openapi'
import { callerOf, exactJson, json, OPERATOR, on, param, parse } from './api-parts.ts'
import type { Kernel } from './kernel.ts'
import * as routes from './routes-people.ts'

/** Whether a person's own token opens this path. */
export function isForPeople(path: string): boolean {
  return path === routes.listApprovals.path || path.startsWith(`${routes.listApprovals.path}/`)
}

export function peopleRoutes(app: OpenAPIHono, { people }: Kernel): void {
  on(app, routes.listPeople, async (c) => {
    const { tenant } = parse(routes.listPeople.request.query, c.req.query())
    return c.json({ people: people.list(tenant) })
  })
  on(app, routes.addPerson, async (c) => {
    const wish = parse(routes.addPerson.request.body.content['application/json'].schema, await json(c))
    return c.json(await people.add(wish, OPERATOR))
  })
  on(app, routes.removePerson, async (c) => {
    const [tenant, name] = [param(c, 'tenant'), param(c, 'name')]
    await people.remove(tenant, name, OPERATOR)
    return c.json({ removed: `${tenant}/${name}` })
  })
}

export function approvalRoutes(app: OpenAPIHono, { approvals }: Kernel): void {
  on(app, routes.listApprovals, async (c) => {
    const { state, limit } = parse(routes.listApprovals.request.query, c.req.query())
    return c.json({ approvals: await approvals.list(state, limit, callerOf(c)) })
  })
  on(app, routes.getApproval, async (c) => c.json(await approvals.get(param(c, 'id'), callerOf(c))))
  on(app, routes.approve, async (c) => {
    const body = parse(routes.approve.request.body.content['application/json'].schema, await exactJson(c))
    return c.json(await approvals.approve(param(c, 'id'), body.digest, body.role, callerOf(c)))
  })
  on(app, routes.deny, async (c) => {
    const { why, digest } = parse(
      routes.deny.request.body.content['application/json'].schema,
      await exactJson(c),
    )
    return c.json(await approvals.deny(param(c, 'id'), callerOf(c), why ?? 'a person said no', digest))
  })
}
