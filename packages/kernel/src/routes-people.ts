/** The routes about people, and what they approve: what each takes and gives. */
import { z } from '@hono/zod-openapi'
import { json, limit, route } from './routes.ts'

const person = z.strictObject({
  tenant: z.string(),
  name: z.string(),
  roles: z.array(z.string()).max(100).openapi({ description: 'as which they approve' }),
  card: z.string().openapi({ description: 'what they approve lies within this card' }),
})

export const listPeople = route(
  {
    method: 'get',
    path: '/v1/people',
    summary: 'who approves',
    request: { query: z.object({ tenant: z.string().optional() }) },
  },
  z.object({ people: z.array(person) }),
)

export const addPerson = route(
  {
    method: 'post',
    path: '/v1/people',
    summary: 'declare somebody who approves; their token is in this answer and in no other',
    request: { body: json(person) },
  },
  z.object({ token: z.string() }),
)

export const removePerson = route(
  {
    method: 'delete',
    path: '/v1/people/{tenant}/{name}',
    summary: 'their token is worth nothing from then on',
    request: { params: z.object({ tenant: z.string(), name: z.string() }) },
  },
  z.object({ removed: z.string() }),
)

const one = z.object({ id: z.string() })
const approval = z
  .object({
    id: z.string(),
    effect: z.string(),
    tool: z.string(),
    args: z.unknown(),
    for: z.string(),
    ask: z.array(z.array(z.string())),
    approved: z.array(z.string()),
    state: z.enum(['open', 'approved', 'denied', 'ended']),
    digest: z.string(),
  })
  .openapi('Approval')

export const listApprovals = route(
  {
    method: 'get',
    path: '/v1/approvals',
    summary: 'effects that wait for a person',
    request: {
      query: z.object({ state: z.enum(['open', 'approved', 'denied', 'ended']).optional(), limit }),
    },
  },
  z.object({ approvals: z.array(approval) }),
)

export const getApproval = route(
  { method: 'get', path: '/v1/approvals/{id}', summary: 'one of them', request: { params: one } },
  approval,
)

export const approve = route(
  {
    method: 'post',
    path: '/v1/approvals/{id}/approve',
    summary: 'approve exactly what was shown',
    request: {
      params: one,
      body: json(z.strictObject({ digest: z.string(), role: z.string().optional() })),
    },
  },
  approval,
)

export const deny = route(
  {
    method: 'post',
    path: '/v1/approvals/{id}/deny',
    summary: 'deny it',
    request: {
      params: one,
      body: json(z.strictObject({ why: z.string().optional(), digest: z.string().optional() })),
    },
  },
  approval,
)
