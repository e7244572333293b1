/** The routes about people: what each takes and gives. */
import { z } from '@hono/zod-openapi'
import { json, route } from './routes.ts'

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
