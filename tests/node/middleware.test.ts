/** Middleware: what stands between an agent's effects and the world, and what it may not do. */

import { VirtualClock } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import type { Middleware, OwnModule } from '@cardinal/middleware'
import type { Receipt, Tool } from '@cardinal/tools'
import { isRange } from '@cardinal/tools'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  applyPrograms,
  crashCopy,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'

type Did = Omit<Middleware, 'name' | 'digest'>

/** What tools were given, in order. */
let performed: [tool: string, args: Record<string, unknown>][] = []
let answer: unknown
/** What the module `own` does in this test. */
let own: Did = {}
let version = 1
let t: TestKernel

const noting = (name: string) => (args: Record<string, unknown>) => {
  performed.push([name, args])
  return answer
}
/** What a tool threw, as its operator is told. */
const broken: [tool: string, message: string][] = []
/** A read that fails as often as a test says. */
let failures = 0
const flaky = (name: string, effectClass: 'read' | 'once'): Tool => ({
  ...functionTool(name, effectClass, () => null),
  perform: async (plan, attempt): Promise<Receipt> => {
    await attempt.started()
    performed.push([name, plan as Record<string, unknown>])
    if (failures-- > 0) return { ok: false, error: { class: 'Unavailable', code: 'NoAnswer', message: 'no' } }
    return { ok: true, value: answer }
  },
})
/** A tool that throws, before anything went out or after. */
const throwing = (name: string, when: 'before' | 'after'): Tool => ({
  ...functionTool(name, 'once', () => null),
  perform: async (plan, attempt): Promise<Receipt> => {
    if (when === 'after') await attempt.started()
    performed.push([name, plan as Record<string, unknown>])
    throw new Error('thrown by a tool')
  },
})
const tools = () => [
  throwing('net.breaks', 'before'),
  throwing('net.broke', 'after'),
  functionTool('bank.pay', 'once', noting('bank.pay')),
  functionTool('bank.look', 'read', noting('bank.look')),
  flaky('net.read', 'read'),
  flaky('net.pay', 'once'),
]
const modules: ReadonlyMap<string, OwnModule> = new Map([
  [
    'own',
    {
      get digest() {
        return `v${version}`
      },
      make: () => ({
        request: (call, signal) => (own.request ? own.request(call, signal) : { do: 'pass' }),
        response: (call, value, signal) => (own.response ? own.response(call, value, signal) : { value }),
      }),
    },
  ],
])
const GRANTS = [
  '{ tool: bank.pay, args: { to: "*", amount: { max: 100 }, note: { len: 200, optional: true } } }',
  '{ tool: bank.look, args: "*" }',
  '{ tool: net.*, args: "*" }',
  '{ tool: agent.*, resource: "*", method: "*" }',
]

/** One node for all tests that want nothing else of it: building it takes longer than they do. */
let shared: TestKernel | undefined
const standing = new Set<string>()
let key = 'a'
let count = 0

async function open(spec = '', limits?: string): Promise<void> {
  key = `a${++count}`
  standing.clear()
  if (spec === '' && limits === undefined && shared) {
    t = shared
    return
  }
  const teller = { name: 'teller', file: programFile('teller.ts'), now: GRANTS, spec }
  const onBroken = (_effect: string, tool: string, error: unknown) =>
    broken.push([tool, (error as Error).message])
  t = await openTestKernel([{ ...teller, ...(limits && { limits }) }], { tools: tools(), modules, onBroken })
  if (spec === '' && limits === undefined) shared = t
}

/** Closes the node and opens it again on its folder. */
async function again(options: Parameters<TestKernel['reopen']>[0] = {}): Promise<TestKernel> {
  const next = await t.reopen(options)
  if (t === shared) shared = next
  return next
}

async function middleware(name: string, spec: string): Promise<void> {
  standing.add(name)
  const text = `apiVersion: cardinal/v1\nkind: Middleware\nmetadata: { tenant: acme, name: ${name} }\nspec: ${spec}\n`
  await t.kernel.apply(
    parseManifests(text, 'm.yaml', { isRange, defaultsOf: t.kernel.defaultsOf }),
    new Map(),
  )
}

async function use(name: string, args: unknown, who = key): Promise<Record<string, unknown>> {
  const reply = await t.call(`acme/teller/${who}`, 'use', { name, args })
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value as Record<string, unknown>
}
const pay = (more: object = {}) => use('bank.pay', { to: 'ann', amount: 10, ...more })
const OK = { ok: true }

beforeEach(() => {
  performed = []
  answer = { id: 'p1' }
  own = {}
  version = 1
  failures = 0
})
afterEach(async () => {
  for (const name of standing) await middleware(name, '{ tools: [], audit: {} }')
  if (t === shared) return
  await done(t)
})
afterAll(async () => {
  if (shared) await done(shared)
})

/** Whatever was decided is decided so again from the record, and whoever did it becomes the same again. */
async function done(node: TestKernel): Promise<void> {
  expect((await node.kernel.audit()).mismatches).toEqual([])
  for (const { address } of node.kernel.view.agents({}) as { address: string }[])
    await node.kernel.replay(address)
  await node.close()
}

