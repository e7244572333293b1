/** Guests in any language: the same agent in TypeScript, C and Go, and modules whose state could not be saved. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  crashCopy,
  functionTool,
  openTestKernel,
  type TestKernel,
  type TestProgram,
  tempFolder,
} from '../support/kernel.ts'
import { EXTERNREF, guestModule, I32, type ModuleParts } from '../support/wasm.ts'

const examples = path.join(import.meta.dirname, '..', '..', 'examples', 'guests')
const built = tempFolder()
const now = ['{ tool: rates.get, args: "*" }']

/** What the sources say that they are built with. */
function build(command: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): void {
  const done = spawnSync(command, args, { cwd, env: { ...process.env, ...env }, encoding: 'utf8' })
  if (done.error)
    throw new Error(`\`${command}\` is missing: the examples in C need clang and lld, the one in Go needs go`)
  if (done.status !== 0) throw new Error(done.stderr)
}

const C = ['--target=wasm32', '-O2', '-ffreestanding', '-fno-builtin', '-nostdlib', '-Wl,--no-entry']
const LANGUAGES = ['ts', 'c', 'go'] as const
const programs: readonly TestProgram[] = [
  { name: 'ts', file: path.join(examples, 'counter.ts'), now },
  { name: 'c', file: path.join(built, 'c.wasm'), now },
  { name: 'go', file: path.join(built, 'go.wasm'), now },
]
const tools = [functionTool('rates.get', 'read', ({ currency }) => ({ currency, rate: '1.25' }))]

beforeAll(() => {
  build('clang', [...C, '-o', path.join(built, 'c.wasm'), 'c/counter.c'], examples)
  const wasip1 = { GOOS: 'wasip1', GOARCH: 'wasm' }
  build(
    'go',
    ['build', '-buildmode=c-shared', '-o', path.join(built, 'go.wasm'), '.'],
    path.join(examples, 'go'),
    wasip1,
  )
}, 120_000)
afterAll(() => fs.rmSync(built, { recursive: true, force: true }))

describe('the same agent in TypeScript, C and Go', () => {
  it('answers, logs, acts, is refused and waits in the same way', async () => {
    const logs = new Map<string, string[]>()
    const t = await openTestKernel(programs, {
      tools,
      onTurn: ({ address, logs: lines }) => {
        const [, type = ''] = address.split('/')
        logs.set(type, [...(logs.get(type) ?? []), ...lines.map(([, text]) => text)])
      },
    })
    const seen = await Promise.all(
      LANGUAGES.map(async (type) => {
        const call = (method: string, args?: unknown) => t.call(`${type}/a`, method, args)
        const answers = [
          await call('total'),
          await call('add', { n: 3 }),
          await call('add', { n: -5 }),
          await call('price', { currency: 'EUR \\"quoted\\" ü' }),
          await call('nap', { ms: 20 }),
          await call('total'),
        ]
        return answers
      }),
    )
    expect(seen[0]?.map((reply) => reply.ok && reply.value)).toEqual([
      0,
      3,
      -2,
      { count: -2, rate: { currency: 'EUR \\"quoted\\" ü', rate: '1.25' } },
      -2,
      -2,
    ])
    expect(seen[1]).toEqual(seen[0])
    expect(seen[2]).toEqual(seen[0])
    for (const type of LANGUAGES) expect(logs.get(type)).toEqual(['counted to 3', 'counted to -2'])
    await t.close()
  })

  it('is refused what its card does not grant, under the same code', async () => {
    const t = await openTestKernel(
      programs.map((p) => ({ ...p, now: [] })),
      { tools },
    )
    for (const type of LANGUAGES)
      expect(await t.call(`${type}/a`, 'price', { currency: 'EUR' })).toMatchObject({
        ok: false,
        error: { class: 'Refused', by: 'card' },
      })
    await t.close()
  })

  it('is suspended and woken, killed and repeated, and cancelled in the middle of a wait', async () => {
    let t = await openTestKernel(programs, { tools })
    const all = async (method: string, args?: unknown) => {
      const replies = await Promise.all(LANGUAGES.map((type) => t.call(`${type}/a`, method, args)))
      return replies.map((reply) => (reply.ok ? reply.value : reply.error.code))
    }
    expect(await all('add', { n: 7 })).toEqual([7, 7, 7])
    for (const type of LANGUAGES) expect(await t.kernel.suspend(`acme/${type}/a`)).toBe(true)
    expect(await all('add', { n: 1 })).toEqual([8, 8, 8])
    const killed = t
    t = await crashCopy(killed, { tools })
    await killed.close()
    expect(await all('add', { n: 1 })).toEqual([9, 9, 9])
    for (const type of LANGUAGES) {
      const { id, reply } = await t.kernel.invoke({
        address: `acme/${type}/a`,
        method: 'nap',
        args: { ms: 60_000 },
      })
      await t.kernel.cancel(id, 'enough')
      expect(await reply).toMatchObject({ ok: false, error: { class: 'Cancelled' } })
      expect(await t.call(`${type}/a`, 'total')).toEqual({ ok: true, value: 9 })
      expect((await t.kernel.replay(`acme/${type}/a`)).turns).toBeGreaterThan(3)
    }
    await t.close()
  })
})

