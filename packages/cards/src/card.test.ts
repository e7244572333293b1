/** Decisions on the card of a manifest; each refusal has a twin that differs in one fact and is allowed. */
import { describe, expect, it } from 'vitest'
import type { Request } from './box.ts'
import { fillCard, parseCard, type RootCard } from './card.ts'
import { CardError } from './errors.ts'
import { addCard } from './rules/acts-on-cards.ts'
import { begin, receipt } from './rules/effects.ts'
import { type Explained, explain } from './rules/explain.ts'
import { type Agent, newAgent, newWorld, type World } from './rules/state.ts'

const http = {
  scheme: ['https'],
  port: [443],
  method: ['GET', 'HEAD'],
  args: {},
  required: ['host', 'path'] as const,
}
const defaultsOf = (tool: string) => (tool === 'http.fetch' ? http : undefined)
const card = (given: object) => parseCard(given, 'card', defaultsOf)

/** A world with one agent that was born with the card. */
function born(root: RootCard, nowMs: number): { world: World; agent: Agent } {
  const world = newWorld()
  world.nowMs = nowMs
  for (const tool of ['http.fetch', 'bank.pay'])
    world.tools.set(tool, { place: tool.split('.'), sinks: [], yields: [] })
  const agent = newAgent({ id: 't/a/k', tenant: 't', type: 'a', key: 'k', spawner: undefined })
  world.agents.set(agent.id, agent)
  const row = addCard(world, { id: 'c', owner: agent, minter: undefined, parent: undefined, ...root })
  agent.births.push(row)
  agent.held.add(row)
  return { world, agent }
}

type Decided =
  | { readonly verdict: 'allow' | 'ask' }
  | ({ readonly verdict: 'refuse'; readonly by: string } & Explained)

function decide(root: RootCard, q: Request, { calls = 0, nowMs = 1000 } = {}): Decided {
  const { world, agent } = born(fillCard(root, 't/a/k', 'a..b'), nowMs)
  const request = { q, tool: q.tool.join('.'), spend: new Map() }
  for (let n = 0; n < calls; n++) {
    begin(world, `e${n}`, { agent: agent.id, request, stream: false })
    receipt(world, { id: `e${n}`, outcome: 'done', more: false })
  }
  const begun = begin(world, 'e', { agent: agent.id, request, stream: false })
  if (!begun.ok) throw new Error(begun.code)
  const { verdict } = begun
  if (verdict.verdict !== 'refuse') return verdict
  return { verdict: 'refuse', by: verdict.by, ...explain(world, agent, request, [], verdict) }
}

function get(change: Partial<Record<keyof Request, unknown>> = {}): Request {
  return {
    tool: ['http', 'fetch'],
    scheme: 'https',
    host: ['example', 'ledger'],
    port: 443,
    method: 'GET',
    path: ['accounts', '7'],
    args: new Map(),
    ...change,
  } as Request
}

function ask(given: object, request: Request, options: { calls?: number; nowMs?: number } = {}): Decided {
  return decide(card(given), request, options)
}

const now = [{ tool: 'http.fetch', host: 'ledger.example', path: '/accounts/*' }]