describe('what middleware does', () => {
  it('takes out of arguments and results what a rule finds', async () => {
    await open()
    answer = { by: 'ann@acme.example', iban: 'DE89 3704 0044 0532 0130 00', rows: [{ pin: 1234 }] }
    await middleware(
      'hide',
      '{ tools: ["bank.*"], redact: { args: [{ path: note, known: email }], answer: [{ known: iban }, { known: email, with: "[mail]" }, { path: "rows.*.pin" }] } }',
    )
    const shown = await pay({ note: 'from bob@acme.example, thanks' })
    expect(shown).toEqual({
      ok: true,
      value: { by: '[mail]', iban: '[redacted]', rows: [{ pin: '[redacted]' }] },
    })
    expect(performed).toEqual([['bank.pay', { to: 'ann', amount: 10, note: 'from [redacted], thanks' }]])
  })

  it('refuses what is beyond its rate, says when to come back, and counts each agent by itself', async () => {
    await open()
    await middleware('slow', '{ tools: [bank.pay], rateLimit: { calls: 2, per: hour } }')
    expect([await pay(), await pay()]).toMatchObject([OK, OK])
    expect(await pay()).toMatchObject({ ok: false, name: 'Unavailable', code: 'RateLimited' })
    expect(await use('bank.pay', { to: 'ann', amount: 1 }, `${key}b`)).toMatchObject(OK)
    expect(await use('bank.look', {})).toMatchObject(OK)
    expect(performed).toHaveLength(4)
  })

  it('lets what is beyond its rate wait, where it says so', async () => {
    await open()
    await middleware('slow', '{ tools: [bank.pay], rateLimit: { calls: 5, per: second, wait: 1s } }')
    const began = performance.now()
    const paid = await Promise.all(
      Array.from({ length: 7 }, (_, i) => use('bank.pay', { to: 'x', amount: i }, key)),
    )
    expect(paid.every(({ ok }) => ok)).toBe(true)
    expect(performance.now() - began).toBeGreaterThan(350)
    await use('bank.look', {})
  })

  describe('as a budget', () => {
    const START = Date.parse('2026-02-28T20:00:00Z')
    const SPENT = { ok: false, code: 'BudgetSpent', by: 'middleware' }
    let clock: VirtualClock
    let options: Parameters<typeof crashCopy>[1]

    /** A node whose tool costs 2.50 EUR, with a clock of its own. */
    async function priced(now: readonly string[] = GRANTS): Promise<void> {
      clock = new VirtualClock(START)
      key = `a${++count}`
      standing.clear()
      const plain = functionTool('bank.pay', 'once', noting('bank.pay'))
      const costly: Tool = {
        ...plain,
        translate: (args, settings) => {
          const made = plain.translate(args, settings)
          return 'bad' in made ? made : { ...made, cost: { ...made.cost, spend: { EUR: '2.50' } } }
        },
      }
      const all = [costly, ...tools().filter(({ name }) => name !== 'bank.pay')]
      options = { tools: all, modules, clock }
      t = await openTestKernel([{ name: 'teller', file: programFile('teller.ts'), now }], options)
    }
    const on = (spec: string) => middleware('purse', `{ tools: ["bank.*"], budget: ${spec} }`)

    it('is shared by whoever it says, over a restart and a crash, and begins anew the next day', async () => {
      await priced()
      await on('{ by: tenant, per: day, spend: { EUR: "10.00" } }')
      expect([await pay(), await use('bank.pay', { to: 'ann', amount: 1 }, 'other')]).toMatchObject([OK, OK])
      t = await again()
      expect(await pay()).toMatchObject(OK)
      const old = t
      t = await crashCopy(t, options)
      await old.close()
      expect([await pay(), await pay()]).toMatchObject([OK, SPENT])
      const refused = await use('bank.pay', { to: 'ann', amount: 1 }, 'third')
      expect(refused).toMatchObject(SPENT)
      expect(refused.message).toContain('`purse`: `spend.EUR` of this tenant are spent')
      // What costs nothing is no part of it.
      expect(await use('bank.look', {})).toMatchObject(OK)
      clock.moveTo(START + 4 * 3_600_000 - 1)
      expect(await pay()).toMatchObject(SPENT)
      clock.moveTo(START + 4 * 3_600_000)
      expect(await pay()).toMatchObject(OK)
      expect(performed.filter(([tool]) => tool === 'bank.pay')).toHaveLength(5)
    })

    it('is an agent’s own, and a month long, where it says so; a limit that was raised goes on', async () => {
      await priced()
      await on('{ per: month, calls: 2 }')
      expect([await pay(), await use('bank.look', {}), await pay()]).toMatchObject([OK, OK, SPENT])
      expect(await use('bank.look', {}, 'other')).toMatchObject(OK)
      await on('{ per: month, calls: 3 }')
      expect([await pay(), await pay()]).toMatchObject([OK, SPENT])
      clock.moveTo(Date.parse('2026-03-01T00:00:00Z'))
      expect(await pay()).toMatchObject(OK)
    })

    it('has back what was not spent: what was refused, or answered in its place', async () => {
      await priced()
      await on('{ per: day, calls: 10, spend: { EUR: "2.50" } }')
      await middleware(
        'no',
        '{ tools: [bank.pay], schema: { args: { properties: { to: { const: ann } } } } }',
      )
      for (let i = 0; i < 3; i++) expect(await pay({ to: 'eve' })).toMatchObject({ code: 'SchemaRefused' })
      await middleware('no', '{ tools: [bank.pay], dryRun: { answer: 1 } }')
      for (let i = 0; i < 3; i++) expect(await pay()).toEqual({ ok: true, value: 1 })
      await middleware('no', '{ tools: [], audit: {} }')
      expect([await pay(), await pay()]).toMatchObject([OK, SPENT])
      expect(performed).toHaveLength(1)
    })

    it('takes nothing for what is refused behind it, over a restart too', async () => {
      await priced()
      await on('{ by: tenant, per: day, calls: 2 }')
      await middleware('odd', '{ tools: [bank.pay], order: 200, module: { name: own } }')
      own = { request: () => ({ do: 'rewrite', args: { to: 'ann', amount: 1_000_000 } }) }
      for (let i = 0; i < 4; i++) expect(await pay()).toMatchObject({ ok: false, code: 'NoGrant' })
      own = { request: () => ({ do: 'rewrite', args: null }) }
      for (let i = 0; i < 4; i++) expect((await pay()).ok).toBe(false)
      own = {}
      t = await again()
      expect([await pay({ amount: 1 }), await pay({ amount: 2 }), await pay({ amount: 3 })]).toMatchObject([
        OK,
        OK,
        SPENT,
      ])
    })

    it('is not overdrawn by effects that are asked for together', async () => {
      await priced()
      await on('{ by: tenant, per: day, spend: { EUR: "7.50" } }')
      const all = await Promise.all(
        Array.from({ length: 12 }, (_, i) => use('bank.pay', { to: 'ann', amount: 1 }, `p${i % 4}`)),
      )
      expect(all.filter(({ ok }) => ok)).toHaveLength(3)
      expect(performed).toHaveLength(3)
    })

    it('bounds how often a person is asked, and counts what is approved when it is approved', async () => {
      await priced(['{ tool: bank.pay, args: "*", ask: [boss] }'])
      await on('{ by: type, per: day, asks: 2, spend: { EUR: "2.50" } }')
      const asked = async (amount: number) => {
        const args = { name: 'bank.pay', args: { to: 'ann', amount } }
        return t.kernel.invoke({ address: `acme/teller/${amount}`, method: 'use', args })
      }
      const first = await asked(1)
      const second = await asked(2)
      await expect.poll(() => t.kernel.approvals.list()).toHaveLength(2)
      expect(await pay()).toMatchObject(SPENT)
      const [one, two] = await t.kernel.approvals.list()
      const { approvals } = t.kernel
      await approvals.approve(one?.id ?? '', one?.digest ?? '', undefined, 'operator')
      expect(await first.reply).toMatchObject({ value: OK })
      await expect(
        approvals.approve(two?.id ?? '', two?.digest ?? '', undefined, 'operator'),
      ).rejects.toMatchObject({ code: 'BudgetSpent' })
      expect(await second.reply).toMatchObject({ value: SPENT })
      expect(performed).toHaveLength(1)
    })
  })

  it('checks arguments and results against a schema', async () => {
    await open()
    await middleware(
      'shape',
      '{ tools: [bank.pay], schema: { args: { type: object, properties: { to: { enum: [ann, bob] } } }, answer: { type: object, required: [id] } } }',
    )
    expect(await pay({ to: 'eve' })).toMatchObject({ ok: false, code: 'SchemaRefused', by: 'middleware' })
    expect(performed).toEqual([])
    expect(await pay()).toMatchObject(OK)
    answer = { nothing: 1 }
    expect(await pay()).toMatchObject({ ok: false, name: 'Withheld', code: 'Withheld' })
    expect(performed).toHaveLength(2)
  })

  it('answers in the place of the tool in a dry run, which costs nothing', async () => {
    await open('', '{ calls: 3 }')
    await middleware('dry', '{ tools: [bank.pay], dryRun: { answer: { id: none } } }')
    for (let i = 0; i < 5; i++) expect(await pay()).toEqual({ ok: true, value: { id: 'none' } })
    expect(await pay({ amount: 101 })).toMatchObject({ ok: false, code: 'NoGrant' })
    expect(performed).toEqual([])
  })

  it('gives a read the answer that it had, to the same agent, until it is too old', async () => {
    await open()
    await middleware('keep', '{ tools: ["bank.*"], cache: { for: 1h } }')
    expect(await use('bank.look', { n: 1 })).toEqual({ ok: true, value: { id: 'p1' } })
    answer = { id: 'p2' }
    expect(await use('bank.look', { n: 1 })).toEqual({ ok: true, value: { id: 'p1' } })
    expect(await use('bank.look', { n: 2 })).toEqual({ ok: true, value: { id: 'p2' } })
    expect(await use('bank.look', { n: 1 }, `${key}b`)).toEqual({ ok: true, value: { id: 'p2' } })
    // What changes the world is done each time.
    await pay()
    await pay()
    expect(performed.map(([tool]) => tool)).toEqual([
      'bank.look',
      'bank.look',
      'bank.look',
      'bank.pay',
      'bank.pay',
    ])
  })

  it('tries again what may be repeated, and nothing else', async () => {
    await open()
    await middleware('again', '{ tools: ["net.*"], retry: { times: 3, first: 5ms } }')
    failures = 2
    expect(await use('net.read', {})).toMatchObject(OK)
    expect(performed).toHaveLength(3)
    failures = 3
    expect(await use('net.read', {})).toMatchObject({ ok: false, code: 'NoAnswer' })
    failures = 1
    expect(await use('net.pay', {})).toMatchObject({ ok: false, code: 'NoAnswer' })
    expect(performed).toHaveLength(7)
  })

  it('tells whoever watches what was done, as it went out', async () => {
    const lines: unknown[] = []
    t = await openTestKernel([{ name: 'teller', file: programFile('teller.ts'), now: GRANTS }], {
      tools: tools(),
      onAudit: (line) => lines.push(line),
    })
    await middleware('hide', '{ tools: [bank.pay], order: 1, redact: { args: [{ path: note }] } }')
    await middleware('tell', '{ tools: ["*"], order: 2, audit: {} }')
    await pay({ note: 'x' })
    await pay({ amount: 500 })
    expect(lines).toMatchObject([
      {
        effect: expect.stringMatching(/^acme\/teller\/.*@\d+\.0$/),
        tool: 'bank.pay',
        args: { note: '[redacted]' },
        outcome: 'done',
      },
    ])
  })
})

