/** The rows of `docs/numbers.md`, each by its number there. Durable means synced: nothing here turns a sync off. */
import path from 'node:path'
import { type Built, Engine, type Image } from '@cardinal/engine'
import { type Kernel, serveApi } from '@cardinal/kernel'
import { bundleGuest, bundleProgram } from '@cardinal/sdk/bundle'
import { openAppender } from './appends.ts'
import { decisions } from './decisions.ts'
import { families } from './families.ts'
import { homeRows } from './homes.ts'
import { caller } from './http-call.ts'
import { each, privateBytes, type Row, wide } from './measure.ts'
import { mediation } from './mediation.ts'
import { million } from './million.ts'
import { ask, openNode, programs } from './node.ts'

const program = path.join(programs, 'bench.ts')
const FUEL = 10_000_000_000
const MEMORY = 256 << 20

async function withKernel<T>(folder: string, use: (kernel: Kernel) => Promise<T>): Promise<T> {
  const kernel = await openNode(folder)
  try {
    return await use(kernel)
  } finally {
    await kernel.close()
  }
}

async function withImage<T>(use: (engine: Engine, image: Image) => Promise<T>): Promise<T> {
  const engine = new Engine({ threads: 2 })
  try {
    const made = async (build: Promise<Built>) => {
      const built = await build
      if (!built.ok) throw new Error(built.detail)
      return built.bytes
    }
    const bottom = await engine.load(await made(engine.boot()), { base: true })
    const guest = Buffer.from((await bundleGuest()).code)
    const sdk = await made(engine.extend(bottom, guest, 'cardinal:sdk', { sdk: true }))
    const over = await engine.load(sdk, { base: true, parent: bottom })
    const script = Buffer.from((await bundleProgram(program)).code)
    const image = await made(engine.extend(over, script, 'bench.js'))
    return await use(engine, await engine.load(image, { parent: over }))
  } finally {
    engine.close()
  }
}

const birth = Buffer.from('{"t":"birth","address":"acme/bench/a","key":"a","card":{"id":"acme/bench/a"}}')
const ten = Buffer.from('{"t":"invoke","id":"inv_1","method":"ten","args":null}')
const seed = Buffer.alloc(32, 1)

export async function firstEffect(): Promise<Row[]> {
  return withImage(async (engine, image) => {
    const figures = await each(1000, 100, async () => {
      const instance = engine.create(image)
      const outcome = await engine.deliver(instance, 0, {
        events: [birth, ten],
        clockMs: 1e12,
        seed,
        fuel: FUEL,
        memoryBytes: MEMORY,
        sqlSteps: 0,
        homeBytes: 0,
      })
      if (!outcome.ok || !outcome.output.includes('bench.step')) throw new Error('no effect')
      engine.drop(instance)
    })
    return [
      {
        row: 1,
        name: 'create an agent to its first effect, engine only',
        unit: 'ms',
        ...figures,
        goal: 'p50 <= 0.25',
        met: figures.p50 <= 0.25,
        note: 'from JavaScript, thread hop included',
      },
    ]
  })
}

export async function firstReply(folder: string): Promise<Row[]> {
  return withKernel(folder, async (kernel) => {
    const figures = await each(500, 50, (i) => ask(kernel, `new${i}`, 'nothing'))
    return [
      {
        row: 2,
        name: 'create an agent to its first durable reply, in process',
        unit: 'ms',
        ...figures,
        goal: 'p50 <= 2, p99 <= 8',
        met: figures.p50 <= 2 && figures.p99 <= 8,
        note: 'new address each; key record and entries synced',
      },
    ]
  })
}

async function overHttp(folder: string): Promise<Row[]> {
  return withKernel(folder, async (kernel) => {
    const api = await serveApi({ kernel, port: 0 })
    const http = caller(api.url, api.token)
    const call = (key: string) => http.call(`/v1/agents/acme/bench/${key}/invoke/nothing`)
    const one = await each(2000, 200, () => call('warm'))
    const many = await wide(20_000, 64, (i) => call(`h${i % 64}`))
    http.close()
    await api.close()
    return [
      {
        row: 3,
        name: 'warm durable invocation over HTTP, one at a time',
        unit: 'ms',
        ...one,
        goal: 'p50 <= 0.8, p99 <= 3',
        met: one.p50 <= 0.8 && one.p99 <= 3,
        note: 'client in the same process',
      },
      {
        row: 4,
        name: 'durable invocations a second over HTTP, 64 at a time',
        unit: '/s',
        ...many,
        value: Math.round(many.perSecond),
        goal: '>= 4000',
        met: many.perSecond >= 4000,
        note: 'latency in ms; load generator in the same process',
      },
    ]
  })
}

