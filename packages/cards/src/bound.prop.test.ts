/** The laws of bounds, over random boxes and requests of a small world in which they often meet. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Bound, has, leq, meet, normalise } from './bound.ts'
import { type Box, boxLeq, boxMeet, boxMisses, type Request } from './box.ts'
import { parseGrant, showGrant } from './grant.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const runs = { seed, numRuns: 3000 }
const none = () => undefined

const pick = <T>(...values: readonly T[]) => fc.constantFrom(...values)
const maybe = <T>(arb: fc.Arbitrary<T>) => fc.option(arb, { nil: undefined })
const argRule = fc.oneof(
  pick<unknown>(
    '*',
    { len: 1 },
    { len: 3 },
    ['a'],
    ['a', 'b'],
    { min: 1, max: 5 },
    { min: 3 },
    { decimal: 2, min: '0.50', max: '4.25' },
    { in: ['a'], optional: true },
    { max: 4, optional: true },
  ),
)
const grant = fc
  .record({
    tool: pick('t', 't.u', 't.*', 't.u.*', '*'),
    resource: maybe(pick('a', 'a/b', 'a/*', 'a/b/*', '*')),
    host: maybe(pick('x', 'y.x', '*.x', '*.y.x', '*', '-')),
    port: maybe(pick([1], [1, 2], [2, 3])),
    method: maybe(pick(['GET'], ['GET', 'PUT'], ['PUT'])),
    path: maybe(pick('/', '/p', '/p/*', '/p/q', '/*', '*')),
    args: maybe(fc.oneof(fc.constant('*' as const), fc.dictionary(pick('m', 'n'), argRule, { maxKeys: 2 }))),
    ask: maybe(pick(['r'], ['r', 's'])),
  })
  .map((g) => parseGrant(Object.fromEntries(Object.entries(g).filter(([, v]) => v !== undefined)), 'g', none))
const bound: fc.Arbitrary<Bound> = fc.array(grant, { maxLength: 4 }).map(normalise)
const request: fc.Arbitrary<Request> = fc
  .record({
    tool: pick(['t'], ['t', 'u'], ['t', 'u', 'v'], ['s']),
    resource: maybe(pick(['a'], ['a', 'b'], ['a', 'b', 'c'])),
    host: maybe(pick(['x'], ['x', 'y'], ['x', 'y', 'z'])),
    port: maybe(pick(1, 2, 3)),
    method: maybe(pick('GET', 'PUT')),
    path: maybe(pick([''], ['p'], ['p', 'q'], ['p', 'q', 'r'])),
    args: fc
      .dictionary(pick('m', 'n'), pick<unknown>('a', 'b', 'abc', 1, 3, 5, '4.25', '4.256', '0.5'), {
        maxKeys: 2,
      })
      .map((o) => new Map(Object.entries(o))),
  })
  .map((r) => Object.fromEntries(Object.entries(r).filter(([, v]) => v !== undefined)) as unknown as Request)

const holds = (box: Box, q: Request) => boxMisses(box, q).length === 0

/** Boxes and requests of a world so small that all of its requests can be asked. */
const small = fc
  .record({
    tool: pick('t', 't.u', 't.*', '*'),
    host: maybe(pick('x', 'y.x', '*.x', '*', '-')),
    method: maybe(pick(['GET'], ['GET', 'PUT'])),
    args: maybe(
      pick<unknown>(
        '*',
        { m: ['a'] },
        { m: ['a', 'b'] },
        { m: { in: ['a'], optional: true } },
        { m: { len: 1 } },
        {
          m: { min: 1, max: 2 },
        },
        { m: { decimal: 1, min: '0.5', max: '2' } },
        { m: { len: 3, optional: true } },
      ),
    ),
  })
  .map((g) => parseGrant(Object.fromEntries(Object.entries(g).filter(([, v]) => v !== undefined)), 'g', none))