describe('what middleware sends on is decided again', () => {
  beforeEach(async () => {
    await open()
    await middleware('own', '{ tools: ["bank.*"], module: { name: own } }')
  })

  it('goes out as it was changed, within the card', async () => {
    own = { request: (call) => ({ do: 'rewrite', args: { ...(call.args as object), amount: 99 } }) }
    expect(await pay()).toMatchObject(OK)
    expect(performed).toEqual([['bank.pay', { to: 'ann', amount: 99 }]])
  })

  it('is refused by the card where it was made wider', async () => {
    own = { request: (call) => ({ do: 'rewrite', args: { ...(call.args as object), amount: 101 } }) }
    expect(await pay()).toMatchObject({ ok: false, name: 'Refused', by: 'card', code: 'NoGrant' })
    expect(performed).toEqual([])
    expect(await t.kernel.view.why('last')).toMatchObject({ by: 'card', when: 'performed' })
  })

  it('asks no middleware about what the card refuses anyway', async () => {
    let asked = 0
    const counting = () => {
      asked++
      return { do: 'pass' } as const
    }
    own = { request: counting }
    expect(await pay({ amount: 101 })).toMatchObject({ ok: false, by: 'card' })
    expect(asked).toBe(0)
    await pay()
    expect(asked).toBe(1)
  })

  it('takes budgets for what goes out, once', async () => {
    await open('', '{ calls: 2 }')
    await middleware('own', '{ tools: ["bank.*"], module: { name: own } }')
    own = { request: async () => ({ do: 'pass' }) }
    expect([await pay(), await pay(), await pay()]).toMatchObject([
      OK,
      OK,
      { ok: false, code: 'BudgetSpent' },
    ])
    expect(performed).toHaveLength(2)
  })
})