describe('a core module', () => {
  const answer = '{"version":1,"methods":{"x":{}},"effects":[],"replies":[],"logs":[],"drops":[]}'
  let t: TestKernel
  const folder = tempFolder()
  beforeAll(async () => {
    t = await openTestKernel([])
  })
  afterAll(async () => {
    await t.close()
    fs.rmSync(folder, { recursive: true, force: true })
  })

  const apply = async (parts: ModuleParts) => {
    const file = path.join(folder, 'm.wasm')
    fs.writeFileSync(file, guestModule(parts, answer))
    const { applyPrograms } = await import('../support/kernel.ts')
    await applyPrograms(t.kernel, [{ name: 'm', file, now: [] }])
  }
  const I32_CONST_0 = [0x41, 0]

  /** Each differs in one thing from a module that is taken. */
  const refused: readonly (readonly [what: string, says: RegExp, parts: ModuleParts, taken: ModuleParts])[] =
    [
      ['imports a global', /import section: `env.state` is no function/, { importedGlobal: true }, {}],
      [
        'imports a function that is nothing of ours',
        /import section: `env.clock` is nothing that a guest is given/,
        { functions: [['env', 'clock']] },
        { functions: [['wasi_snapshot_preview1', 'fd_sync']] },
      ],
      ['has two memories', /multi-memory|multiple memories/i, { memories: 2 }, {}],
      ['has no memory', /memory section: 0 memories|memory/, { memories: 0 }, {}],
      [
        'calls its memory otherwise',
        /export section: there is no memory called `memory`/,
        { memory: 'mem' },
        {},
      ],
      [
        'has a mutable global that is a reference',
        /global section: mutable global 0 holds a reference/,
        { globals: [[EXTERNREF, [0xd0, 0x6f]]] },
        { globals: [[I32, I32_CONST_0]] },
      ],
      ['has a passive data segment', /data section: segment 0 is passive/, { passiveData: true }, {}],
      [
        'writes a table',
        /code section: function 1 has `table.set`/,
        { table: true, code: [...I32_CONST_0, 0xd0, 0x70, 0x26, 0] },
        { table: true, code: [...I32_CONST_0, 0x25, 0, 0x1a] },
      ],
      [
        'lacks the turn function',
        /export section: `cardinal_turn\(i32, i32\) -> i64` is missing/,
        { exports: ['cardinal_alloc', 'turn'] },
        { exports: ['cardinal_alloc', 'cardinal_turn'] },
      ],
    ]
  for (const [what, says, parts, taken] of refused)
    it(`that ${what} is refused, and one that does not is taken`, async () => {
      await expect(apply(parts)).rejects.toMatchObject({
        code: 'BadProgram',
        message: expect.stringMatching(says),
      })
      await apply(taken)
      expect(await t.kernel.methods('acme/m/x')).toMatchObject({ x: {} })
    })

  it('that is no module at all is refused', async () => {
    const file = path.join(folder, 'none.wasm')
    fs.writeFileSync(file, 'export default 1')
    const { applyPrograms } = await import('../support/kernel.ts')
    await expect(applyPrograms(t.kernel, [{ name: 'none', file, now: [] }])).rejects.toMatchObject({
      code: 'BadProgram',
    })
  })
})
