/**
 * The card, its token and the reference implementation agree: for random chains of cards and random
 * requests, in both modes, what the chain bound allows is what the decoded token allows, and what
 * biscuit-wasm, which shares no code with us, authorizes on the facts that we give it.
 */
import fc from 'fast-check'
import { type ArgRule, argHas } from '../../packages/cards/src/args.ts'
import {
  argsNamed,
  chainBound,
  readCards,
  signCards,
  type TokenCard,
} from '../../packages/cards/src/biscuit/card-token.ts'
import { sealToken, verifyToken } from '../../packages/cards/src/biscuit/container.ts'
import { factsOf } from '../../packages/cards/src/biscuit/facts.ts'
import { generateKeys } from '../../packages/cards/src/biscuit/keys.ts'
import { type Bound, has, meet, normalise } from '../../packages/cards/src/bound.ts'
import type { Box, Request } from '../../packages/cards/src/box.ts'
import { NumberText } from '../../packages/cards/src/exact-json.ts'
import { parseGrant } from '../../packages/cards/src/grant.ts'

const root = generateKeys('ed25519')
const REQUESTS = 20

const pick = <T>(...values: readonly T[]) => fc.constantFrom(...values)
const maybe = <T>(arb: fc.Arbitrary<T>) => fc.option<T, undefined>(arb, { nil: undefined })
const number = (text: string) => new NumberText(text)

const argRule = pick<unknown>(
  '*',
  { len: 3 },
  { len: 0 },
  ['a', number('5'), true],
  ['a"\\\n', 'é€'],
  { min: number('1'), max: number('5') },
  { min: number('-3'), max: number('-1'), optional: true },
  { decimal: number('2'), min: '-0.50', max: '4.25' },
  { decimal: number('3'), max: number('9223372036854775807') },
  { in: ['a', 'abc'], optional: true },
  { max: number('4'), len: 2 },
  { path: '/a/*' },
  { host: '*.x' },
  { domain: 'acme.example', optional: true },
)
const grant = fc
  .record({
    tool: pick('t', 't.u', 't.*', '*', '*'),
    resource: maybe(pick('a', 'a/b', 'a/*', '*')),
    scheme: maybe(pick(['https'], ['https', 'http'])),
    host: maybe(pick('x', 'y.x', '*.x', '*', '-')),
    port: maybe(pick([443], [443, 80])),
    method: maybe(pick<string[] | '*'>(['GET'], ['GET', 'PUT'], '*')),
    path: maybe(pick('/', '/p', '/p/*', '/*', '*')),
    secret: maybe(pick('s', 's/*', '*')),
    args: maybe(
      fc.oneof(fc.constant('*' as const), fc.dictionary(pick('m', 'n-1', 'ü'), argRule, { maxKeys: 2 })),
    ),
    labels: maybe(pick(['private'], ['private', 'untrusted'], [])),
    ask: maybe(pick(['boss'], ['boss', 'peer'])),
  })
  .map((g) =>
    parseGrant(
      Object.fromEntries(Object.entries(g).filter(([, v]) => v !== undefined)),
      'g',
      () => undefined,
    ),
  )
const bound = fc.array(grant, { minLength: 1, maxLength: 4 }).map(normalise)

const VALUES: readonly unknown[] = [
  'a',
  'abc',
  '',
  'a"\\\n',
  'é€',
  '4',
  '4.25',
  '5',
  '/a/b',
  '/a',
  'y.x',
  'x',
  'me@acme.example',
  'me@evil.example',
  true,
  null,
  number('5'),
  number('-2'),
  number('-0.5'),
  number('4.250'),
  number('4.251'),
  number('1e3'),
  number('-0'),
  number('9223372036854775807'),
  number('9223372036854775808'),
  number('2.999'),
]
const value = fc.constantFrom(...VALUES)
const request: fc.Arbitrary<Request> = fc
  .record({
    tool: pick(['t'], ['t', 'u'], ['t', 'u', 'v'], ['s']),
    resource: maybe(pick(['a'], ['a', 'b'], ['a', 'b', 'c'])),
    scheme: maybe(pick('https', 'http')),
    host: maybe(pick(['x'], ['x', 'y'], ['x', 'yy'])),
    port: maybe(pick(443, 80)),
    method: maybe(pick('GET', 'PUT')),
    path: maybe(pick([''], ['p'], ['p', 'q'], ['pp'])),
    secret: maybe(pick(['s'], ['s', 'k'])),
    args: fc
      .dictionary(pick('m', 'n-1', 'ü', 'z'), value, { maxKeys: 2 })
      .map((o) => new Map(Object.entries(o))),
  })
  .map((r) => Object.fromEntries(Object.entries(r).filter(([, v]) => v !== undefined)) as unknown as Request)

/** A request made to fit the box where it can. */
function near(q: Request, box: Box): Request {
  const at = (d: 'tool' | 'resource' | 'host' | 'path' | 'secret') => {
    const cell = box[d]
    if (cell.kind === 'top') return q[d]
    return cell.kind === 'absent' ? undefined : cell.kind === 'under' ? [...cell.at, 'k'] : cell.at
  }
  const one = (names: Box['method'], own: string | undefined) =>
    names === '*' ? own : [...names][0] || undefined
  const port = one(box.port, q.port === undefined ? undefined : String(q.port))
  const fitting = (rule: ArgRule) => VALUES.find((v) => argHas(rule.cell, v))
  const args = box.args === '*' ? q.args : new Map([...box.args].map(([name, rule]) => [name, fitting(rule)]))
  const fitted = {
    tool: at('tool'),
    resource: at('resource'),
    host: at('host'),
    path: at('path'),
    secret: at('secret'),
    method: one(box.method, q.method),
    scheme: one(box.scheme, q.scheme),
    port: port === undefined ? undefined : Number(port),
    args: new Map([...args].filter(([, v]) => v !== undefined)),
  }
  return Object.fromEntries(Object.entries(fitted).filter(([, v]) => v !== undefined)) as unknown as Request
}

