/** Serving the routes about cards. */
import type { OpenAPIHono } from '@hono/zod-openapi'
import { address, exactJson, OPERATOR, on, param, parse } from './api-parts.ts'
import type { Kernel } from './kernel.ts'
import * as routes from './routes-cards.ts'

export function cardRoutes(app: OpenAPIHono, { cards, tokens }: Kernel): void {
  tokenRoutes(app, tokens)
  on(app, routes.listCards, async (c) =>
    c.json({ cards: cards.list(parse(routes.listCards.request.query, c.req.query())) }),
  )
  on(app, routes.getCard, async (c) => c.json(cards.get(param(c, 'id'))))
  on(app, routes.cardTree, async (c) => {
    const { limit } = parse(routes.cardTree.request.query, c.req.query())
    return c.json(cards.tree(param(c, 'id'), limit))
  })
  on(app, routes.mintCard, async (c) => {
    const wish = parse(routes.mintCard.request.body.content['application/json'].schema, await exactJson(c))
    return c.json(await cards.mint(wish, OPERATOR))
  })
  on(app, routes.revokeCard, async (c) => {
    const id = param(c, 'id')
    const { dryRun } = parse(
      routes.revokeCard.request.body.content['application/json'].schema,
      await exactJson(c),
    )
    if (dryRun) return c.json({ revoked: false, ...cards.blast(id), owners: cards.holders(id) })
    // It takes effect first; how many it reached is counted then.
    await cards.revoke(id, OPERATOR)
    return c.json({ revoked: true, ...cards.blast(id) })
  })
  on(app, routes.explain, async (c) => {
    const { agent, tool, args, via } = parse(
      routes.explain.request.body.content['application/json'].schema,
      await exactJson(c),
    )
    return c.json(await cards.explain(agent, tool, args, via))
  })
  on(app, routes.standing, async (c) => c.json(await cards.standing(address(c))))
  on(app, routes.confine, async (c) => {
    const wish = parse(routes.confine.request.body.content['application/json'].schema, await exactJson(c))
    return c.json(await cards.confine(wish, OPERATOR))
  })
  on(app, routes.listConfinements, async (c) => c.json({ confinements: cards.confinements() }))
  on(app, routes.lift, async (c) => {
    await cards.lift(param(c, 'id'), OPERATOR)
    return c.json({ lifted: param(c, 'id') })
  })
}

function tokenRoutes(app: OpenAPIHono, tokens: Kernel['tokens']): void {
  on(app, routes.exportCard, async (c) => c.json(await tokens.export(param(c, 'id'), OPERATOR)))
  on(app, routes.revokedTokens, async (c) => {
    const { asOf, issued, ids, text } = await tokens.revocationList()
    return c.json({ rootKey: tokens.rootKey, asOf, issued, revoked: ids, list: text })
  })
  on(app, routes.importCard, async (c) => {
    const wish = parse(routes.importCard.request.body.content['application/json'].schema, await exactJson(c))
    return c.json(await tokens.import(wish, OPERATOR))
  })
}
