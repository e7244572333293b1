/**
 * Private data, untrusted input, a way out: an agent that has read may not carry it anywhere, by whatever
 * way it tries. Each way is also tried by an agent that has read nothing, for which it is open.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

let t: TestKernel
/** What reached the web. */
let out: unknown[] = []
const tools = [
  { ...functionTool('db.read', 'read', () => ({ secret: 'S3CRET' })), yields: ['private'] },
  { ...functionTool('web.post', 'once', (args) => ({ id: out.push(args) })), sinks: ['out.example'] },
]
const NOW = [
  '{ tool: agent.*, resource: "*", method: "*" }',
  '{ tool: db.read, flow: [log, "caller:*"], args: "*" }',
  '{ tool: web.post, args: "*" }',
]
const READ = { name: 'db.read', args: {} }
const post = (what: string) => ({ name: 'web.post', args: { what } })
const ONLY_POST = { only: [{ tool: 'web.post', args: '*' }] }
const ONLY_READ = { only: [{ tool: 'db.read', args: '*' }] }

beforeAll(async () => {
  t = await openTestKernel(
    [
      {
        name: 'boss',
        file: programFile('boss.ts'),
        now: NOW,
        limits: '{ depth: 4 }',
        spec: '  timeout: 2s\n',
      },
    ],
    { tools },
  )
})
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})
beforeEach(() => {
  out = []
})

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}