const TOOL_PLACES = [['t'], ['t', 'u'], ['t', 'u', 'v'], ['t', 'v'], ['s'], ['s', 'u']]
const HOST_PLACES = [undefined, ['x'], ['x', 'y'], ['x', 'z'], ['z'], ['x', 'y', 'z']]
const METHODS = [undefined, 'GET', 'PUT', 'POST']
const ARGS: Record<string, unknown>[] = [
  {},
  ...[
    'a',
    'b',
    'c',
    'ab',
    'abc',
    'abcd',
    '',
    1,
    2,
    3,
    1.5,
    0.5,
    '1',
    '2',
    '1.5',
    '1.25',
    '3',
    null,
    true,
  ].map((m) => ({ m })),
  { n: 'a' },
  { m: 'a', n: 'a' },
]
const EVERY_REQUEST: Request[] = TOOL_PLACES.flatMap((tool) =>
  HOST_PLACES.flatMap((host) =>
    METHODS.flatMap((method) =>
      ARGS.map(
        (args) =>
          ({
            tool,
            ...(host && { host }),
            ...(method && { method }),
            args: new Map(Object.entries(args)),
          }) as Request,
      ),
    ),
  ),
)

describe(`bounds (SEED=${seed})`, () => {
  it('a meet allows exactly what both allow', () => {
    fc.assert(
      fc.property(bound, bound, request, (a, b, q) => {
        expect(has(meet(a, b), q)).toBe(has(a, q) && has(b, q))
      }),
      runs,
    )
  })
  it('a meet lies below both, and a box that lies below both lies below it', () => {
    fc.assert(
      fc.property(bound, bound, grant, (a, b, c) => {
        const m = meet(a, b)
        expect(leq(m, a) && leq(m, b)).toBe(true)
        if (leq([c], a) && leq([c], b)) expect(leq([c], m)).toBe(true)
      }),
      runs,
    )
  })
  it('a meet is idempotent, and commutative and associative in what it allows', () => {
    fc.assert(
      fc.property(bound, bound, bound, request, (a, b, c, q) => {
        expect(leq(meet(a, a), a) && leq(a, meet(a, a))).toBe(true)
        expect(has(meet(a, b), q)).toBe(has(meet(b, a), q))
        expect(has(meet(meet(a, b), c), q)).toBe(has(meet(a, meet(b, c)), q))
      }),
      runs,
    )
  })
  it('what lies below allows no more', () => {
    fc.assert(
      fc.property(grant, grant, request, (a, b, q) => {
        if (boxLeq(a, b) && holds(a, q)) expect(holds(b, q)).toBe(true)
        const m = boxMeet(a, b)
        if (holds(a, q) && holds(b, q)) expect(m && holds(m, q)).toBe(true)
      }),
      { ...runs, numRuns: 10_000 },
    )
  })
  it('one box lies in another exactly if no request is in the one and not in the other', () => {
    fc.assert(
      fc.property(small, small, (a, b) => {
        const witness = EVERY_REQUEST.some((q) => holds(a, q) && !holds(b, q))
        expect(boxLeq(a, b)).toBe(!witness)
      }),
      { ...runs, numRuns: 2000 },
    )
  })
  it('the order is reflexive and transitive', () => {
    fc.assert(
      fc.property(grant, grant, grant, (a, b, c) => {
        expect(boxLeq(a, a)).toBe(true)
        if (boxLeq(a, b) && boxLeq(b, c)) expect(boxLeq(a, c)).toBe(true)
      }),
      runs,
    )
  })
  it('normalising changes nothing that is allowed', () => {
    fc.assert(
      fc.property(fc.array(grant, { maxLength: 6 }), request, (boxes, q) => {
        expect(has(normalise(boxes), q)).toBe(has(boxes, q))
      }),
      runs,
    )
  })
  it('the full form of a grant parses to the same grant', () => {
    fc.assert(
      fc.property(grant, (box) => {
        const again = parseGrant(showGrant(box), 'g', none)
        expect(boxLeq(again, box) && boxLeq(box, again)).toBe(true)
      }),
      runs,
    )
  })
})