describe('a card', () => {
  it('allows what a grant names, and nothing without one', () => {
    expect(ask({ now }, get()).verdict).toBe('allow')
    expect(ask({ now: [] }, get())).toMatchObject({ verdict: 'refuse', by: 'card', code: 'NoGrant' })
  })

  const twins: [string, Partial<Record<keyof Request, unknown>>, string][] = [
    ['the root of a subtree', { path: ['accounts'] }, 'path'],
    ['a neighbouring path', { path: ['accountsx', '7'] }, 'path'],
    ['another case', { path: ['Accounts', '7'] }, 'path'],
    ['a subdomain', { host: ['example', 'ledger', 'a'] }, 'host'],
    ['a host that only ends alike', { host: ['example', 'evilledger'] }, 'host'],
    ['another port', { port: 8443 }, 'port'],
    ['another scheme', { scheme: 'http' }, 'scheme'],
    ['another method', { method: 'POST' }, 'method'],
    ['an argument that is not listed', { args: new Map([['query.q', '1']]) }, 'args'],
    ['a secret', { secret: ['s'] }, 'secret'],
  ]
  for (const [name, change, dimension] of twins) {
    it(`refuses ${name}, and names the dimension`, () => {
      expect(ask({ now }, get(change))).toMatchObject({ verdict: 'refuse', nearest: { misses: [dimension] } })
      expect(ask({ now }, get()).verdict).toBe('allow')
    })
  }

  it('says by the narrowest grant what would have allowed it, and that grant does', () => {
    const refused = ask({ now }, get({ method: 'DELETE' }))
    if (refused.verdict !== 'refuse') throw new Error('allowed')
    expect(ask({ now: [refused.missing] }, get({ method: 'DELETE' })).verdict).toBe('allow')
  })

  it('counts a limit up to its last unit', () => {
    const limited = { now, limits: { calls: 3 } }
    expect(ask(limited, get(), { calls: 2 }).verdict).toBe('allow')
    expect(ask(limited, get(), { calls: 3 })).toMatchObject({ by: 'limit', code: 'BudgetSpent' })
  })

  it('is dead from the very moment it expires', () => {
    const expiring = { now, limits: { expires: '2027-01-01T00:00:00Z' } }
    const at = Date.parse('2027-01-01T00:00:00Z')
    expect(ask(expiring, get(), { nowMs: at - 1 }).verdict).toBe('allow')
    expect(ask(expiring, get(), { nowMs: at })).toMatchObject({ by: 'stopped', code: 'Stopped' })
  })

  it('puts the key of an instance where its author wrote {key}, as one segment', () => {
    const given = card({ now: [{ tool: 'http.fetch', host: 'ledger.example', path: '/users/{key}/*' }] })
    const at = (path: string[]) => decide(given, get({ path })).verdict
    expect(at(['users', 'a..b', 'x'])).toBe('allow')
    expect(at(['users', 'other', 'x'])).toBe('refuse')
  })
})

describe('numbers of a grant', () => {
  const pay = (amount: unknown) => ({ tool: ['bank', 'pay'], args: new Map([['amount', amount]]) }) as Request
  const bounded = {
    now: [{ tool: 'bank.pay', args: { amount: { decimal: 2, min: '0.01', max: '500.00' } } }],
  }
  for (const ok of ['0.01', '500', '500.00', 12, 0.3])
    it(`let ${JSON.stringify(ok)} through`, () => expect(ask(bounded, pay(ok)).verdict).toBe('allow'))
  for (const bad of [
    '500.01',
    '0',
    '1e2',
    '-0',
    '0.001',
    ' 5',
    '05',
    Number.NaN,
    1e21,
    '9007199254740993',
    null,
    true,
    {},
  ]) {
    it(`stop ${typeof bad === 'number' ? bad : JSON.stringify(bad)}`, () =>
      expect(ask(bounded, pay(bad)).verdict).toBe('refuse'))
  }
})

describe('a card that is written wrongly', () => {
  const wrong: [string, object, string, string][] = [
    ['an unknown field', { now: [{ tool: 't', hots: 'x' }] }, 'card.now[0].hots', 'BadGrant'],
    ['a mid-pattern star', { now: [{ tool: 't', path: '/a/*/b' }] }, 'card.now[0].path', 'BadGrant'],
    ['dots for a segment', { now: [{ tool: 't', path: '/a/../b' }] }, 'card.now[0].path', 'BadGrant'],
    ['a host in capitals', { now: [{ tool: 't', host: 'A.example' }] }, 'card.now[0].host', 'BadGrant'],
    ['subdomains of an address', { now: [{ tool: 't', host: '*.0.0.1' }] }, 'card.now[0].host', 'BadGrant'],
    ['http.fetch without host', { now: [{ tool: 'http.fetch', path: '/' }] }, 'card.now[0]', 'BadGrant'],
    ['an empty list', { now: [{ tool: 't', args: { a: [] } }] }, 'card.now[0].args.a', 'BadGrant'],
    ['now outside ever', { now: [{ tool: 't' }], ever: [{ tool: 'u' }] }, 'card.now[0]', 'NowNotInEver'],
    ['an unknown limit', { now: [], limits: { callz: 1 } }, 'card.limits.callz', 'BadGrant'],
    [
      '65 grants',
      { now: Array.from({ length: 65 }, (_, i) => ({ tool: `t${i}` })) },
      'card.now',
      'TooManyGrants',
    ],
  ]
  for (const [name, given, path, code] of wrong) {
    it(`is refused for ${name}, with its place`, () => {
      let error: unknown
      try {
        card(given)
      } catch (e) {
        error = e
      }
      expect(error).toBeInstanceOf(CardError)
      expect(error).toMatchObject({ path, code })
    })
  }
  it('is taken with 64 grants', () => {
    expect(card({ now: Array.from({ length: 64 }, (_, i) => ({ tool: `t${i}` })) }).now.length).toBe(64)
  })
})