function questionFor(
  { near: index, ...asked }: Question & { near: number | undefined },
  bound: Bound,
): Question {
  const box = index === undefined ? undefined : bound[index % Math.max(1, bound.length)]
  if (!box) return asked
  const whole = { ...asked, request: near(asked.request, box) }
  // Every other one is also cleared and approved.
  return (index as number) % 2 === 0 ? { ...whole, labels: [], approved: ['boss', 'peer'] } : whole
}

const asking = fc.record({
  request,
  near: maybe(fc.nat(7)),
  labels: fc.subarray(['private', 'untrusted']),
  approved: fc.subarray(['boss', 'peer']),
  nowMs: pick(5, 10, 11),
})

/** Half of the cards of a chain only inherit: random bounds seldom have much in common. */
const everything = parseGrant(
  {
    tool: '*',
    resource: '*',
    scheme: '*',
    host: '*',
    port: '*',
    method: '*',
    path: '*',
    secret: '*',
    args: '*',
  },
  'g',
  () => undefined,
)
const narrowing = fc.oneof(bound, fc.constant<Bound>([everything]))

const chains = fc
  .record({
    bounds: fc.array(fc.record({ now: narrowing, ever: narrowing }), { minLength: 1, maxLength: 3 }),
    expires: maybe(pick(10, 11)),
    askings: fc.array(asking, { minLength: REQUESTS, maxLength: REQUESTS }),
  })
  .map(({ bounds, expires, askings }) => ({ chain: chainOf(bounds, expires), askings }))

function chainOf(bounds: { now: Bound; ever: Bound }[], expires: number | undefined): TokenCard[] {
  const chain: TokenCard[] = []
  for (const { now, ever } of bounds) {
    const parent = chain.at(-1)
    const ownEver = parent ? meet(parent.ever, ever) : normalise([...ever, ...now])
    const ownNow = meet(parent ? meet(parent.now, now) : now, ownEver)
    chain.push({
      id: `c${chain.length}`,
      owner: `t/p/${chain.length}`,
      now: ownNow,
      ever: ownEver,
      limits: { depth: 3 - chain.length, budgets: new Map(), ...(expires !== undefined && { expires }) },
    })
  }
  return chain
}

interface Question {
  readonly request: Request
  readonly labels: readonly string[]
  readonly approved: readonly string[]
  readonly nowMs: number
}

function allowed(cards: Bound, { request: q, labels, approved }: Question): boolean {
  return cards.some(
    (box) =>
      has([box], q) &&
      (box.labels === '*' || labels.every((l) => (box.labels as ReadonlySet<string>).has(l))) &&
      [...box.ask].every((role) => approved.includes(role)),
  )
}

const GENEROUS = { max_facts: 10_000, max_iterations: 1_000, max_time_micro: 60_000_000 }

type Reference = typeof import('@biscuit-auth/biscuit-wasm')

/** What biscuit-wasm says of one token. Its own limit of time is wide: on a busy machine it denied what is legal. */
function referenceFor(lib: Reference, bytes: Uint8Array): (facts: string) => boolean {
  const key = lib.PublicKey.fromBytes(root.public.key, lib.SignatureAlgorithm.Ed25519)
  const biscuit = lib.Biscuit.fromBytes(bytes, key)
  return (facts) => {
    const builder = new lib.AuthorizerBuilder()
    builder.addCode(`${facts}\nallow if true;`)
    const authorizer = builder.buildAuthenticated(biscuit)
    try {
      authorizer.authorizeWithLimits(GENEROUS)
      return true
    } catch (error) {
      if (!('FailedLogic' in (error as object))) throw new Error(JSON.stringify(error))
      return false
    } finally {
      authorizer.free()
    }
  }
}

export interface Agreement {
  readonly allowed: number
  readonly refused: number
  readonly problems: readonly string[]
}

/** Compares all three on random chains of cards, 20 requests each in both modes. */
export async function agreement(
  seed: number,
  count: number,
  tell: (requests: number) => void,
): Promise<Agreement> {
  const lib = await import('@biscuit-auth/biscuit-wasm')
  const seen = { allowed: 0, refused: 0 }
  const problems: string[] = []
  let requests = 0
  for (const { chain, askings } of fc.sample(chains, { seed, numRuns: count })) {
    const bytes = sealToken(signCards(root, chain))
    const read = readCards(verifyToken(bytes, root.public))
    const reference = referenceFor(lib, bytes)
    for (const asked of askings) {
      for (const mode of ['now', 'ever'] as const) {
        const question = questionFor(asked, chain.at(-1)?.[mode] ?? [])
        const alive = chain.every(
          ({ limits: { expires } }) => expires === undefined || question.nowMs < expires,
        )
        const facts = factsOf({ ...question, mode }, argsNamed(read))
        const kernel = alive && chain.every((card) => allowed(card[mode], question))
        const token = alive && allowed(chainBound(read, mode), question)
        const theirs = reference(facts)
        if (token !== kernel || theirs !== kernel)
          problems.push(`SEED=${seed}: kernel ${kernel}, token ${token}, reference ${theirs}: ${facts}`)
        seen[kernel ? 'allowed' : 'refused']++
      }
      requests++
      tell(requests)
    }
  }
  return { ...seen, problems }
}
