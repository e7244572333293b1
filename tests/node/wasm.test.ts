/** Components as tools and as middleware: code of others that reaches nothing. */
import type { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { nameOfComponent, parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { isRange } from '@cardinal/tools'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { componentDigest } from '../../packages/kernel/src/components.ts'
import { commandLine } from '../support/command.ts'
import { componentOf } from '../support/component.ts'
import { crashCopy, functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const TOOL = `
let calls = 0
export function run(args) {
  const { a, b, how } = JSON.parse(args)
  calls++
  if (how === 'refuse') throw 'not of these two'
  if (how === 'trap') throw new Error('anything')
  if (how === 'spin') for (;;);
  if (how === 'grow') { const all = []; for (;;) all.push(new Uint8Array(1 << 20)) }
  if (how === 'large') return JSON.stringify('x'.repeat(6 << 20))
  if (how === 'odd') return 'no JSON'
  if (how === 'reach') return JSON.stringify([typeof fetch, typeof process, typeof require, typeof WebAssembly])
  return JSON.stringify({ sum: a + b, calls })
}
`
const GUARD = `
export function run(asked) {
  const { when, call, value, config } = JSON.parse(asked)
  if (when === 'response') {
    if (call.args.how === 'hide') throw 'not shown'
    return JSON.stringify({ value: call.args.how === 'mask' ? 'masked' : value })
  }
  if (call.args.how === 'spin') for (;;);
  if (call.args.how === config.word) return JSON.stringify({ do: 'refuse', code: 'Forbidden', message: 'that word' })
  if (call.args.how === 'rewrite') return JSON.stringify({ do: 'rewrite', args: { ...call.args, how: 'plain' } })
  return JSON.stringify({ do: 'pass' })
}
`
const head = (kind: string, name: string) =>
  `apiVersion: cardinal/v1\nkind: ${kind}\nmetadata: { tenant: acme, name: ${name} }\n`
const IN =
  'in: { type: object, properties: { a: { type: number }, b: { type: number }, how: { type: string } }, required: [a, b] }'
const tool = (
  name: string,
  effect: string,
  wasm = '{ component: ./sum.wasm, fuel: 2000000000, memory: 64 }',
) => `${head('Tool', name)}spec:\n  effect: ${effect}\n  ${IN}\n  wasm: ${wasm}\n`
const MANIFEST = [
  tool('calc.sum', 'read'),
  tool('calc.once', 'once'),
  tool('calc.wide', 'read', '{ component: ./sum.wasm, fuel: 6000000000, memory: 1024 }'),
  `${head('Middleware', 'guard')}spec: { tools: [db.*], wasm: { component: ./guard.wasm, fuel: 200000000, with: { word: sesame } } }\n`,
  `${head('Agent', 'teller')}spec:\n  program: x\n  card:\n    now:\n      - { tool: calc.*, args: "*", ask: [] }\n      - { tool: db.*, args: "*", ask: [] }\n`,
].join('---\n')

let t: TestKernel
let sum: Buffer
let guard: Buffer
const performed: unknown[] = []
const tools = [
  functionTool('db.put', 'once', (args) => {
    performed.push(args)
    return 'put'
  }),
]

async function apply(
  text: string,
  given: Record<string, Buffer>,
  keep = Object.values(given),
): Promise<void> {
  const components = new Map(Object.entries(given).map(([name, bytes]) => [name, componentDigest(bytes)]))
  const manifests = parseManifests(text, 'calc.yaml', {
    isRange,
    defaultsOf: t.kernel.defaultsOf,
    components,
  })
  await t.kernel.apply(
    manifests,
    new Map([['acme/teller', await bundleProgram(programFile('teller.ts'))]]),
    keep,
  )
}

const named = (kind: string, name: string) => nameOfComponent(kind, 'acme', name)
const all = () => ({
  [named('Tool', 'calc.sum')]: sum,
  [named('Tool', 'calc.once')]: sum,
  [named('Tool', 'calc.wide')]: sum,
  [named('Middleware', 'guard')]: guard,
})

async function use(name: string, args: object): Promise<Record<string, unknown>> {
  const reply = await t.call('acme/teller/a', 'use', { name, args })
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value as Record<string, unknown>
}

beforeAll(async () => {
  ;[sum, guard] = await Promise.all([componentOf(TOOL), componentOf(GUARD)])
  t = await openTestKernel([], { tools })
  await apply(MANIFEST, all())
}, 60_000)
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

describe('a component as a tool', () => {
  it('answers what it is asked, and keeps nothing from one call to the next', async () => {
    expect(await use('calc.sum', { a: 1, b: 2 })).toEqual({ ok: true, value: { sum: 3, calls: 1 } })
    expect(await use('calc.once', { a: 1, b: 2 })).toEqual({ ok: true, value: { sum: 3, calls: 1 } })
    expect(await use('calc.sum', { a: 'x', b: 2 })).toMatchObject({ ok: false, code: 'BadArguments' })
  })

  it('finds nothing around it', async () => {
    expect(await use('calc.sum', { a: 1, b: 2, how: 'reach' })).toMatchObject({
      value: ['undefined', 'undefined', 'undefined', 'undefined'],
    })
    expect(t.kernel.tools('acme').find(({ name }) => name === 'calc.sum')).toMatchObject({
      sinks: [],
      yields: [],
    })
  })

  it.each([
    ['refuse', 'ToolRefused', 'not of these two'],
    ['trap', 'ToolRefused', 'anything'],
    ['spin', 'ToolFailed', 'fuel'],
    ['grow', 'ToolRefused', 'memory'],
    ['large', 'ToolFailed', 'more than 4194304 bytes'],
    ['odd', 'ToolAnswer', 'JSON'],
  ])('that does not answer (%s) has done nothing, and says so', async (how, code, says) => {
    for (const name of ['calc.sum', 'calc.once']) {
      const failed = await use(name, { a: 1, b: 2, how })
      expect(failed, name).toMatchObject({ ok: false, name: 'Unavailable', code })
      expect(String(failed.message)).toContain(says)
    }
    expect(await use('calc.sum', { a: 1, b: 2 })).toMatchObject({ ok: true })
  })

  it('waits for room, and waits no more once nobody waits for it', async () => {
    const begin = (who: string, how: string) => {
      const args = { name: 'calc.wide', args: { a: 1, b: 2, how } }
      return t.kernel.invoke({ address: `acme/teller/${who}`, method: 'use', args })
    }
    // Two of them have all the memory there is for components.
    const spinning = [await begin('w1', 'spin'), await begin('w2', 'spin')]
    const third = await begin('w3', 'plain')
    expect(await t.kernel.suspend('acme/teller/w3')).toBe(false)
    await t.kernel.cancel(third.id, 'nobody waits')
    expect(await third.reply).toMatchObject({ ok: false })
    await expect.poll(() => t.kernel.suspend('acme/teller/w3')).toBe(true)
    expect((await t.kernel.result(spinning[1]?.id ?? '')).state).toBe('open')
    for (const { reply } of spinning) expect((await reply).ok).toBe(true)
    expect(await (await begin('w3', 'plain')).reply).toMatchObject({ value: { value: { sum: 3 } } })
  })

  it('is refused where it wants something of the host, is none, or has another shape; nothing changes', async () => {
    const before = JSON.stringify(t.kernel.tools('acme'))
    const one = (bytes: Buffer) => apply(tool('calc.other', 'read'), { [named('Tool', 'calc.other')]: bytes })
    await expect(one(await componentOf(TOOL, 'timed'))).rejects.toMatchObject({
      code: 'BadComponent',
      message: expect.stringContaining('it imports `cardinal:tool/clock'),
    })
    await expect(
      one(await componentOf('export function other(a) { return a }', 'other')),
    ).rejects.toMatchObject({
      code: 'BadComponent',
      message: expect.stringContaining('`run`'),
    })
    await expect(one(Buffer.from('no component'))).rejects.toMatchObject({ code: 'BadComponent' })
    await expect(apply(tool('calc.other', 'read'), {})).rejects.toMatchObject({
      code: 'BadManifest',
      path: 'spec.wasm.component',
    })
    await expect(
      apply(tool('calc.other', 'read'), { [named('Tool', 'calc.other')]: Buffer.from('never kept') }, []),
    ).rejects.toMatchObject({ code: 'BadComponent', message: expect.stringContaining('was not sent') })
    expect(JSON.stringify(t.kernel.tools('acme'))).toBe(before)
  })

  it('is not compiled where that would take a compiler hours, however small it is', async () => {
    const length = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...length(n >> 7)])
    const section = (id: number, bytes: number[]) => [id, ...length(bytes.length), ...bytes]
    /** Loops in loops, in a function with so many locals, in a module, in a component. */
    const nested = (loops: number, locals: number) => {
      const body = [
        1,
        ...length(locals),
        0x7f,
        ...Array.from({ length: loops }, () => [3, 0x40]).flat(),
        ...Array(loops + 1).fill(0x0b),
      ]
      const code = section(10, [1, ...length(body.length), ...body])
      const module = [
        0,
        0x61,
        0x73,
        0x6d,
        1,
        0,
        0,
        0,
        ...section(1, [1, 0x60, 0, 0]),
        ...section(3, [1, 0]),
        ...code,
      ]
      return Buffer.from([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0, ...section(1, module)])
    }
    const one = (bytes: Buffer) => apply(tool('calc.other', 'read'), { [named('Tool', 'calc.other')]: bytes })
    const began = Date.now()
    await expect(one(nested(2000, 2000))).rejects.toMatchObject({
      message: expect.stringContaining('nested deeper'),
    })
    expect(Date.now() - began).toBeLessThan(5000)
    await expect(one(nested(10, 10))).rejects.toMatchObject({
      message: expect.stringContaining('exports no function'),
    })
  })

  it('is there after a crash, and refused where its file is another', async () => {
    const after = await crashCopy(t, { tools })
    try {
      const asked = { name: 'calc.sum', args: { a: 2, b: 2 } }
      expect(await after.call('acme/teller/z', 'use', asked)).toMatchObject({ value: { value: { sum: 4 } } })
    } finally {
      await after.close()
    }
    const changed = await crashCopy(t, { tools })
    fs.appendFileSync(path.join(changed.data, 'components', `${componentDigest(sum)}.wasm`), 'x')
    try {
      const asked = { name: 'calc.sum', args: { a: 2, b: 2 } }
      expect(JSON.stringify(await changed.call('acme/teller/y', 'use', asked))).not.toContain('"sum"')
    } finally {
      await changed.close()
    }
  })
})

describe('a component as middleware', () => {
  it('refuses, rewrites and lets pass, by what its declaration tells it', async () => {
    performed.length = 0
    expect(await use('db.put', { how: 'plain' })).toMatchObject({ ok: true, value: 'put' })
    expect(await use('db.put', { how: 'sesame' })).toMatchObject({
      ok: false,
      code: 'Forbidden',
      by: 'middleware',
    })
    expect(await use('db.put', { how: 'rewrite' })).toMatchObject({ ok: true })
    expect(performed).toEqual([{ how: 'plain' }, { how: 'plain' }])
  })

  it('changes an answer on the way back, and where it fails there, what was done is held back', async () => {
    performed.length = 0
    expect(await use('db.put', { how: 'mask' })).toMatchObject({ ok: true, value: 'masked' })
    expect(await use('db.put', { how: 'hide' })).toMatchObject({ ok: false, name: 'Withheld' })
    expect(performed).toHaveLength(2)
  })

  it('that does not end lets nothing pass', async () => {
    performed.length = 0
    expect(await use('db.put', { how: 'spin' })).toMatchObject({ ok: false, by: 'middleware' })
    expect(performed).toEqual([])
  })
})

describe('cardinal tools new', () => {
  const { folder, run, remove } = commandLine()
  afterAll(remove)

  it('writes a tool that is built and applied as it is', async () => {
    const made = run(['tools', 'new', 'sums.add', '--tenant', 'acme'])
    expect(made).toMatchObject({ status: 0, out: expect.stringContaining('npm run build') })
    const at = (file: string) => path.join(folder, 'sums-add', file)
    const { scripts } = JSON.parse(fs.readFileSync(at('package.json'), 'utf8'))
    expect(scripts.build).toContain('jco componentize tool.js --wit tool.wit')
    const [script] = (
      await build({ entryPoints: [at('tool.ts')], bundle: true, format: 'esm', write: false })
    ).outputFiles
    expect(fs.readFileSync(at('tool.wit'), 'utf8')).toContain('world tool')
    const component = await componentOf(script?.text ?? '', 'tool', at('tool.wit'))
    await apply(fs.readFileSync(at('tool.yaml'), 'utf8'), { [named('Tool', 'sums.add')]: component })
    expect(t.kernel.tools('acme').map(({ name }) => name)).toContain('sums.add')
    await apply(
      `${head('Agent', 'teller')}spec:\n  program: x\n  card: { now: [{ tool: sums.add, args: "*" }] }\n`,
      {},
    )
    expect(await use('sums.add', { a: 1, b: 2 })).toEqual({ ok: true, value: { sum: 3 } })
    expect(run(['tools', 'new', 'sums.add'])).toMatchObject({
      status: 5,
      err: expect.stringContaining('FileExists'),
    })
    expect(run(['tools', 'new', 'Sums'])).toMatchObject({
      status: 2,
      err: expect.stringContaining('BadName'),
    })
  })
})

describe('cardinal apply', () => {
  const { folder, run, runBeside, begin, end, remove } = commandLine()
  let node: ChildProcess
  afterAll(async () => {
    await end(node)
    remove()
  })

  it('sends components beside their manifests, and notices another one', async () => {
    fs.copyFileSync(programFile('teller.ts'), path.join(folder, 'teller.ts'))
    fs.writeFileSync(path.join(folder, 'sum.wasm'), sum)
    const manifest = `${tool('calc.sum', 'read')}---\n${head('Agent', 'teller')}spec: { program: ./teller.ts, card: { now: [{ tool: calc.sum, args: "*" }] } }\n`
    fs.writeFileSync(
      path.join(folder, 'cardinal.yaml'),
      manifest.replaceAll('tenant: acme', 'tenant: default'),
    )
    node = (await begin(['dev', '--port', '0'], /applied default\/teller/)).child
    const asked = ['invoke', 'teller/a', 'use', '{"name":"calc.sum","args":{"a":20,"b":22}}']
    expect(JSON.parse((await runBeside(asked)).out)).toMatchObject({ ok: true, value: { sum: 42 } })
    expect(run(['apply']).out).toMatch(/Tool +default\/calc\.sum +generation 1 +(as it was|unchanged)/)
    fs.writeFileSync(path.join(folder, 'sum.wasm'), await componentOf(TOOL.replace('a + b', 'a * b')))
    await expect
      .poll(async () => JSON.parse((await runBeside(asked)).out), { timeout: 20_000 })
      .toMatchObject({ ok: true, value: { sum: 440 } })
    fs.rmSync(path.join(folder, 'sum.wasm'))
    expect(run(['plan'])).toMatchObject({
      status: 2,
      err: expect.stringMatching(/sum\.wasm.*cannot be read/),
    })
  }, 90_000)
})
