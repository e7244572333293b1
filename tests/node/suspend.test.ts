/**
 * Suspending and waking changes nothing: for any history, at any set of quiet points, under any compiler. And what
 * cannot be used of a save is said aloud and made up for.
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { type Compiler, Engine, type Image, type Instance } from '@cardinal/engine'
import { layout } from '@cardinal/kernel'
import { bundleGuest, bundleProgram } from '@cardinal/sdk/bundle'
import Database from 'better-sqlite3'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { crashCopy, functionTool, openTestKernel, programFile, tempFolder } from '../support/kernel.ts'
import { newSeed } from '../support/seed.ts'

const COMPILERS: readonly Compiler[] = ['optimized', 'quick', 'pulley']
const BIRTH = '{"t":"birth","address":"acme/drifter/a","key":"a","card":{"id":"c"}}'

/** One event of a history: what a caller asks, or what came of an effect that is open. */
type Event =
  | { readonly kind: 'call'; readonly method: string; readonly n: number }
  | { readonly kind: 'receipt'; readonly which: number; readonly ok: boolean }

const REHEARSAL = [BIRTH, '{"t":"rehearse","id":"inv_0","method":"act","args":null}'].map((e) =>
  Buffer.from(e),
)
/** One that leaves more memory than most agents ever have. */
const LARGE_REHEARSAL = [BIRTH, '{"t":"invoke","id":"inv_0","method":"grow","args":100}'].map((e) =>
  Buffer.from(e),
)

interface Node {
  readonly engine: Engine
  /** As it is saved over its first turn, over one that is larger than it, and the same without one. */
  readonly image: Image
  readonly overLarge: Image
  readonly bare: Image
  /** The bytes of the first turn. */
  readonly first: Buffer
}

async function openNode(compiler: Compiler): Promise<Node> {
  const engine = new Engine({ threads: 2, compiler })
  const made = async (build: ReturnType<Engine['boot']>) => {
    const built = await build
    if (!built.ok) throw new Error(built.detail)
    return built.bytes
  }
  const bottom = await engine.load(await made(engine.boot()), { base: true })
  const sdk = Buffer.from((await bundleGuest()).code)
  const over = await engine.load(await made(engine.extend(bottom, sdk, 'cardinal:sdk', { sdk: true })), {
    base: true,
    parent: bottom,
  })
  const script = Buffer.from((await bundleProgram(programFile('drifter.ts'))).code)
  const bytes = await made(engine.extend(over, script, 'drifter.js'))
  const bare = await engine.load(bytes, { parent: over })
  const withFirst = async (events: readonly Buffer[]) => {
    const opened = await engine.load(bytes, { parent: over })
    const first = await made(engine.rehearse(opened, events))
    return { image: engine.withFirst(opened, first), first }
  }
  const [{ image, first }, { image: overLarge }] = [
    await withFirst(REHEARSAL),
    await withFirst(LARGE_REHEARSAL),
  ]
  return { engine, image, overLarge, bare, first }
}

const turnOf = (events: readonly string[], clockMs = 1e12, seed = Buffer.alloc(32)) => ({
  events: events.map((text) => Buffer.from(text)),
  clockMs,
  seed,
  fuel: 1e10,
  memoryBytes: 64 << 20,
  sqlSteps: 0,
  homeBytes: 0,
})

interface Outcome {
  readonly outputs: readonly string[]
  /** SHA-256 of what memory holds beyond its image. */
  readonly memory: string
}

/** What happens at a quiet point: nothing; a save; a save, and another instance goes on from it, on any node. */
type Point = 'nothing' | 'save' | number