describe('middleware that fails', () => {
  beforeEach(async () => {
    await open()
    await middleware('own', '{ tools: ["bank.*"], module: { name: own } }')
  })
  const huge = 'x'.repeat(7 << 20)
  const cyclic: Record<string, unknown> = {}
  cyclic.self = cyclic

  const out: Record<string, Did['request']> = {
    throws: () => {
      throw new Error('no')
    },
    rejects: () => Promise.reject(new Error('no')),
    'gives nothing': () => undefined as never,
    'gives no step': () => ({ do: 'dance' }) as never,
    'asks nobody': () => ({ do: 'ask', roles: [] }),
    'asks for no time': () => ({ do: 'ask', roles: ['boss'], expiresMs: Number.NaN }),
    'refuses without words': () => ({ do: 'refuse', code: 'No', message: 1 }) as never,
    'refuses until no time': () =>
      ({ do: 'refuse', code: 'No', message: 'no', retryAfterMs: 'soon' }) as never,
    'answers nothing': () => ({ do: 'answer', read: false }) as never,
    'answers neither yes nor no': () =>
      ({ do: 'answer', read: false, receipt: { ok: 'yes', value: 1 } }) as never,
    'answers that it may have been done': () => ({
      do: 'answer',
      read: false,
      receipt: { ok: false, error: { class: 'Indeterminate', code: 'Indeterminate', message: 'who knows' } },
    }),
    'gives arguments that are no JSON': () => ({ do: 'rewrite', args: cyclic }),
    'gives arguments that are too large': () => ({ do: 'rewrite', args: { to: huge } }),
    'gives arguments of no request': () => ({ do: 'rewrite', args: [1] }),
  }
  it.each(Object.keys(out))('on the way out refuses the effect: one that %s', async (what) => {
    own = { request: out[what] as NonNullable<Did['request']> }
    const refused = await pay()
    expect(refused).toMatchObject({ ok: false, name: 'Refused' })
    expect(['MiddlewareFailed', 'BadRewrite', 'NoGrant']).toContain(refused.code)
    expect(performed).toEqual([])
    own = {}
    expect(await pay()).toMatchObject(OK)
  })

  it('on the way out refuses the effect: one that hangs', { timeout: 30_000 }, async () => {
    own = { request: () => new Promise(() => {}) }
    expect(await pay()).toMatchObject({
      ok: false,
      code: 'MiddlewareFailed',
      message: expect.stringContaining('10000 ms'),
    })
    expect(performed).toEqual([])
  })

  const back: Record<string, Did['response']> = {
    throws: () => {
      throw new Error('no')
    },
    rejects: () => Promise.reject(new Error('no')),
    'gives nothing': () => undefined as never,
    'gives no JSON': () => ({ value: cyclic }),
    'gives too much': () => ({ value: huge }),
    'holds it back': () => ({ withhold: 'not for you' }),
  }
  it.each(Object.keys(back))('on the way back holds back what was done: one that %s', async (what) => {
    own = { response: back[what] as NonNullable<Did['response']> }
    // `Refused` would make whoever asked do it again.
    expect(await pay()).toMatchObject({ ok: false, name: 'Withheld', code: 'Withheld' })
    expect(performed).toHaveLength(1)
    t = await again()
    expect(performed).toHaveLength(1)
    own = {}
    expect(await pay()).toMatchObject(OK)
    expect(performed).toHaveLength(2)
  })

  it('is refused where the node does not have it', async () => {
    t = await again({ modules: new Map() })
    expect(await pay()).toMatchObject({ ok: false, name: 'Refused', code: 'NoSuchMiddleware' })
    expect(performed).toEqual([])
    t = await again({ modules })
    expect(await pay()).toMatchObject(OK)
  })
})

