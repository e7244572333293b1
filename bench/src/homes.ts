/** Row 19: what SQL in a home costs, from inside a guest; and what homes of two sizes cost to use, save and wake. */
import fs from 'node:fs'
import path from 'node:path'
import { type Kernel, openKernel } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { each, type Figures, percentiles, privateBytes, type Row } from './measure.ts'

const program = path.join(import.meta.dirname, '..', 'programs', 'home.ts')
const BATCH = 1000
const SMALL = 1_000_000
const LARGE = 500_000_000
const FILL_A_CALL = 8_000_000

async function call(kernel: Kernel, key: string, method: string, args: unknown = null): Promise<unknown> {
  const { reply } = await kernel.invoke({ address: `acme/home/${key}`, method, args, tenant: 'acme' })
  const answer = await reply
  if (!answer.ok) throw new Error(answer.error.message)
  return answer.value
}

/** As `each`, where only a part of the work is measured: `work` says how long that took. */
async function part(n: number, warmUp: number, work: () => Promise<number>): Promise<Figures> {
  for (let i = 0; i < warmUp; i++) await work()
  const samples: number[] = []
  for (let i = 0; i < n; i++) samples.push(await work())
  return percentiles(samples)
}

/** The files of the homes in a data folder. */
function homes(data: string): string[] {
  const folder = path.join(data, 'homes')
  if (!fs.existsSync(folder)) return []
  return fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => path.join(folder, name))
    .filter((name) => /\.db(-wal)?$/.test(name))
}

function descriptors(): number {
  return fs.readdirSync('/proc/self/fd').length
}

async function speed(kernel: Kernel): Promise<Row[]> {
  const inserts = await each(300, 30, () => call(kernel, 'speed', 'insert', { count: BATCH }))
  const single = await each(1000, 100, () => call(kernel, 'single', 'insert', { count: 1 }))
  const reads = await each(300, 30, () => call(kernel, 'speed', 'read', { count: BATCH, of: 300_000 }))
  const perSecond = (ms: number) => Math.round((BATCH / ms) * 1000)
  const [written, read] = [perSecond(inserts.p50), perSecond(reads.p50)]
  const note = `calls of ${BATCH} statements, each call durable; the percentiles are of calls`
  const goal = '>= 30000'
  return [
    {
      row: 19,
      name: 'rows inserted, durably, from a guest',
      unit: '/s',
      ...inserts,
      value: written,
      goal,
      met: written >= 30_000,
      note,
    },
    {
      row: 19,
      name: 'point reads from a guest',
      unit: '/s',
      ...reads,
      value: read,
      goal,
      met: read >= 30_000,
      note,
    },
    {
      row: 19,
      name: 'a durable call that inserts one row',
      unit: 'ms',
      ...single,
      goal: 'none',
      met: true,
      note: 'in process',
    },
  ]
}

async function size(kernel: Kernel, name: string, bytes: number): Promise<Row[]> {
  const agent = `acme/home/${name}`
  for (let left = bytes; left > 0; left -= FILL_A_CALL) {
    await call(kernel, name, 'fill', { bytes: Math.min(left, FILL_A_CALL) })
    process.stderr.write(
      `\rfilling a home: ${Math.round((bytes - left) / 1e6)} of ${Math.round(bytes / 1e6)} MB  `,
    )
  }
  process.stderr.write('\n')
  const suspend = await part(50, 5, async () => {
    await call(kernel, name, 'insert', { count: 1 })
    const began = performance.now()
    if (!(await kernel.suspend(agent))) throw new Error('it does not sleep')
    return performance.now() - began
  })
  const wake = await part(50, 5, async () => {
    await kernel.suspend(agent)
    const began = performance.now()
    await call(kernel, name, 'insert', { count: 1 })
    return performance.now() - began
  })
  const shown = `a home of ${Math.round(bytes / 1e6)} MB`
  const note = 'one row more each time; beside it, the checkpoint of the time before may run'
  return [
    { row: 19, name: `save and suspend ${shown}`, unit: 'ms', ...suspend, goal: 'none', met: true, note },
    {
      row: 19,
      name: `wake ${shown}, to the durable answer of a call that writes`,
      unit: 'ms',
      ...wake,
      goal: 'none',
      met: true,
      note,
    },
  ]
}