async function inProcess(folder: string): Promise<Row[]> {
  return withKernel(folder, async (kernel) => {
    await wide(2000, 64, (i) => ask(kernel, `p${i % 64}`, 'nothing'))
    const many = await wide(40_000, 64, (i) => ask(kernel, `p${i % 64}`, 'nothing'))
    return [
      {
        row: 4,
        name: 'durable invocations a second in process, 64 at a time',
        unit: '/s',
        ...many,
        value: Math.round(many.perSecond),
        goal: '>= 10000',
        met: many.perSecond >= 10_000,
        note: '64 agents; latency in ms',
      },
    ]
  })
}

async function tenSteps(folder: string): Promise<Row[]> {
  return withKernel(folder, async (kernel) => {
    const one = await each(500, 50, () => ask(kernel, 'steps', 'ten'))
    const many = await wide(5000, 64, (i) => ask(kernel, `s${i % 64}`, 'ten'))
    return [
      {
        row: 5,
        name: 'ten durable steps in one invocation, each on disk before the next',
        unit: 'ms',
        ...one,
        goal: 'p50 <= 2.4',
        met: one.p50 <= 2.4,
        note: 'an effect, its receipt and the next turn a step',
      },
      {
        row: 5,
        name: 'the same, 64 at a time',
        unit: '/s',
        ...many,
        value: Math.round(many.perSecond),
        goal: '>= 1500',
        met: many.perSecond >= 1500,
        note: 'invocations a second; latency in ms',
      },
    ]
  })
}

export async function liveMemory(): Promise<Row[]> {
  return withImage(async (engine, image) => {
    const count = 1000
    const start = async () => {
      const instance = engine.create(image)
      await engine.deliver(instance, 0, {
        events: [birth, ten],
        clockMs: 1e12,
        seed,
        fuel: FUEL,
        memoryBytes: MEMORY,
        sqlSteps: 0,
        homeBytes: 0,
      })
      await engine.deliver(instance, 0, {
        events: [Buffer.from('{"t":"receipt","id":1,"ok":true,"value":null}')],
        clockMs: 1e12,
        seed,
        fuel: FUEL,
        memoryBytes: MEMORY,
        sqlSteps: 0,
        homeBytes: 0,
      })
    }
    for (let i = 0; i < 50; i++) await start()
    global.gc?.()
    const before = privateBytes()
    for (let i = 0; i < count; i++) await start()
    const value = (privateBytes() - before) / count / 1024
    return [
      {
        row: 8,
        name: 'private memory of a live agent',
        unit: 'KB',
        n: count,
        value: Math.round(value),
        goal: '<= 200',
        met: value <= 200,
        note: 'two turns each; private dirty bytes of the process',
      },
    ]
  })
}

async function appends(folder: string): Promise<Row[]> {
  const { append, close } = openAppender(folder, 1_000_000)
  const one = await each(3000, 300, append)
  const many = await wide(150_000, 64, append)
  const wider = await wide(150_000, 1024, append)
  await close()
  const note = 'about 400 B: header, chain, encrypted payload, Merkle root, signature, fdatasync'
  return [
    {
      row: 14,
      name: 'durable appends, one at a time',
      unit: 'ms',
      ...one,
      goal: 'p50 <= 0.2',
      met: one.p50 <= 0.2,
      note,
    },
    {
      row: 14,
      name: 'durable appends, 64 at a time',
      unit: '/s',
      ...many,
      value: Math.round(many.perSecond),
      goal: '>= 100000, p99 <= 3',
      met: many.perSecond >= 100_000 && many.p99 <= 3,
      note: 'latency in ms',
    },
    {
      row: 14,
      name: 'durable appends, 1024 at a time',
      unit: '/s',
      ...wider,
      value: Math.round(wider.perSecond),
      goal: 'none',
      met: true,
      note: 'latency in ms',
    },
  ]
}

async function bytesThrough(folder: string): Promise<Row[]> {
  return withKernel(folder, async (kernel) => {
    const base64 = Buffer.alloc(10 << 10, 7).toString('base64')
    const whole = await each(1000, 100, () => ask(kernel, 'bytes', 'bytes', { base64 }))
    const empty = await each(1000, 100, () => ask(kernel, 'bytes', 'nothing'))
    const value = Number((whole.p50 - empty.p50).toFixed(3))
    return [
      {
        row: 15,
        name: '10 KB of bytes through a call and back',
        unit: 'ms',
        ...whole,
        value,
        goal: '<= 0.3',
        met: value <= 0.3,
        note: 'value: what the bytes add to a durable call at p50',
      },
    ]
  })
}

/** Every row, by number; rows that need a data folder get an empty one. */
export const ROWS: readonly { readonly row: number; readonly run: (folder: string) => Promise<Row[]> }[] = [
  { row: 1, run: firstEffect },
  { row: 2, run: firstReply },
  { row: 3, run: overHttp },
  { row: 4, run: inProcess },
  { row: 5, run: tenSteps },
  { row: 6, run: families },
  { row: 8, run: liveMemory },
  { row: 13, run: decisions },
  { row: 13, run: million },
  { row: 14, run: appends },
  { row: 15, run: bytesThrough },
  { row: 19, run: homeRows },
  { row: 20, run: mediation },
]
