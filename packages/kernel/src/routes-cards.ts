/** The routes about cards: what each takes and gives. */
import { z } from '@hono/zod-openapi'
import { json, limit, route } from './routes.ts'

/** A hundred years: moments stay well within what numbers hold. */
const MAX_EXPIRY_MS = 100 * 366 * 86_400_000

const one = z.object({ id: z.string() })
const grant = z.record(z.string(), z.unknown()).openapi({ description: 'a grant, as in a manifest' })
const summary = z
  .object({
    id: z.string(),
    owner: z.string(),
    parent: z.string().nullable(),
    state: z.enum(['held', 'offered', 'dropped', 'minted']),
    live: z.boolean(),
    grants: z.int(),
    depth: z.int(),
  })
  .openapi('CardSummary')
const card = z
  .object({
    id: z.string(),
    owner: z.string(),
    minter: z.string().nullable(),
    parent: z.string().nullable(),
    generation: z.int(),
    state: z.string(),
    live: z.boolean(),
    now: z.array(grant),
    ever: z.array(grant),
    limits: z.record(z.string(), z.unknown()),
    spent: z.record(z.string(), z.object({ spent: z.string(), reserved: z.string() })),
  })
  .openapi('Card')
const hosts = z
  .array(z.string())
  .min(1)
  .optional()
  .openapi({ description: 'hosts that data may go to, as `*.acme.example`' })
const narrow = z
  .strictObject({
    now: z.array(grant).optional(),
    ever: z.array(grant).optional(),
    limits: z.record(z.string(), z.unknown()).optional(),
    clip: z.boolean().optional(),
  })
  .optional()

export const listCards = route(
  {
    method: 'get',
    path: '/v1/cards',
    summary: 'cards, in the order of their minting',
    request: {
      query: z.object({
        agent: z.string().optional(),
        parent: z.string().optional(),
        after: z.string().optional(),
        limit,
      }),
    },
  },
  z.object({ cards: z.array(summary) }),
)

export const getCard = route(
  { method: 'get', path: '/v1/cards/{id}', summary: 'a card in full', request: { params: one } },
  card,
)

export const cardTree = route(
  {
    method: 'get',
    path: '/v1/cards/{id}/tree',
    summary: 'a card and those below it',
    request: { params: one, query: z.object({ limit }) },
  },
  z.object({ id: z.string(), total: z.int(), below: z.array(z.unknown()) }),
)

export const mintCard = route(
  {
    method: 'post',
    path: '/v1/cards',
    summary: 'mint a card like another one, or below it',
    request: {
      body: json(
        z.strictObject({
          like: z.string(),
          below: z.boolean().optional(),
          egress: hosts,
          narrow,
          expiresInMs: z.int().min(1).max(MAX_EXPIRY_MS).optional(),
          attach: z.string().optional().openapi({ description: 'the agent that holds it from now on' }),
          allowLoss: z.boolean().optional(),
        }),
      ),
    },
  },
  card,
)

export const revokeCard = route(
  {
    method: 'post',
    path: '/v1/cards/{id}/revoke',
    summary: 'kill a card and all below it',
    request: { params: one, body: json(z.strictObject({ dryRun: z.boolean().optional() })) },
  },
  z.object({
    revoked: z.boolean(),
    cards: z.int(),
    agents: z.int(),
    owners: z
      .array(z.string())
      .optional()
      .openapi({ description: 'of a dry run: the first hundred of the agents' }),
  }),
)

export const explain = route(
  {
    method: 'post',
    path: '/v1/explain',
    summary: 'what would be decided now on a call of a tool',
    request: {
      body: json(
        z.strictObject({
          agent: z.string(),
          tool: z.string(),
          args: z.unknown(),
          via: z.string().optional(),
        }),
      ),
    },
  },
  z.object({ verdict: z.enum(['allow', 'ask', 'refuse']) }),
)

export const standing = route(
  {
    method: 'get',
    path: '/v1/agents/{tenant}/{type}/{key}/standing',
    summary: 'what binds an agent at this moment: cards, ceiling, flow, labels',
    request: { params: z.object({ tenant: z.string(), type: z.string(), key: z.string() }) },
  },
  z.object({
    address: z.string(),
    stopped: z.boolean(),
    cards: z.array(z.string()),
    ceiling: z.array(z.array(grant)),
    flow: z.array(z.string()),
    labels: z.array(z.string()),
    spawner: z.string().nullable(),
  }),
)

const confinement = z
  .object({
    id: z.string(),
    target: z.string(),
    ceiling: z.array(grant).optional(),
    flow: z.array(z.string()).optional(),
  })
  .openapi('Confinement')

export const confine = route(
  {
    method: 'post',
    path: '/v1/confinements',
    summary: 'lower what an agent, a type or a tenant may ever do',
    request: {
      body: json(
        z.strictObject({
          target: z.string(),
          egress: hosts,
          ceiling: z.array(grant).optional(),
          flow: z.array(z.string()).optional(),
        }),
      ),
    },
  },
  confinement,
)

export const listConfinements = route(
  { method: 'get', path: '/v1/confinements', summary: 'what the host confined' },
  z.object({ confinements: z.array(confinement) }),
)

export const lift = route(
  {
    method: 'delete',
    path: '/v1/confinements/{id}',
    summary: 'lift a confinement',
    request: { params: one },
  },
  z.object({ lifted: z.string() }),
)

export const exportCard = route(
  {
    method: 'post',
    path: '/v1/cards/{id}/export',
    summary: 'a card and those above it as a sealed Biscuit',
    request: { params: one },
  },
  z.object({
    card: z.string(),
    token: z.string(),
    rootKey: z.string(),
    revocationIds: z.array(z.string()),
  }),
)

export const revokedTokens = route(
  { method: 'get', path: '/v1/revocations', summary: 'the revocation ids that an offline verifier needs' },
  z.object({
    rootKey: z.string(),
    asOf: z.int(),
    issued: z.string(),
    revoked: z.array(z.string()),
    list: z.string().openapi({ description: 'the signed list, as `cards inspect --revoked` takes it' }),
  }),
)

export const importCard = route(
  {
    method: 'post',
    path: '/v1/cards/import',
    summary: 'take a token: this node’s own is the card that it is, another becomes one within a card',
    request: {
      body: json(
        z.strictObject({
          token: z.string(),
          rootKey: z.string().optional(),
          like: z.string().optional(),
          attach: z.string().optional(),
          allowLoss: z.boolean().optional(),
        }),
      ),
    },
  },
  card,
)