/** What first use costs beyond a first call without a home, and what a home takes of the machine. */
async function footprint(kernel: Kernel, data: string): Promise<Row[]> {
  let n = 0
  const without = await each(300, 30, () => call(kernel, `none-${n++}`, 'none'))
  const before = { files: homes(data).length, descriptors: descriptors() }
  const first = await each(300, 30, () => call(kernel, `first-${n++}`, 'insert', { count: 1 }))
  const made = (homes(data).length - before.files) / 2
  const open = descriptors() - before.descriptors
  for (let i = n - 330; i < n; i++) await kernel.suspend(`acme/home/first-${i}`)
  const bytes = homes(data).map((file) => fs.statSync(file).size)
  const disk = Math.round(bytes.reduce((a, b) => a + b, 0) / (bytes.length / 2))
  const value = Number((first.p50 - without.p50).toFixed(3))
  return [
    {
      row: 19,
      name: 'first call that makes a home, beyond one that does not',
      unit: 'ms',
      ...first,
      value,
      goal: 'none',
      met: true,
      note: 'value: the difference at p50',
    },
    {
      row: 19,
      name: 'descriptors of an awake home',
      unit: '',
      n: made,
      value: Number((open / made).toFixed(2)),
      goal: '<= 2',
      met: open / made <= 2,
      note: '',
    },
    {
      row: 19,
      name: 'disk of a sleeping home with one row',
      unit: 'bytes',
      n: made,
      value: disk,
      goal: 'none',
      met: true,
      note: 'file and write-ahead log',
    },
  ]
}

const CROWD = 10_000
const AT_ONCE = 64

async function everybody(n: number, act: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < n) await act(next++)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

/** Ten thousand agents awake at once, each of which then stores something. */
async function crowd(kernel: Kernel): Promise<Row[]> {
  const key = (i: number) => `crowd-${i}`
  await everybody(CROWD, (i) => call(kernel, key(i), 'none'))
  const before = privateBytes()
  let most = 0
  await everybody(CROWD, async (i) => {
    await call(kernel, key(i), 'insert', { count: 1 })
    if (i % 100 === 0) most = Math.max(most, descriptors())
  })
  most = Math.max(most, descriptors())
  const grown = privateBytes() - before
  const { live } = kernel.stats()
  const again = await each(1000, 100, () =>
    call(kernel, key(Math.floor(Math.random() * CROWD)), 'insert', { count: 1 }),
  )
  const note = `${live} agents are awake`
  return [
    {
      row: 19,
      name: `descriptors of ${CROWD} agents with a home each`,
      unit: '',
      n: CROWD,
      value: most,
      goal: '< 20000',
      met: most < 20_000,
      note,
    },
    {
      row: 19,
      name: 'memory of an awake home, with what its program takes for its first statement',
      unit: 'KB',
      n: CROWD,
      value: Math.round(grown / CROWD / 1000),
      goal: 'none',
      met: true,
      note: 'growth of the process; a tenth of the homes may be closed for want of descriptors',
    },
    {
      row: 19,
      name: 'a durable call that inserts one row, by an agent drawn at random from all of them',
      unit: 'ms',
      ...again,
      goal: 'none',
      met: true,
      note: 'in process',
    },
  ]
}

async function withKernel(data: string, measure: (kernel: Kernel) => Promise<Row[]>): Promise<Row[]> {
  const kernel = await openKernel({ data, anchors: [], idleMs: 600_000 })
  try {
    const text = `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: home }\nspec:\n  program: ${program}\n  card:\n    limits: { homeBytes: 1GiB }\n    now: []\n`
    const manifests = parseManifests(text, 'bench.yaml', {
      isRange: () => true,
      defaultsOf: kernel.defaultsOf,
    })
    await kernel.apply(manifests, new Map([['acme/home', await bundleProgram(program)]]))
    return await measure(kernel)
  } finally {
    await kernel.close()
  }
}

export async function homeRows(folder: string): Promise<Row[]> {
  const [few, many] = ['few', 'many'].map((name) => path.join(folder, name)) as [string, string]
  return [
    ...(await withKernel(few, async (kernel) => [
      ...(await footprint(kernel, few)),
      ...(await speed(kernel)),
      ...(await size(kernel, 'small', SMALL)),
      ...(await size(kernel, 'large', LARGE)),
    ])),
    ...(await withKernel(many, crowd)),
  ]
}
