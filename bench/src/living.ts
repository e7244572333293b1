/** Rows 8, 9, 12 and 17, and what a full agent takes: agents that are awake in one process, and come and go. */
import fs from 'node:fs'
import path from 'node:path'
import v8 from 'node:v8'
import vm from 'node:vm'
import type { Kernel } from '@cardinal/kernel'
import { percentiles, privateBytes, type Row } from './measure.ts'
import { agentText, applyTo, ask, crowd, openNode } from './node.ts'

const WIDTH = 64

/** Garbage is no leak. */
v8.setFlagsFromString('--expose-gc')
const collect = vm.runInNewContext('gc') as () => void

interface Held {
  readonly descriptors: number
  readonly mappings: number
  readonly threads: number
  readonly bytes: number
}

function held(): Held {
  return {
    descriptors: fs.readdirSync('/proc/self/fd').length,
    mappings: fs.readFileSync('/proc/self/maps', 'utf8').split('\n').length,
    threads: fs.readdirSync('/proc/self/task').length,
    bytes: process.memoryUsage.rss(),
  }
}

/** Row 9: so many agents are awake at once, each with its two turns, and all of them still answer. */
export async function manyLive(folder: string, scale: number): Promise<Row[]> {
  const count = Math.max(10, Math.round(20_000 * scale))
  const kernel = await openNode(folder, { idleMs: 3_600_000 })
  await ask(kernel, 'first', 'nothing')
  collect()
  const before = { ...held(), own: privateBytes() }
  const seconds = await crowd('agents awake', count, WIDTH, (i) => ask(kernel, `live${i}`, 'nothing'))
  const live = kernel.stats().live
  const after = { ...held(), own: privateBytes() }
  const again = await crowd('second turns', count, WIDTH, (i) => ask(kernel, `live${i}`, 'nothing'))
  const own = (privateBytes() - before.own) / count / 1024
  await kernel.close()
  return [
    {
      row: 9,
      name: 'live agents in one process',
      unit: '',
      n: count,
      value: live,
      goal: `>= ${count}`,
      met: live >= count,
      note: `made in ${seconds.toFixed(0)} s, all called again in ${again.toFixed(0)} s; ${(after.mappings - before.mappings) / count} mappings and ${((after.descriptors - before.descriptors) / count).toFixed(3)} descriptors each; ${own.toFixed(0)} KB private each, all of the node included`,
    },
  ]
}

/** What an agent takes that has a loop over a model, tools, files and rows. */
export async function fullAgent(folder: string): Promise<Row[]> {
  const said = 'The client paid 120.00 EUR for March; nothing else is open. '.repeat(8)
  const kernel = await openNode(folder, {
    idleMs: 3_600_000,
    models: new Map([['echo', () => ({ text: said })]]),
  })
  const grants = '{ tool: bench.step, args: "*" }\n      - { tool: llm.chat, resource: writer }'
  const model =
    'apiVersion: cardinal/v1\nkind: Model\nmetadata: { tenant: acme, name: writer }\nspec: { provider: scripted, model: echo }\n'
  await applyTo(kernel, `${model}---\n${agentText('acme', 'full', 'full.ts', grants)}`, {
    'acme/full': 'full.ts',
  })
  const work = async (i: number) => {
    const { reply } = await kernel.begin({ address: `acme/full/f${i}`, method: 'work', args: { steps: 20 } })
    const done = await reply
    if (!done.ok) throw new Error(done.error.message)
  }
  const count = 50
  for (let i = 0; i < 20; i++) await work(i)
  collect()
  const before = privateBytes()
  for (let i = 0; i < count; i++) await work(20 + i)
  const value = Number(((privateBytes() - before) / count / 2 ** 20).toFixed(2))
  await kernel.close()
  return [
    {
      row: 8,
      name: 'private memory of a full agent: 20 rounds of model, tool, file and row',
      unit: 'MB',
      n: count,
      value,
      goal: '<= 5',
      met: value <= 5,
      note: 'awake, with its home open; all that the process took more, by the number of agents',
    },
  ]
}

