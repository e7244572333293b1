/** What operators bound: whoever goes beyond is told which limit, how much it is and where it is set; its twin goes through. */
import fs from 'node:fs'
import path from 'node:path'
import { serveApi } from '@cardinal/kernel'
import { LIMIT_NAMES, LIMITS, type LimitName, parseManifests, showLimit } from '@cardinal/manifests'
import { afterEach, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const NOW = ['{ tool: "test.*", args: "*" }']
const crowd = (name = 'crowd', tenant = 'acme') => ({ tenant, name, file: programFile('crowd.ts'), now: NOW })
const holding: (() => void)[] = []
const release = () => {
  for (const letGo of holding.splice(0)) letGo()
}
/** From then on nobody is held. */
let over = false
const hold = () => (over ? null : new Promise<null>((resolve) => holding.push(() => resolve(null))))
const tools = [functionTool('test.echo', 'read', (args) => args), functionTool('test.hold', 'read', hold)]
let t: TestKernel
afterEach(async () => {
  over = true
  release()
  await t.close()
  over = false
  holding.length = 0
})

/** Sets limits as an operator does: for the tenant, for a type or for one agent. */
async function limit(spec: string, name?: string, tenant = 'acme'): Promise<void> {
  const metadata = `{ tenant: ${tenant}${name === undefined ? '' : `, name: ${name}`} }`
  const text = `apiVersion: cardinal/v1\nkind: Limits\nmetadata: ${metadata}\nspec: ${spec}\n`
  const options = { isRange: () => true, defaultsOf: t.kernel.defaultsOf }
  await t.kernel.apply(parseManifests(text, 'limits.yaml', options), new Map())
}

async function why(agent: string, method: string, args?: unknown): Promise<string> {
  try {
    const reply = await t.call(agent, method, args)
    return reply.ok ? 'ok' : `${reply.error.code}: ${reply.error.message}`
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    return `${code}: ${message}`
  }
}

describe('a limit', () => {
  /** What is set, what goes beyond it, and what just does not. */
  const each: readonly (readonly [
    LimitName,
    string,
    readonly [string, unknown],
    readonly [string, unknown],
    RegExp,
  ])[] = [
    [
      'fuel',
      '{ fuel: 20000000 }',
      ['spin', { rounds: 1e6 }],
      ['spin', { rounds: 10 }],
      /^OutOfFuel: .*`fuel` is 20000000, set for acme\/crowd/,
    ],
    ['memory', '{ memory: 32MiB }', ['grow', { mib: 64 }], ['grow', { mib: 2 }], /memory/i],
    [
      'effects',
      '{ effects: 5 }',
      ['effects', { n: 6 }],
      ['effects', { n: 5 }],
      /^TooManyEffects: .*`effects` is 5, set for acme\/crowd/,
    ],
    [
      'payload',
      '{ payload: 2KiB }',
      ['say', { text: 'x'.repeat(3000) }],
      ['say', { text: 'x' }],
      /^TooLarge: .*`payload` is 2KiB, set for acme\/crowd/,
    ],
    [
      'output',
      '{ output: 4KiB }',
      ['big', { bytes: 5000 }],
      ['big', { bytes: 100 }],
      /^OutputTooLarge: .*`output` is 4KiB, set for acme\/crowd/,
    ],
    [
      'wall',
      '{ wall: 100ms }',
      ['spin', { rounds: 4e6 }],
      ['spin', { rounds: 10 }],
      /^OutOfTime: .*`wall` is 100ms, set for acme\/crowd/,
    ],
  ]
  it.each(each)(
    'of %s stops what goes beyond it, by name, and nothing else',
    async (name, spec, beyond, within, said) => {
      const logs: string[] = []
      t = await openTestKernel([crowd(), crowd('free')], {
        tools,
        onTurn: (turn) => logs.push(...turn.logs.map(([, text]) => text)),
      })
      await limit(spec, 'crowd')
      expect(await why('crowd/a', ...within)).toBe('ok')
      expect(logs).toEqual([])
      expect(await why('crowd/a', ...beyond)).toMatch(said)
      // Undone, and the agent goes on; of memory the program itself was told, and keeps what it had.
      expect(await why(name === 'memory' ? 'crowd/b' : 'crowd/a', ...within)).toBe('ok')
      if (name === 'memory')
        expect(logs).toContainEqual(expect.stringMatching(/`memory` is 32MiB, set for acme\/crowd/))
      expect(await why('free/a', ...beyond)).toBe('ok')
      expect((await t.kernel.replay('acme/crowd/a')).turns).toBeGreaterThan(0)
    },
  )

  it('is the least of what is set for the tenant, the type and the agent, and says whose it is', async () => {
    t = await openTestKernel([crowd()], { tools })
    await limit('{ effects: 9 }')
    await limit('{ effects: 7 }', 'crowd')
    await limit('{ effects: 3 }', 'crowd/small')
    expect(await why('crowd/small', 'effects', { n: 4 })).toMatch(
      /`effects` is 3, set for acme\/crowd\/small/,
    )
    expect(await why('crowd/small', 'effects', { n: 3 })).toBe('ok')
    expect(await why('crowd/other', 'effects', { n: 8 })).toMatch(/`effects` is 7, set for acme\/crowd/)
    expect(await why('crowd/other', 'effects', { n: 7 })).toBe('ok')
    // Applied anew, it holds at once, over a restart too.
    await limit('{ effects: 8 }', 'crowd')
    expect(await why('crowd/other', 'effects', { n: 8 })).toBe('ok')
    t = await t.reopen()
    expect(await why('crowd/other', 'effects', { n: 9 })).toMatch(/`effects` is 8, set for acme\/crowd/)
  })

  it('of a node is one beyond which nobody goes', async () => {
    t = await openTestKernel([crowd()], { tools, limits: { effects: 5 } })
    await limit('{ effects: 100 }', 'crowd')
    expect(await why('crowd/a', 'effects', { n: 6 })).toMatch(/`effects` is 5, set for the node/)
    expect(await why('crowd/a', 'effects', { n: 5 })).toBe('ok')
  })

  it('of a queue answers 429 with Retry-After, and takes in again once there is room', async () => {
    t = await openTestKernel([crowd(), crowd('free')], { tools })
    await limit('{ queue: 2 }', 'crowd')
    const api = await serveApi({ kernel: t.kernel, port: 0 })
    const post = (type: string) =>
      fetch(`${api.url}/v1/agents/acme/${type}/a/invoke/hold`, {
        method: 'POST',
        body: '{}',
        headers: {
          authorization: `Bearer ${api.token}`,
          'content-type': 'application/json',
          prefer: 'respond-async',
        },
      })
    expect((await post('crowd')).status).toBe(202)
    await expect.poll(() => holding.length).toBe(1)
    for (let i = 0; i < 2; i++) expect((await post('crowd')).status).toBe(202)
    const full = await post('crowd')
    expect(full.status).toBe(429)
    expect(Number(full.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(((await full.json()) as { detail: string }).detail).toMatch(
      /has 2 inputs waiting: `queue` is 2, set for acme\/crowd/,
    )
    for (let i = 0; i < 4; i++) expect((await post('free')).status).toBe(202)
    release()
    await expect.poll(async () => (await post('crowd')).status).toBe(202)
    await api.close()
  })

  it('of a backlog counts all agents of a tenant, and of no other', async () => {
    t = await openTestKernel([crowd(), crowd('crowd', 'other')], { tools })
    await limit('{ backlog: 3 }')
    const begin = (address: string) => t.kernel.invoke({ address, method: 'hold' })
    // Of each agent one is under way, and the next waits.
    for (const key of ['a', 'b', 'c']) await begin(`acme/crowd/${key}`)
    await expect.poll(() => holding.length).toBe(3)
    for (const key of ['a', 'b', 'c']) await begin(`acme/crowd/${key}`)
    await expect(begin('acme/crowd/d')).rejects.toMatchObject({
      class: 'Busy',
      message: expect.stringMatching(/`acme` has 3 inputs waiting: `backlog` is 3, set for acme/),
    })
    await begin('other/crowd/d')
  })

  it('of the log ends what a type takes in, until somebody sets more', async () => {
    t = await openTestKernel([crowd(), crowd('free')], { tools })
    await limit('{ log: 20KiB }', 'crowd')
    const seen: string[] = []
    for (let i = 0; i < 200 && !seen.at(-1)?.startsWith('LogSpent'); i++) {
      seen.push(await why(`crowd/k${i % 3}`, 'count'))
      await t.kernel.poll()
    }
    expect(seen[0]).toBe('ok')
    expect(seen.at(-1)).toMatch(
      /^LogSpent: `acme\/crowd` has written \d+ bytes of log: `log` is 20KiB, set for acme\/crowd/,
    )
    expect(await why('free/a', 'count')).toBe('ok')
    t = await t.reopen()
    expect(await why('crowd/new', 'count')).toMatch(/^LogSpent/)
    await limit('{ log: 1MiB }', 'crowd')
    expect(await why('crowd/new', 'count')).toBe('ok')
  })

  it.each([
    ['{ memory: 1GB }', /memory: is a size, as 64MiB/],
    ['{ memory: 2GiB }', /memory: is from 16MiB to 1GiB/],
    ['{ wall: 10 }', /wall: is a duration/],
    ['{ queue: 1.5 }', /queue/],
    ['{ frames: 1 }', /unknown field `frames`/],
  ])('%s is refused by file, line and field', async (spec, said) => {
    t = await openTestKernel([crowd()], { tools })
    await expect(limit(spec)).rejects.toThrow(said)
    await expect(limit(spec)).rejects.toThrow(/limits\.yaml:4/)
  })
})

it.each(LIMIT_NAMES)('`%s` may be set to its least and to its most, and no further', async (name) => {
  const { least, most, byDefault = least } = LIMITS[name]
  expect(byDefault).toBeGreaterThanOrEqual(least)
  expect(byDefault).toBeLessThanOrEqual(most)
  t = await openTestKernel([])
  const set = (value: number) => limit(`{ ${name}: ${name === 'wall' ? `${value}ms` : value} }`)
  await set(least)
  await set(most)
  await expect(set(least - 1)).rejects.toThrow(/is from/)
  if (most < Number.MAX_SAFE_INTEGER) await expect(set(most + 1)).rejects.toThrow(/is from/)
})

it('the table in the docs is the one in the code', async () => {
  t = await openTestKernel([])
  const page = fs.readFileSync(path.join(import.meta.dirname, '../../docs/limits.md'), 'utf8')
  const rows = LIMIT_NAMES.map((name) => {
    const { byDefault, most, of, about, code } = LIMITS[name]
    const shown = (value: number | undefined) =>
      value === undefined || value === Number.MAX_SAFE_INTEGER ? 'none' : showLimit(name, value)
    return `| \`${name}\` | ${shown(byDefault)} | ${shown(most)} | ${of === 'each' ? 'each agent' : 'all together'} | ${about} | ${
      code === ''
        ? ''
        : code
            .split(', ')
            .map((one) => `\`${one}\``)
            .join(', ')
    } |`
  })
  const tight = (text: string) => text.replace(/ +/g, ' ')
  for (const row of rows) expect(tight(page)).toContain(tight(row))
})
