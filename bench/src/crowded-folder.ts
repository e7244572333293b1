/** Rows 3, 10, 11, 14 and restart, on a folder with a million agents of which most sleep. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Kernel, openKernel, serveApi } from '@cardinal/kernel'
import { openAppender } from './appends.ts'
import { caller } from './http-call.ts'
import { each, type Figures, percentiles, type Row, wide } from './measure.ts'
import { ask } from './node.ts'
import { NAP_MS, type Population } from './populate.ts'
import { step } from './step.ts'

function bytesOf(file: string): number {
  const stat = fs.statSync(file, { throwIfNoEntry: false })
  if (!stat) return 0
  if (!stat.isDirectory()) return stat.blocks * 512
  return fs.readdirSync(file).reduce((sum, name) => sum + bytesOf(path.join(file, name)), 0)
}

async function make(folder: string, population: Population): Promise<void> {
  const script = path.join(import.meta.dirname, 'populate.ts')
  const child = spawn(process.execPath, [script, folder, JSON.stringify(population)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  if (signal !== 'SIGKILL') throw new Error(`the folder was not made: ${code ?? signal}`)
  // Until the last of its timers is due.
  await sleep(NAP_MS)
}

const open = (folder: string) =>
  openKernel({
    data: folder,
    anchors: [],
    tools: [step],
    onFatal: (error) => {
      process.stderr.write(`${error.stack}\n`)
      process.exit(70)
    },
  })

function row(of: number, name: string, goal: string, met: boolean, rest: Partial<Row>): Row {
  return { row: of, name, unit: 'ms', goal, met, note: '', ...rest }
}

const ms = (seconds: number) => Number(seconds.toFixed(1))

/** Restarts a node that was killed; what is due and what was under way is taken up beside the first calls. */
async function restart(
  folder: string,
  { agents, tails, timers }: Population,
): Promise<{ kernel: Kernel; rows: Row[] }> {
  const before = process.memoryUsage.rss()
  const began = performance.now()
  const kernel = await open(folder)
  const openedMs = performance.now() - began
  const due = kernel.overdue()
  if (due < 0.9 * timers) throw new Error(`${due} of ${timers} timers are due: what follows says nothing`)
  const bytes = process.memoryUsage.rss() - before
  const key = () => `a${Math.floor(Math.random() * agents)}`
  await ask(kernel, key(), 'nothing')
  const answeredMs = performance.now() - began
  const during: number[] = []
  // While others are due, whoever calls is answered.
  while (kernel.overdue() > 0) {
    const at = performance.now()
    await ask(kernel, key(), 'nothing')
    during.push(performance.now() - at)
  }
  const drainedMs = performance.now() - began
  const some = `${agents.toLocaleString('en')} agents, ${tails.toLocaleString('en')} with tails`
  const note = `${some}, ${timers.toLocaleString('en')} due; ${(bytes / 2 ** 20).toFixed(0)} MiB more of resident memory`
  const figures: Figures | undefined = during.length > 0 ? percentiles(during) : undefined
  return {
    kernel,
    rows: [
      row(11, 'restart after a kill, until the node is open', 'none', true, {
        n: 1,
        value: ms(openedMs),
        note,
      }),
      row(11, 'until its first answer', 'none', true, { n: 1, value: ms(answeredMs) }),
      row(11, `until ${timers.toLocaleString('en')} that were due have run`, 'none', true, {
        n: 1,
        value: ms(drainedMs),
      }),
      ...(figures ? [row(11, 'a call of a random agent meanwhile', 'none', true, { ...figures })] : []),
    ],
  }
}

async function appends(folder: string, agents: number): Promise<Row[]> {
  // Beside the node's own log, on the same disk: what is appended here is nobody's.
  const { append, close } = openAppender(path.join(folder, 'appends'), agents)
  const one = await each(3000, 300, append)
  const many = await wide(100_000, 64, append)
  await close()
  const some = `agents drawn from ${agents.toLocaleString('en')}`
  return [
    row(14, `durable appends, one at a time, ${some}`, 'p50 <= 0.2', one.p50 <= 0.2, { ...one }),
    row(
      14,
      `durable appends, 64 at a time, ${some}`,
      '>= 100000, p99 <= 3',
      many.perSecond >= 1e5 && many.p99 <= 3,
      {
        ...many,
        unit: '/s',
        value: Math.round(many.perSecond),
        note: 'latency in ms',
      },
    ),
  ]
}

export async function crowdedFolder(root: string, scale: number): Promise<Row[]> {
  const few = (n: number) => Math.max(1, Math.round(n * scale))
  const population = { agents: few(1_000_000), tails: few(10_000), timers: few(10_000) }
  const { agents } = population
  const folder = path.join(root, 'crowded')
  await make(folder, population)
  const disk = Object.fromEntries(
    ['derived.db', 'derived.db-wal', 'saves.db', 'saves.db-wal', 'log', 'keys'].map((name) => [
      name,
      bytesOf(path.join(folder, name)),
    ]),
  )
  const spare = bytesOf(path.join(folder, 'log', 'spare'))
  const all = Object.values(disk).reduce((a, b) => a + b) - spare
  const { kernel, rows } = await restart(folder, population)
  const random = () => `a${Math.floor(Math.random() * agents)}`
  const calls = Math.min(5000, agents)
  const wake = await each(calls, Math.min(200, agents), () => ask(kernel, random(), 'nothing'))
  const api = await serveApi({ kernel, port: 0 })
  const http = caller(api.url, api.token)
  const warm = random()
  const same = await each(2000, 200, () => http.call(`/v1/agents/acme/bench/${warm}/invoke/nothing`))
  const others = await each(calls, 200, () => http.call(`/v1/agents/acme/bench/${random()}/invoke/nothing`))
  http.close()
  await api.close()
  await kernel.close()
  const bytes = all / agents
  return [
    row(10, 'disk of a suspended agent that was called once', '<= 6144', bytes <= 6144, {
      unit: 'bytes',
      n: agents,
      value: Math.round(bytes),
      note: Object.entries(disk)
        .map(([name, size]) => `${name} ${Math.round(size / agents)}`)
        .join(', '),
    }),
    ...rows,
    row(
      11,
      `any of ${agents.toLocaleString('en')} sleeping agents answers, in process`,
      'p50 <= 1, p99 <= 8',
      wake.p50 <= 1 && wake.p99 <= 8,
      {
        ...wake,
        note: 'from asleep to the durable answer of a call that changes it',
      },
    ),
    row(
      3,
      'warm durable invocation over HTTP, on that folder',
      'p50 <= 0.8, p99 <= 3',
      same.p50 <= 0.8 && same.p99 <= 3,
      {
        ...same,
      },
    ),
    row(3, 'the same of random agents, most of them asleep', 'none', true, { ...others }),
    ...(await appends(folder, agents)),
  ]
}