/** Plays a history; `points` says what is done after each of its turns. */
async function play(
  nodes: readonly Node[],
  history: readonly Event[],
  points: readonly Point[],
  over: 'image' | 'overLarge' = 'image',
): Promise<Outcome> {
  let node = nodes[0] as Node
  let instance: Instance = node.engine.create(node[over])
  const outputs: string[] = []
  const open: number[] = []
  let clockMs = 1e12
  const turn = async (events: readonly string[]) => {
    clockMs += 1000
    const seed = createHash('sha256').update(String(outputs.length)).digest()
    const done = await node.engine.deliver(instance, 0, turnOf(events, clockMs, seed))
    if (!done.ok) throw new Error(`${done.kind}: ${done.detail}`)
    const text = done.output.toString()
    outputs.push(text)
    for (const { c } of (JSON.parse(text) as { effects: { c: number }[] }).effects) open.push(c)
  }
  await turn([BIRTH])
  for (const [i, event] of history.entries()) {
    if (event.kind === 'call')
      await turn([`{"t":"invoke","id":"inv_${i}","method":"${event.method}","args":${event.n}}`])
    else {
      const [c] = open.length > 0 ? open.splice(event.which % open.length, 1) : [0]
      const said = event.ok
        ? `"ok":true,"value":${i}`
        : '"ok":false,"error":{"class":"Refused","code":"No","message":"no"}'
      await turn([`{"t":"receipt","id":${c},${said}}`])
    }
    const point = points[i] ?? 'nothing'
    if (point === 'nothing') continue
    const saved = await node.engine.save(instance, 0)
    if (point === 'save') continue
    node.engine.drop(instance)
    node = nodes[point % nodes.length] as Node
    instance = node.engine.create(node[over], { saved })
  }
  // The next hundred turns are the proof that nothing was lost that only shows later.
  for (let i = 0; i < 100; i++)
    await turn([`{"t":"invoke","id":"after_${i}","method":"${i % 2 ? 'remember' : 'act'}","args":${i}}`])
  const memory = createHash('sha256')
    .update(await node.engine.save(instance, 0))
    .digest('hex')
  node.engine.drop(instance)
  return { outputs, memory }
}

const METHODS = ['remember', 'forget', 'grow', 'act', 'wait', 'random', 'closures', 'throws', 'buffers']
const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('call' as const),
      method: fc.constantFrom(...METHODS),
      n: fc.nat(50),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('receipt' as const), which: fc.nat(20), ok: fc.boolean() }),
  },
)
const point: fc.Arbitrary<Point> = fc.oneof(
  fc.constant('nothing' as const),
  fc.constant('save' as const),
  fc.nat(COMPILERS.length - 1),
)

describe('suspending and waking', () => {
  let nodes: Node[]
  beforeAll(async () => {
    nodes = await Promise.all(COMPILERS.map(openNode))
  }, 120_000)
  afterAll(() => {
    for (const { engine } of nodes) engine.close()
  })

  it('changes nothing, at any quiet points, from one compiler to another: outputs, the next 100 turns, memory', async () => {
    const seed = newSeed()
    const size = Number(process.env.SUSPEND_HISTORIES ?? 60)
    await fc.assert(
      fc.asyncProperty(
        fc.array(event, { minLength: 1, maxLength: 40 }),
        fc.array(point, { minLength: 40, maxLength: 40 }),
        fc.constantFrom('image' as const, 'overLarge' as const),
        async (history, points, over) => {
          const plain = await play(nodes, history, [], over)
          expect(await play(nodes, history, points, over)).toEqual(plain)
          expect(
            await play(
              [...nodes].reverse(),
              history,
              history.map((_, i) => i),
              over,
            ),
          ).toEqual(plain)
        },
      ),
      { seed, numRuns: size },
    )
  }, 300_000)

  it('a first turn is the same under every compiler; saves over it are small, and are restored over it alone', async () => {
    const [node, ...others] = nodes as [Node, ...Node[]]
    for (const other of others) expect(other.first.equals(node.first)).toBe(true)
    const { engine, image, bare } = node
    const begun = [BIRTH, '{"t":"invoke","id":"inv_7","method":"remember","args":1}']
    const next = turnOf(['{"t":"invoke","id":"inv_8","method":"remember","args":2}'])
    const lived = async (over: Image) => {
      const instance = engine.create(over)
      await engine.deliver(instance, 0, turnOf(begun))
      return { saved: await engine.save(instance, 0), after: await engine.deliver(instance, 0, next) }
    }
    const [a, b] = [await lived(image), await lived(bare)]
    expect(a.saved.length).toBeLessThan(b.saved.length / 2)
    expect([a.saved, b.saved].map((saved) => engine.restores(image, saved))).toEqual([true, true])
    expect([a.saved, b.saved].map((saved) => engine.restores(bare, saved))).toEqual([false, true])
    await expect(engine.deliver(engine.create(bare, { saved: a.saved }), 0, next)).rejects.toThrow(
      /first turn/,
    )
    for (const { saved, after } of [a, b])
      expect(await engine.deliver(engine.create(image, { saved }), 0, next)).toEqual({
        ...after,
        micros: expect.any(Number),
      })
  })

  it('would be noticed if it did change something: a save of one turn earlier', async () => {
    const [node] = nodes as [Node]
    const history: Event[] = [
      { kind: 'call', method: 'remember', n: 1 },
      { kind: 'call', method: 'remember', n: 2 },
    ]
    const plain = await play([node], history, [])
    expect((await play([node], history.slice(0, 1), [])).memory).not.toBe(plain.memory)
  })

  it('refuses a save over another image, and one that is cut off', async () => {
    const [node] = nodes as [Node]
    const { engine, image } = node
    const instance = engine.create(image)
    const turn = turnOf([BIRTH])
    await engine.deliver(instance, 0, turn)
    const saved = await engine.save(instance, 0)
    const foreign = Buffer.from(saved)
    foreign[8] = (foreign[8] as number) ^ 1
    await expect(engine.deliver(engine.create(image, { saved: foreign }), 0, turn)).rejects.toThrow(
      /another image/,
    )
    await expect(
      engine.deliver(engine.create(image, { saved: saved.subarray(0, 20) }), 0, turn),
    ).rejects.toThrow(/cut off/)
    expect(await engine.deliver(engine.create(image, { saved }), 0, turn)).toMatchObject({ ok: true })
  })
})

