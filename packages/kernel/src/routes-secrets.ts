/** The routes about secrets. None of them gives a value. */
import { z } from '@hono/zod-openapi'
import { route } from './routes.ts'

const shown = z.object({ tenant: z.string(), name: z.string(), version: z.int(), changed: z.string() })
const tenant = z.object({ tenant: z.string() })
const name = z.string().openapi({ description: 'segments parted by slashes, as `ledger-token`' })
const value = {
  required: true,
  content: {
    'application/octet-stream': {
      schema: z.string().openapi({ format: 'binary', description: 'the value' }),
    },
  },
}

export const listSecrets = route(
  {
    method: 'get',
    path: '/v1/secrets',
    summary: 'names and versions of secrets',
    request: { query: z.object({ tenant: z.string().optional() }) },
  },
  z.object({ secrets: z.array(shown) }),
)

export const putSecret = route(
  {
    method: 'put',
    path: '/v1/secrets/{tenant}',
    summary: 'a new secret, or with `rotate` the next value of one',
    request: {
      params: tenant,
      query: z.object({ name, rotate: z.enum(['true', 'false']).optional() }),
      body: value,
    },
  },
  shown,
)

export const removeSecret = route(
  {
    method: 'delete',
    path: '/v1/secrets/{tenant}',
    summary: 'forget a secret',
    request: { params: tenant, query: z.object({ name }) },
  },
  z.object({ removed: z.string() }),
)