/** Row 12: an agent with a long history, killed before its last turns were saved. */
export async function longHistory(folder: string): Promise<Row[]> {
  const entries = 10_000
  let kernel = await openNode(folder, { idleMs: 3_600_000 })
  const agents = 20
  // Three entries a step: an effect, its receipt, the next turn.
  await crowd('histories', agents, agents, (i) => ask(kernel, `old${i}`, 'history', { steps: entries / 2 }))
  const suspended: number[] = []
  for (let round = 0; round < 10; round++)
    for (let i = 0; i < agents; i++) {
      await kernel.suspend(`acme/bench/old${i}`)
      const at = performance.now()
      await ask(kernel, `old${i}`, 'nothing')
      suspended.push(performance.now() - at)
    }
  const killed = await copyOf(kernel, folder)
  await kernel.close()
  kernel = killed
  const tails: number[] = []
  for (let i = 0; i < agents; i++) {
    const at = performance.now()
    await ask(kernel, `old${i}`, 'nothing')
    tails.push(performance.now() - at)
  }
  await kernel.close()
  const figures = percentiles(suspended)
  const tail = percentiles(tails)
  return [
    {
      row: 12,
      name: 'wake after a history of 10,000 entries, to a durable answer',
      unit: 'ms',
      ...figures,
      goal: 'p99 <= 20',
      met: figures.p99 <= 20,
      note: `after a kill, with the turns since the last save repeated: p50 ${tail.p50.toFixed(1)}, p99 ${tail.p99.toFixed(1)}`,
    },
  ]
}

/** What a kill leaves at this moment, opened. */
async function copyOf(kernel: Kernel, folder: string): Promise<Kernel> {
  for (let i = 0; i < 20; i++) for (let call = 0; call < 10; call++) await ask(kernel, `old${i}`, 'nothing')
  const copy = `${folder}-killed`
  fs.cpSync(folder, copy, { recursive: true })
  return openNode(path.resolve(copy), { idleMs: 3_600_000 })
}

/** Row 17: agents that are made, run and destroyed leave nothing in the process. */
export async function comeAndGo(folder: string, scale: number): Promise<Row[]> {
  const cycles = Math.max(500, Math.round(10_000 * scale))
  const kernel = await openNode(folder, { idleMs: 3_600_000 })
  const cycle = async (i: number) => {
    await ask(kernel, `go${i}`, 'one')
    await kernel.erase(`acme/bench/go${i}`)
  }
  // Until the caches of SQLite are as large as they get.
  const warmUp = Math.round(cycles * 1.5)
  await crowd('cycles before', warmUp, 8, cycle)
  const settle = async () => {
    await new Promise((resolve) => setTimeout(resolve, 300))
    collect()
    return held()
  }
  const before = await settle()
  const points: [number, number][] = []
  const pieces = 10
  for (let piece = 0; piece < pieces; piece++) {
    const from = warmUp + (piece * cycles) / pieces
    await crowd('cycles', Math.round(cycles / pieces), 8, (i) => cycle(from + i))
    points.push([(piece + 1) * (cycles / pieces), (await settle()).bytes])
  }
  const after = await settle()
  await kernel.close()
  const slope = slopeOf(points) / 1024
  const left = {
    descriptors: after.descriptors - before.descriptors,
    mappings: after.mappings - before.mappings,
    threads: after.threads - before.threads,
  }
  const clean = left.descriptors <= 2 && left.mappings <= 64 && left.threads <= 1
  return [
    {
      row: 17,
      name: `memory after ${cycles.toLocaleString('en')} create-run-destroy cycles`,
      unit: 'KB each',
      n: cycles,
      value: Number(slope.toFixed(3)),
      goal: 'slope 0 (<= 0.5)',
      met: slope <= 0.5 && clean,
      note: `resident memory by cycles, least squares, after ${warmUp} to warm up; left behind: ${left.descriptors} descriptors, ${left.mappings} mappings, ${left.threads} threads`,
    },
  ]
}

/** By least squares. */
function slopeOf(points: readonly (readonly [number, number])[]): number {
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  const over = points.reduce((sum, [a, b]) => sum + (a - x) * (b - y), 0)
  return over / points.reduce((sum, [a]) => sum + (a - x) ** 2, 0)
}