describe('where middleware stands', () => {
  const order: string[] = []
  const marking = (name: string): OwnModule => ({
    digest: name,
    make: () => ({
      request: () => {
        order.push(`${name}>`)
        return { do: 'pass' }
      },
      response: (_call, value) => {
        order.push(`<${name}`)
        return { value }
      },
    }),
  })
  const all = new Map(['a', 'b', 'c', 'd'].map((name) => [name, marking(name)]))

  it('is outermost by its order, then what cards and types name; back it goes the other way', async () => {
    order.length = 0
    t = await openTestKernel([], { tools: tools(), modules: all })
    for (const [name, spec] of [
      ['a', 'order: 50, tools: ["*"]'],
      ['b', 'order: 20, tools: ["bank.*"]'],
      ['c', 'order: 1'],
      ['d', 'tools: [mail.send]'],
    ] as const)
      await middleware(name, `{ ${spec}, module: { name: ${name} } }`)
    await applyPrograms(t.kernel, [
      { name: 'teller', file: programFile('teller.ts'), now: GRANTS, spec: '  middleware: [c]\n' },
    ])
    await pay()
    expect(order).toEqual(['b>', 'a>', 'c>', '<c', '<a', '<b'])
  })

  it('63: binds whatever is done under cards that are taken from one that it binds (R22)', async () => {
    t = await openTestKernel([], { tools: tools(), modules })
    await middleware('own', '{ module: { name: own } }')
    const spawns = '{ tool: agent.spawn, resource: "*" }'
    await applyPrograms(t.kernel, [
      {
        name: 'boss',
        file: programFile('boss.ts'),
        now: [...GRANTS.slice(0, 3), spawns],
        limits: '{ depth: 2, fanout: 10 }',
        spec: '  middleware: [own]\n',
      },
      { name: 'teller', file: programFile('teller.ts'), now: GRANTS },
    ])
    own = { request: () => ({ do: 'refuse', code: 'NotToday', message: 'no' }) }
    expect(await pay()).toMatchObject(OK)
    performed = []
    const bound = { to: '*', amount: { max: 100 }, note: { len: 200, optional: true } }
    const child = {
      type: 'teller',
      key: 'kid',
      card: { only: [{ tool: 'bank.pay', args: bound }] },
      keep: true,
    }
    expect(await t.call('acme/boss/a', 'spawn', child)).toMatchObject(OK)
    const args = { name: 'bank.pay', args: { to: 'ann', amount: 1 } }
    const paying = { to: 'teller/kid', method: 'use', args }
    expect(await t.call('acme/boss/a', 'call', paying)).toMatchObject({
      value: { ok: { ok: false, code: 'NotToday', by: 'middleware' } },
    })
    expect(performed).toEqual([])
    own = {}
    expect(await t.call('acme/boss/a', 'call', paying)).toMatchObject({ value: { ok: OK } })
    expect(performed).toHaveLength(1)
  })

  it('is said by name, field and file where it is not right', async () => {
    await open()
    await pay()
    const wrong: [spec: string, says: string][] = [
      ['{ tools: ["*"] }', 'exactly one of redact'],
      ['{ tools: ["*"], audit: {}, retry: { times: 2 } }', 'exactly one of redact'],
      ['{ redact: { args: [{ with: x }] } }', 'm.yaml:4:26 spec.redact.args[0]: a redaction has a `path`'],
      ['{ redact: { args: [{ pattern: "(" }] } }', 'no pattern of RE2'],
      ['{ approval: { roles: [boss], when: { arg: "**.x", atLeast: "3" } } }', 'no path of one argument'],
      ['{ tools: [Bank], audit: {} }', 'a tool, as bank.pay'],
      ['{ rateLimit: { calls: 0, per: day } }', 'spec.rateLimit.calls'],
      ['{ budget: { per: hour, calls: 1 } }', 'spec.budget.per'],
      ['{ budget: { per: day } }', 'something that is counted'],
      ['{ budget: { per: day, calls: -1 } }', 'spec.budget.calls: a whole number'],
      [
        '{ budget: { per: day, spend: { EUR: much } } }',
        'spec.budget.spend.EUR: a currency and a plain decimal',
      ],
      ['{ budget: { per: day, fanout: 1 } }', 'fanout'],
      ['{ rateLimit: { calls: 1, per: day, wait: 61s } }', 'an effect waits 60s at most'],
      ['{ tools: [bank.pay, "agent.*"], audit: {} }', 'spec.tools[1]: middleware stands before tools'],
      ['{ tools: [cards.mint], audit: {} }', 'middleware stands before tools'],
    ]
    for (const [spec, says] of wrong) await expect(middleware('x', spec)).rejects.toThrow(says)
    const named = { name: 'x', file: programFile('teller.ts'), now: [], spec: '  middleware: [nobody]\n' }
    await expect(applyPrograms(t.kernel, [named])).rejects.toThrow('there is no middleware `acme/nobody`')
  })
})