const worker = { name: 'worker', file: programFile('worker.ts'), now: ['{ tool: test.echo, args: "*" }'] }
const tools = [functionTool('test.echo', 'read', (args) => args)]

/** The programs that agents live over each have a memory of their own only while many live over them. */
function sealedMemories(): number {
  const inodes = new Set<string>()
  for (const line of fs.readFileSync('/proc/self/maps', 'utf8').split('\n'))
    if (line.includes('memfd:cardinal-image')) inodes.add(line.split(/\s+/)[4] as string)
  return inodes.size
}

describe('on a node', () => {
  it.each([
    [
      'altered',
      (bytes: Buffer) => Buffer.from(bytes.map((byte, i) => (i === bytes.length >> 1 ? byte ^ 1 : byte))),
    ],
    ['cut off', (bytes: Buffer) => bytes.subarray(0, bytes.length >> 1)],
    ['of a later version', (bytes: Buffer) => Buffer.concat([Buffer.of(99), bytes.subarray(1)])],
  ])(
    'a save that is %s is said aloud, and everything is repeated; one that is whole is used',
    async (_what, harm) => {
      const said: string[] = []
      const options = { tools, onNotice: (text: string) => said.push(text) }
      let t = await openTestKernel([worker], options)
      await t.call('worker/a', 'echo', 1)
      await t.call('worker/a', 'echo', 2)
      t = await t.reopen()
      expect(await t.call('worker/a', 'status')).toMatchObject({ ok: true })
      expect(said).toEqual([])
      await t.kernel.close()
      const db = new Database(layout(t.data).saves)
      const { bytes } = db.prepare('select bytes from snapshots').get() as { bytes: Buffer }
      db.prepare('update snapshots set bytes = ?').run(harm(bytes))
      db.close()
      t = await openTestKernel([], options, t.data)
      expect(await t.call('worker/a', 'echo', 3)).toEqual({ ok: true, value: 3 })
      expect(said).toEqual([
        expect.stringMatching(/`acme\/worker\/a`: what was saved of it at entry \d+ cannot be used/),
      ])
      await t.close()
    },
  )

  it('a first turn that is lost or harmed is rehearsed anew, and what is saved over it is used; over another it is not', async () => {
    const said: string[] = []
    const options = { tools, onNotice: (text: string) => said.push(text) }
    let t = await openTestKernel([worker], options)
    const { images } = layout(t.data)
    const fileOf = (ending: RegExp) => {
      const name = fs.readdirSync(images).find((file) => ending.test(file)) ?? ''
      return path.join(images, name)
    }
    const again = async (harm: () => void) => {
      await t.kernel.close()
      harm()
      t = await openTestKernel([], options, t.data)
      expect(await t.call('worker/a', 'echo', 7)).toEqual({ ok: true, value: ++calls })
    }
    let calls = 1
    await t.call('worker/a', 'echo', 1)
    const file = fileOf(/\.first$/)
    const whole = fs.readFileSync(file)
    await again(() => fs.rmSync(file))
    await again(() => fs.writeFileSync(file, whole.subarray(0, 100)))
    await again(() => fs.rmSync(fileOf(/^first-of-/)))
    expect(fs.readFileSync(file).equals(whole)).toBe(true)
    expect(said).toEqual([])
    // As another build might rehearse it: its last byte is of a page, in one that is packed otherwise.
    await again(() => {
      const other = Buffer.concat([whole, Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0])])
      const name = createHash('sha256').update(other).digest('hex')
      fs.writeFileSync(path.join(images, `${name}.first`), other)
      fs.writeFileSync(fileOf(/^first-of-/), name)
    })
    expect(said).toEqual([expect.stringMatching(/`acme\/worker\/a`: what was saved of it .* cannot be used/)])
    await t.close()
  })

  it('large memory lies in a file, which is used, made up for where it is harmed, and gone with its agent', async () => {
    const said: string[] = []
    const options = { onNotice: (text: string) => said.push(text) }
    const crowd = { name: 'crowd', file: programFile('crowd.ts'), now: [] }
    let t = await openTestKernel([crowd], options)
    const files = () => {
      const { memory } = layout(t.data)
      if (!fs.existsSync(memory)) return []
      const of = (birth: string) =>
        fs.readdirSync(path.join(memory, birth)).map((name) => path.join(memory, birth, name))
      return fs.readdirSync(memory).flatMap(of)
    }
    const asleep = async () => {
      // It may be at saving, which a turn of that size ends with.
      await expect.poll(() => t.kernel.suspend('acme/crowd/large'), { timeout: 10_000 }).toBe(true)
    }
    const first = await t.call('crowd/large', 'noise', { mib: 24 })
    await asleep()
    const [file = ''] = files()
    expect(fs.statSync(file).size).toBeGreaterThan(20 << 20)
    expect(await t.call('crowd/large', 'sum')).toEqual(first)
    expect(said).toEqual([])
    for (let i = 0; i < 3; i++) {
      await t.call('crowd/large', 'sum')
      await asleep()
    }
    // The last and the one before it; a power cut may bring that one back.
    expect(files()).toHaveLength(2)
    expect(files()).not.toContain(file)
    t = await t.reopen()
    expect(await t.call('crowd/large', 'sum')).toEqual(first)
    await t.kernel.close()
    for (const now of files()) {
      const bytes = fs.readFileSync(now)
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1
      fs.writeFileSync(now, bytes)
    }
    t = await openTestKernel([], options, t.data)
    expect(await t.call('crowd/large', 'sum')).toEqual(first)
    expect(said).toEqual([expect.stringMatching(/cannot be used/)])
    await t.kernel.erase('acme/crowd/large')
    expect(files()).toEqual([])
    await t.close()
  }, 60_000)

  it('a folder that is copied while all sleep goes on as the first does, under any compiler', async () => {
    const t = await openTestKernel([worker], { tools })
    for (const key of ['a', 'b', 'c']) for (let i = 0; i < 3; i++) await t.call(`worker/${key}`, 'echo', i)
    for (const key of ['a', 'b', 'c']) expect(await t.kernel.suspend(`acme/worker/${key}`)).toBe(true)
    const copies = []
    for (const compiler of COMPILERS) copies.push(await crashCopy(t, { tools, compiler }))
    for (const node of [t, ...copies])
      for (const key of ['a', 'b', 'c'])
        expect(await node.call(`worker/${key}`, 'echo', 9)).toEqual({ ok: true, value: 4 })
    for (const node of [t, ...copies]) {
      expect((await node.kernel.replay('acme/worker/a')).turns).toBeGreaterThan(6)
      await node.close()
    }
  })

  it('many programs with one agent each share one memory, and many agents of one program share one', async () => {
    const folder = tempFolder()
    const files = Array.from({ length: 40 }, (_, i) => {
      const file = path.join(folder, `p${i}.ts`)
      fs.writeFileSync(
        file,
        `import { Agent } from '@cardinal/sdk'\nexport default class P extends Agent { static methods = { n: {} }; at = ${i}; n() { return ++this.at } }\n`,
      )
      return { name: `p${i}`, file, now: [] }
    })
    const before = sealedMemories()
    const t = await openTestKernel(files)
    for (const [i, { name }] of files.entries())
      expect(await t.call(`${name}/a`, 'n')).toEqual({ ok: true, value: i + 1 })
    // QuickJS and the SDK; programs lie over them.
    expect(sealedMemories() - before).toBeLessThanOrEqual(3)
    const images = fs.readdirSync(layout(t.data).images).filter((name) => name.endsWith('.img'))
    const sizes = images
      .map((name) => fs.statSync(path.join(layout(t.data).images, name)).size)
      .sort((a, b) => a - b)
    expect(sizes.slice(0, 40).every((size) => size < 64 << 10)).toBe(true)
    for (let i = 0; i < 30; i++) expect(await t.call(`p0/many${i}`, 'n')).toEqual({ ok: true, value: 1 })
    expect(sealedMemories() - before).toBeLessThanOrEqual(4)
    await t.close()
    fs.rmSync(folder, { recursive: true, force: true })
  })
})