interface Way {
  /** Of the list of threats. */
  readonly threat: number
  readonly name: string
  /** What is done before anything is read. */
  readonly before?: (who: string) => Promise<unknown>
  /** Reads, if this agent does; left out: by its birth card. */
  readonly read?: (who: string) => Promise<unknown>
  readonly after?: (who: string) => Promise<unknown>
  /** Tries to get something out. */
  readonly leak: (who: string) => Promise<unknown>
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const friend = (who: string) => `${who}-friend`

const WAYS: Way[] = [
  { threat: 19, name: 'its own card', leak: (who) => ask(who, 'tool', post('x')) },
  {
    threat: 19,
    name: 'another card of its own, made before',
    before: (who) => ask(who, 'derive', { narrow: ONLY_POST }),
    leak: (who) => ask(who, 'tool', { ...post('x'), via: 1 }),
  },
  {
    threat: 23,
    name: 'a card that it accepts afterwards',
    before: async (who) => {
      await ask(friend(who), 'held')
      await ask(friend(who), 'offer', { to: `boss/${who}`, narrow: ONLY_POST })
    },
    after: (who) => ask(who, 'take', { allowLoss: true }),
    leak: (who) => ask(who, 'tool', { ...post('x'), via: 1 }),
  },
  {
    threat: 20,
    name: 'dropping the card that it read by',
    before: (who) => ask(who, 'derive', { narrow: ONLY_READ }),
    read: (who) => ask(who, 'tool', { ...READ, via: 1 }),
    after: (who) => ask(who, 'drop', { card: 1 }),
    leak: (who) => ask(who, 'tool', post('x')),
  },
  {
    threat: 20,
    name: 'revoking the card that it read by',
    before: (who) => ask(who, 'derive', { narrow: ONLY_READ }),
    read: (who) => ask(who, 'tool', { ...READ, via: 1 }),
    after: (who) => ask(who, 'revoke', { card: 1 }),
    leak: (who) => ask(who, 'tool', post('x')),
  },
  {
    threat: 20,
    name: 'the end of the card that it read by',
    before: (who) => ask(who, 'derive', { narrow: { ...ONLY_READ, limits: { expires: Date.now() + 700 } } }),
    read: (who) => ask(who, 'tool', { ...READ, via: 1 }),
    after: () => sleep(800),
    leak: (who) => ask(who, 'tool', post('x')),
  },
  {
    threat: 21,
    name: 'a child that it made before, by a call',
    before: (who) => ask(who, 'spawn', { keep: true, key: `${who}.c`, card: ONLY_POST }),
    leak: (who) => ask(who, 'call', { to: `boss/${who}.c`, method: 'tool', args: post('x') }),
  },
  {
    threat: 21,
    name: 'a child that it makes afterwards',
    leak: async (who) => {
      await ask(who, 'spawn', { keep: true, key: `${who}.d`, card: ONLY_POST })
      return ask(who, 'call', { to: `boss/${who}.d`, method: 'tool', args: post('x') })
    },
  },
  {
    threat: 23,
    name: 'a friend, by a call',
    before: (who) => ask(friend(who), 'held'),
    leak: (who) => ask(who, 'call', { to: `boss/${friend(who)}`, method: 'tool', args: post('x') }),
  },
  {
    threat: 22,
    name: 'a friend, by a message that nobody waits for',
    before: (who) => ask(friend(who), 'held'),
    leak: async (who) => {
      const sent = await ask(who, 'call', {
        to: `boss/${friend(who)}`,
        method: 'tool',
        args: post('x'),
        opts: { detach: true },
      })
      await sleep(150)
      return sent
    },
  },
  {
    threat: 23,
    name: 'a friend that admits anything, which is then bound itself',
    before: (who) => ask(friend(who), 'held'),
    leak: (who) => ask(who, 'call', { to: `boss/${friend(who)}`, method: 'open', args: post('x') }),
  },
  {
    threat: 22,
    name: 'a message to a friend after a delay',
    before: (who) => ask(friend(who), 'held'),
    leak: async (who) => {
      const opts = { detach: true, after: '20ms' }
      const sent = await ask(who, 'call', {
        to: `boss/${friend(who)}`,
        method: 'tool',
        args: post('x'),
        opts,
      })
      await sleep(200)
      return sent
    },
  },
  {
    threat: 22,
    name: 'its answer to a friend that calls it',
    before: (who) => ask(friend(who), 'held'),
    leak: async (who) => {
      const said = JSON.stringify(
        await ask(friend(who), 'call', { to: `boss/${who}`, method: 'held', opts: { timeout: '300ms' } }),
      )
      return /TimedOut/.test(said) ? said : ask(friend(who), 'tool', post(said))
    },
  },
  {
    threat: 22,
    name: 'its error to a friend that calls it',
    before: (who) => ask(friend(who), 'held'),
    leak: async (who) => {
      const said = JSON.stringify(
        await ask(friend(who), 'call', {
          to: `boss/${who}`,
          method: 'drop',
          args: null,
          opts: { timeout: '300ms' },
        }),
      )
      return /TimedOut/.test(said) ? said : ask(friend(who), 'tool', post(said))
    },
  },
  {
    threat: 61,
    name: 'an offer to a friend, whose cells spell it',
    before: (who) => ask(friend(who), 'held'),
    leak: async (who) => {
      await ask(who, 'offer', {
        to: `boss/${friend(who)}`,
        narrow: { only: [{ tool: 'web.post', args: { what: ['S3CRET'] } }] },
      })
      // That there is one at all would be a bit; it looks at it, and takes nothing.
      const seen = (await ask(friend(who), 'take', { expect: 'another digest' })) as { none?: true }
      return seen.none ? seen : ask(friend(who), 'tool', post('there is one'))
    },
  },
  {
    threat: 61,
    name: 'the address of a child, which a friend looks for',
    before: (who) => ask(friend(who), 'held'),
    leak: async (who) => {
      await ask(who, 'spawn', { keep: true, key: `${who}.S3CRET`, card: { now: [], ever: [] } })
      const found = await ask(friend(who), 'call', { to: `boss/${who}.S3CRET`, method: 'held' })
      return /NoSuchAgent/.test(JSON.stringify(found)) ? found : ask(friend(who), 'tool', post('it is there'))
    },
  },
  {
    threat: 61,
    name: 'an agent that it is the first to call, and the address of one',
    before: (who) => ask(friend(who), 'held'),
    leak: async (who) => {
      await ask(who, 'call', { to: `boss/${who}.first`, method: 'held', opts: { timeout: '300ms' } })
      const posted = await ask(who, 'call', {
        to: `boss/${who}.first`,
        method: 'open',
        args: post('x'),
        opts: { timeout: '300ms' },
      })
      if (out.length > 0) return posted
      // Whether it is there must tell the friend nothing: it would make it itself.
      return ask(friend(who), 'call', { to: `boss/${who}.first`, method: 'held', opts: { timeout: '300ms' } })
    },
  },
  {
    threat: 22,
    name: 'a timer of its own',
    leak: async (who) => {
      await ask(who, 'late', { ...post('x'), after: '20ms' })
      await sleep(200)
      return 'later'
    },
  },
]

describe('what was read', () => {
  for (const [i, way] of WAYS.entries()) {
    it(`${way.threat}: does not leave by ${way.name}; without reading, that way is open`, async () => {
      const clean = `clean${i}`
      await way.before?.(clean)
      await way.after?.(clean)
      const done = await way.leak(clean)
      expect(out, JSON.stringify(done)).toHaveLength(1)
      out = []
      const tainted = `tainted${i}`
      await way.before?.(tainted)
      const read = way.read ?? ((who: string) => ask(who, 'tool', READ))
      expect(await read(tainted)).toEqual({ ok: { secret: 'S3CRET' } })
      await way.after?.(tainted)
      const tried = await way.leak(tainted)
      expect(out, JSON.stringify(tried)).toEqual([])
      const history = JSON.stringify(await t.kernel.view.history(`acme/boss/${tainted}`, { limit: 1000 }))
      const told = JSON.stringify(
        await t.kernel.view.history(`acme/boss/${friend(tainted)}`, { limit: 1000 }).catch(() => []),
      )
      // Refused or kept back, on the record of one of the two.
      expect(`${history}${told}${JSON.stringify(tried)}`).toMatch(
        /WouldFlow|WouldTaint|TimedOut|NoSuchAgent|none/,
      )
    })
  }
})