describe('middleware that asks a person', () => {
  const only = async () =>
    (await t.kernel.approvals.list())[0] as NonNullable<
      Awaited<ReturnType<typeof t.kernel.approvals.list>>[0]
    >
  const begin = async () => {
    const { id, reply } = await t.kernel.invoke({
      address: `acme/teller/${key}`,
      method: 'use',
      args: { name: 'bank.pay', args: { to: 'ann', amount: 50 } },
    })
    await expect.poll(() => t.kernel.approvals.list()).toHaveLength(1)
    return { id, reply }
  }
  const result = async (id: string) => {
    let found: unknown
    await expect
      .poll(async () => {
        found = (await t.kernel.result(id)).reply
        return found
      })
      .toBeDefined()
    return (found as { value: unknown }).value
  }

  beforeEach(async () => {
    await open()
    await middleware('mark', '{ tools: [bank.pay], order: 1, module: { name: own } }')
    await middleware(
      'boss',
      '{ tools: [bank.pay], order: 2, approval: { roles: [boss], expires: 2d, when: { arg: amount, atLeast: "50" } } }',
    )
    own = { request: (call) => ({ do: 'rewrite', args: { ...(call.args as object), note: 'as shown' } }) }
  })

  it('70: shows what would go out, and performs exactly that, over restarts and suspensions', async () => {
    expect(await pay()).toMatchObject(OK)
    const { id } = await begin()
    expect(performed).toHaveLength(1)
    for (let i = 0; i < 3; i++) {
      t = await again()
      expect(await t.kernel.suspend(`acme/teller/${key}`)).toBe(true)
      expect(await only()).toMatchObject({
        ask: [['boss']],
        args: { to: 'ann', amount: 50, note: 'as shown' },
        state: 'open',
      })
    }
    const { id: ask, digest } = await only()
    await expect(t.kernel.approvals.approve(ask, 'ffffffff', 'boss', 'it')).rejects.toMatchObject({
      code: 'OtherDigest',
    })
    await t.kernel.approvals.approve(ask, digest, 'boss', 'it')
    expect(await result(id)).toMatchObject(OK)
    expect(performed.at(-1)).toEqual(['bank.pay', { to: 'ann', amount: 50, note: 'as shown' }])
    expect(performed).toHaveLength(2)
    await expect(t.kernel.approvals.approve(ask, digest, 'boss', 'it')).rejects.toMatchObject({
      code: 'AlreadyDecided',
    })
  })

  it('is asked anew where its middleware has changed meanwhile: the old digest approves nothing', async () => {
    const { id } = await begin()
    const before = await only()
    own = { request: (call) => ({ do: 'rewrite', args: { ...(call.args as object), note: 'changed' } }) }
    version = 2
    t = await again()
    await expect(t.kernel.approvals.approve(before.id, before.digest, 'boss', 'it')).rejects.toMatchObject({
      code: 'OtherDigest',
    })
    const after = await only()
    expect(after.args).toMatchObject({ note: 'changed' })
    expect(after.digest).not.toBe(before.digest)
    expect(performed).toEqual([])
    await t.kernel.approvals.approve(after.id, after.digest, 'boss', 'it')
    expect(await result(id)).toMatchObject(OK)
    expect(performed).toEqual([['bank.pay', { to: 'ann', amount: 50, note: 'changed' }]])
  })

  it('is approved by nobody while it is asked anew, and then once, and its agent is at rest meanwhile', async () => {
    const { id } = await begin()
    const before = await only()
    version = 2
    t = await again()
    const approve = ({ id, digest }: typeof before) => t.kernel.approvals.approve(id, digest, 'boss', 'it')
    const slow = Promise.withResolvers<void>()
    own = { request: () => slow.promise.then(() => ({ do: 'pass' })) }
    const first = approve(before)
    const second = approve(before)
    await expect(first).rejects.toMatchObject({ code: 'OtherDigest' })
    await expect(second).rejects.toMatchObject({ code: 'OtherDigest' })
    slow.resolve()
    await expect.poll(async () => (await only()).digest).not.toBe(before.digest)
    const rows = () => t.kernel.view.agents({}) as { address: string; state: string }[]
    await expect
      .poll(() => rows().find(({ address }) => address === `acme/teller/${key}`)?.state)
      .toBe('waiting')
    const after = await only()
    const deny = t.kernel.approvals.deny.bind(t.kernel.approvals)
    const all = await Promise.allSettled([approve(after), approve(after), deny(after.id, 'it', 'no')])
    expect(all.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected'])
    for (const { reason } of all.slice(1) as PromiseRejectedResult[])
      expect(reason).toMatchObject({ code: 'AlreadyDecided' })
    expect(await result(id)).toMatchObject(OK)
    expect(performed).toEqual([['bank.pay', { to: 'ann', amount: 50 }]])
    await expect
      .poll(() => rows().find(({ address }) => address === `acme/teller/${key}`)?.state)
      .toBe('quiet')
  })

  it('stands before what was asked for when there was none', async () => {
    await applyPrograms(t.kernel, [
      {
        name: 'teller',
        file: programFile('teller.ts'),
        now: ['{ tool: bank.pay, args: "*", ask: [owner] }'],
      },
    ])
    for (const name of ['mark', 'boss']) await middleware(name, '{ tools: [], audit: {} }')
    own = { request: (call) => ({ do: 'rewrite', args: { ...(call.args as object), note: 'as shown' } }) }
    const { id } = await begin()
    const before = await only()
    expect(before.args).toEqual({ to: 'ann', amount: 50 })
    await middleware('mark', '{ tools: [bank.pay], order: 1, module: { name: own } }')
    const approve = ({ id, digest }: typeof before) => t.kernel.approvals.approve(id, digest, 'owner', 'it')
    await expect(approve(before)).rejects.toMatchObject({ code: 'OtherDigest' })
    await expect.poll(async () => (await only()).digest).not.toBe(before.digest)
    expect(performed).toEqual([])
    await approve(await only())
    expect(await result(id)).toMatchObject(OK)
    expect(performed).toEqual([['bank.pay', { to: 'ann', amount: 50, note: 'as shown' }]])
  })

  it('is over when a person says no, and when nobody says anything in time', async () => {
    const first = await begin()
    await t.kernel.approvals.deny((await only()).id, 'it', 'not today')
    expect(await result(first.id)).toMatchObject({ ok: false, code: 'Denied', by: 'person' })
    const second = await begin()
    await middleware('boss', '{ tools: [bank.pay], order: 2, approval: { roles: [boss], expires: 300ms } }')
    expect(await t.kernel.result(second.id)).toMatchObject({ state: 'open' })
    await t.kernel.approvals.deny((await only()).id, 'it', 'make room')
    await result(second.id)
    const third = await begin()
    await t.kernel.suspend(`acme/teller/${key}`)
    expect(await result(third.id)).toMatchObject({ ok: false, code: 'ApprovalExpired', by: 'person' })
    expect(performed).toEqual([])
  })

  it('needs the roles that cards name, too', async () => {
    await applyPrograms(t.kernel, [
      {
        name: 'teller',
        file: programFile('teller.ts'),
        now: ['{ tool: bank.pay, args: "*", ask: [owner] }'],
      },
    ])
    const { id } = await begin()
    const { id: ask, digest, ask: roles } = await only()
    expect(roles).toEqual([['boss', 'owner']])
    await t.kernel.approvals.approve(ask, digest, 'boss', 'it')
    expect(performed).toEqual([])
    t = await again()
    await t.kernel.approvals.approve(ask, digest, 'owner', 'it')
    expect(await result(id)).toMatchObject(OK)
    expect(performed).toHaveLength(1)
  })

  it('71: takes of the limit on how often a person is asked', async () => {
    await open('', '{ asks: 1 }')
    await middleware('boss', '{ tools: [bank.pay], approval: { roles: [boss] } }')
    const { id } = await begin()
    await t.kernel.approvals.deny((await only()).id, 'it', 'no')
    expect(await result(id)).toMatchObject({ code: 'Denied' })
    expect(await pay()).toMatchObject({ ok: false, code: 'BudgetSpent', by: 'limit' })
  })
})

describe('a tool that throws', () => {
  it('fails its effect and not the node; what it threw is the operator’s', async () => {
    if (shared) await done(shared)
    shared = undefined
    await open()
    broken.length = 0
    expect(await use('net.breaks', {})).toMatchObject({ ok: false, name: 'Unavailable', code: 'ToolBroke' })
    const doubtful = await use('net.broke', {})
    expect(doubtful).toMatchObject({ ok: false, name: 'Indeterminate' })
    expect(JSON.stringify(doubtful)).not.toContain('thrown by a tool')
    expect(broken).toEqual([
      ['net.breaks', 'thrown by a tool'],
      ['net.broke', 'thrown by a tool'],
    ])
    expect(performed).toHaveLength(2)
    expect(await pay()).toMatchObject(OK)
    t = await again()
    expect(await pay()).toMatchObject(OK)
    expect(performed).toHaveLength(4)
  })
})

describe('a crash', () => {
  const points = [
    'turn.appended',
    'effect.mediated',
    'effect.started',
    'effect.performed',
    'effect.back',
    'receipt.appended',
  ]
  it.each(points)('at %s loses no effect and does none twice', async (point) => {
    shared = undefined
    await open()
    await middleware('own', '{ tools: ["bank.*"], module: { name: own } }')
    let copied: Promise<TestKernel> | undefined
    const crashPoint = (name: string) => {
      // What is on disk at this moment, as after a kill.
      if (name === point && !copied && armed) copied = crashCopy(t, { tools: tools(), modules })
    }
    let armed = false
    t = await t.reopen({ crashPoint })
    shared = undefined
    await use('bank.look', {})
    performed = []
    armed = true
    const { id, reply } = await t.kernel.invoke({
      address: `acme/teller/${key}`,
      method: 'use',
      args: { name: 'bank.pay', args: { to: 'ann', amount: 10 } },
    })
    expect(await reply).toMatchObject({ ok: true, value: OK })
    const again = await (copied as unknown as Promise<TestKernel>)
    const before = performed.length
    let found: { value?: { ok?: boolean; code?: string } } | undefined
    // What was not acknowledged yet may not be there, and then nothing of it was done either.
    const unborn = { value: { code: 'NotTakenIn' } }
    await expect
      .poll(async () => {
        found = (await again.kernel.result(id).catch(() => ({ reply: unborn }))).reply as typeof found
        return found
      })
      .toBeDefined()
    const repeated = performed.length - before
    // Started and not known to have ended is in doubt, and listed; anything before is done now, once.
    const after = ['effect.started', 'effect.performed', 'effect.back', 'receipt.appended'].includes(point)
    if (found === unborn && !after) expect(repeated).toBe(0)
    else expect(repeated).toBe(after ? 0 : 1)
    const doubts = again.kernel.view.effectsInDoubt().length
    if (found === unborn && !after) expect(doubts).toBe(0)
    else if (!after || (point === 'receipt.appended' && doubts === 0)) expect(found?.value).toMatchObject(OK)
    else expect([found?.value?.code, doubts]).toEqual(['Indeterminate', 1])
    expect((await again.kernel.audit()).mismatches).toEqual([])
    await again.close()
  })

  const changed: [point: string, code: string, doubts: number][] = [
    ['effect.before', 'Interrupted', 0],
    ['effect.started', 'Indeterminate', 1],
    ['effect.performed', 'Indeterminate', 1],
  ]
  it.each(changed)(
    'at %s, and other middleware after it: %s, and nothing is done again',
    async (point, code, doubts) => {
      shared = undefined
      await open()
      await middleware('own', '{ tools: ["bank.*"], module: { name: own } }')
      const others = new Map([['own', { digest: 'another', make: () => ({}) }]])
      let copied: Promise<TestKernel> | undefined
      let armed = false
      const crashPoint = (name: string) => {
        if (name === point && !copied && armed)
          copied = crashCopy(t, { tools: tools(), modules: others as typeof modules })
      }
      t = await t.reopen({ crashPoint })
      shared = undefined
      await use('bank.look', {})
      armed = true
      const { id, reply } = await t.kernel.invoke({
        address: `acme/teller/${key}`,
        method: 'use',
        args: { name: 'bank.pay', args: { to: 'ann', amount: 10 } },
      })
      expect(await reply).toMatchObject({ ok: true, value: OK })
      const again = await (copied as unknown as Promise<TestKernel>)
      const before = performed.length
      let found: { value?: { code?: string } } | undefined
      await expect
        .poll(async () => {
          const unborn = { value: { code: 'NotTakenIn' } }
          found = (await again.kernel.result(id).catch(() => ({ reply: unborn }))).reply as typeof found
          return found
        })
        .toBeDefined()
      expect(performed).toHaveLength(before)
      if (point !== 'effect.before' || found?.value?.code !== 'NotTakenIn')
        expect(found?.value?.code).toBe(code)
      expect(again.kernel.view.effectsInDoubt()).toHaveLength(doubts)
      expect((await again.kernel.audit()).mismatches).toEqual([])
      await again.close()
    },
  )
})
