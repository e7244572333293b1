/** Threat 30: a right to say a few bits of what was read, and an agent that would say more by it. */
import { afterEach, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

let t: TestKernel
let posted: unknown[] = []
const tools = [
  { ...functionTool('db.read', 'read', () => ({ rows: ['secret'] })), yields: ['private'] },
  { ...functionTool('web.post', 'once', (args) => ({ id: posted.push(args) })), sinks: ['out.example'] },
]
const TALK = '{ tool: agent.invoke, resource: "*", method: "*" }'
const SPAWN = '{ tool: agent.spawn, resource: "*" }'
const READ = '{ tool: db.read, flow: [log] }'
const POST = '{ tool: web.post, args: "*" }'
const right = (values: string, more = '') =>
  `{ tool: agent.declassify, resource: boss/*, method: [judge, verdict], args: { value: ${values} }${more} }`

async function open(now: readonly string[], limits: string): Promise<void> {
  posted = []
  t = await openTestKernel([{ name: 'boss', file: programFile('boss.ts'), now, limits }], { tools })
}

async function ask(who: string, method: string, args: unknown = {}): Promise<unknown> {
  const reply = await t.call(`boss/${who}`, method, args)
  return reply.ok ? reply.value : reply.error
}

/** What a child that has read says to a parent that may still post. */
function judge(value: string, by?: object): Promise<unknown> {
  return ask('ann', 'call', {
    to: 'boss/ann.1',
    method: by ? 'verdict' : 'judge',
    args: { value, ...(by && { by }) },
    opts: { timeout: '2s' },
  })
}

afterEach(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

const LIMITS = '{ depth: 3, bits: 6 }'

describe('30: a declassifier', () => {
  it('lets declared values pass to a parent that stays as it was, and nothing else', async () => {
    await open([TALK, SPAWN, READ, POST, right('[yes, no]')], LIMITS)
    expect(await ask('ann', 'spawn', { card: {}, keep: true })).toBe('acme/boss/ann.1')
    expect(await judge('yes')).toEqual({ ok: 'yes' })
    // The parent still posts, and what it posts may depend on the answer.
    expect(await ask('ann', 'tool', { name: 'web.post', args: { it: 'yes' } })).toEqual({ ok: { id: 1 } })
    expect(await judge('the rows themselves')).not.toHaveProperty('ok')
    // It differs in one fact from the first: it is not what the method returns, but within it.
    expect(await ask('bob', 'bits')).toMatchObject({ code: 'NotJson' })
  })

  it('is no part of a card that the host mints from a wider grant; of one that names it, it is', async () => {
    for (const [wide, says] of [
      ['{ tool: agent.*, resource: "*", method: "*", args: { value: [yes, no] } }', false],
      [right('[yes, no]'), true],
    ] as const) {
      await open([READ, wide], LIMITS)
      const [like] = (await ask('ann', 'held')) as string[]
      const minted = await t.kernel.cards.mint({ like: like as string, egress: ['x.example'] }, 'it')
      expect(JSON.stringify(minted).includes('agent.declassify'), wide).toBe(says)
      if (!says) await t.close()
    }
  })

  it('says to somebody outside what the card allows, and without the right nothing', async () => {
    await open([READ, right('[yes, no]')], LIMITS)
    expect(await ask('ann', 'judge', { value: 'no' })).toBe('no')
    expect(await ask('ann', 'judge', { value: 'maybe' })).toMatchObject({ code: 'WouldFlow' })
    await t.close()
    await open([READ], LIMITS)
    expect(await ask('ann', 'judge', { value: 'no' })).toMatchObject({ code: 'WouldFlow' })
  })

  it('says no more bits than its budget, over a restart too', async () => {
    // Two values, or neither: two bits an answer, six in all.
    await open([READ, right('[yes, no]')], LIMITS)
    for (const value of ['yes', 'no']) expect(await ask('ann', 'judge', { value })).toBe(value)
    t = await t.reopen()
    expect(await ask('ann', 'judge', { value: 'yes' })).toBe('yes')
    expect(await ask('ann', 'judge', { value: 'yes' })).toMatchObject({ code: 'WouldFlow' })
    // Another instance has a budget of its own: the host made it so.
    expect(await ask('bob', 'judge', { value: 'yes' })).toBe('yes')
  })

  it('counts the whole list for cards of one value each, derived to spell by their choice', async () => {
    await open([READ, right('[a, b, c, d, e, f, g]')], LIMITS)
    const one = (value: string) => ({
      only: [
        { tool: 'db.read', flow: ['log'] },
        { tool: 'agent.declassify', resource: 'boss/ann', method: ['verdict'], args: { value: [value] } },
      ],
    })
    // Three bits an answer, as for the root: not one.
    expect(await ask('ann', 'verdict', { value: 'a', by: one('a') })).toBe('a')
    expect(await ask('ann', 'verdict', { value: 'b', by: one('b') })).toBe('b')
    expect(await ask('ann', 'verdict', { value: 'c', by: one('c') })).toMatchObject({ code: 'WouldFlow' })
  })

  it('children share the budget of the card above them', async () => {
    await open([TALK, SPAWN, READ, POST, right('[yes, no]')], LIMITS)
    for (const key of ['ann.1', 'ann.2', 'ann.3', 'ann.4'])
      expect(await ask('ann', 'spawn', { card: {}, keep: true })).toBe(`acme/boss/${key}`)
    const said = []
    for (const n of [1, 2, 3, 4])
      said.push(
        await ask('ann', 'call', {
          to: `boss/ann.${n}`,
          method: 'judge',
          args: { value: 'yes' },
          opts: { timeout: '2s' },
        }),
      )
    expect(said.filter((one) => (one as { ok?: string }).ok === 'yes')).toHaveLength(3)
    expect(await ask('ann', 'tool', { name: 'web.post', args: {} })).toEqual({ ok: { id: 1 } })
  })

  it('does not clear labels that its grant does not name', async () => {
    await open([READ, right('[yes, no]', ', labels: [untrusted]')], LIMITS)
    expect(await ask('ann', 'judge', { value: 'yes' })).toMatchObject({ code: 'WouldFlow' })
    await t.close()
    await open([READ, right('[yes, no]', ', labels: [untrusted, private]')], LIMITS)
    expect(await ask('ann', 'judge', { value: 'yes' })).toBe('yes')
  })

  it('is in no wider grant, and needs its limit and its list', async () => {
    await open([READ, '{ tool: agent.*, resource: "*", method: "*", args: "*" }'], LIMITS)
    expect(await ask('ann', 'judge', { value: 'yes' })).toMatchObject({ code: 'WouldFlow' })
    // Nor can an agent write itself one within those.
    const by = {
      only: [
        { tool: 'db.read', flow: ['log'] },
        { tool: 'agent.declassify', resource: 'boss/ann', method: ['verdict'], args: { value: ['yes'] } },
      ],
    }
    expect(await ask('ann', 'verdict', { value: 'yes', by })).toMatchObject({ code: 'WouldFlow' })
    const bad = (now: string, limits: string) =>
      expect(open([READ, now], limits).finally(() => t.close())).rejects
    await t.close()
    await bad(right('[yes, no]'), '{ depth: 1 }').toThrow(/needs the limit `bits`/)
    await bad(right('"*"'), LIMITS).toThrow(/a list of at most 256 values/)
    await open([READ, right('[yes]')], LIMITS)
  })
})
