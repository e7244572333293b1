/** Row 16: what one tenant's calls take while four others do the worst they can. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Kernel } from '@cardinal/kernel'
import { percentiles, type Row } from './measure.ts'
import { agentText, applyTo, ask, openNode } from './node.ts'

const HOSTILE = ['north', 'south', 'east', 'west']
const KINDS = [
  'bytecode',
  'builtin',
  'memory',
  'recursion',
  'promises',
  'effects',
  'strings',
  'regexp',
  'timers',
  'sql',
  'sparse',
] as const
const SAMPLES = 1000
/** Until every kind of hog is under way. */
const SETTLE_MS = 3000

async function samples(kernel: Kernel, count: number): Promise<number[]> {
  const taken: number[] = []
  for (let i = 0; i < count; i++) {
    const at = performance.now()
    await ask(kernel, 'victim', 'one')
    taken.push(performance.now() - at)
    // As somebody who comes by, not as one who never lets go.
    await sleep(5)
  }
  return taken
}

/** Keeps one hostile agent of each kind at work for each tenant, until it is told to stop. */
function torment(
  kernel: Kernel,
  stopped: () => boolean,
): { readonly ended: () => ReadonlyMap<string, number> } {
  const ended = new Map<string, number>()
  const keepOn = async (address: string, method: string) => {
    while (!stopped()) {
      const done = await kernel.begin({ address, method, args: null }).then(
        ({ reply }) => reply,
        (error: { code?: string }) => ({ ok: false as const, error: { code: String(error.code) } }),
      )
      const how = done.ok ? 'answered' : done.error.code
      ended.set(how, (ended.get(how) ?? 0) + 1)
      if (!done.ok && done.error.code === 'Busy') await sleep(50)
    }
  }
  for (const tenant of HOSTILE)
    for (const kind of KINDS) void keepOn(`${tenant}/hog/${kind}`, kind).catch(() => {})
  return { ended: () => ended }
}

export async function neighbours(folder: string): Promise<Row[]> {
  const kernel = await openNode(folder, { onTurn: () => {} })
  const text = HOSTILE.map((tenant) => agentText(tenant, 'hog', 'hog.ts')).join('---\n')
  await applyTo(kernel, text, Object.fromEntries(HOSTILE.map((tenant) => [`${tenant}/hog`, 'hog.ts'])))
  await samples(kernel, 200)
  const idle = percentiles(await samples(kernel, SAMPLES))
  let over = false
  const hogs = torment(kernel, () => over)
  await sleep(SETTLE_MS)
  const beside = percentiles(await samples(kernel, SAMPLES))
  over = true
  const ended = [...hogs.ended()].map(([how, times]) => `${how} ${times}`).join(', ')
  // Turns without end go on until their fuel is spent: the process ends before that.
  void kernel.close()
  const value = Number((beside.p95 / idle.p95).toFixed(2))
  return [
    {
      row: 16,
      name: `p95 of a durable call with an effect while four tenants run ${KINDS.length} hostile agents each, by idle`,
      unit: '×',
      ...beside,
      value,
      goal: '<= 2',
      met: value <= 2,
      note: `idle p50 ${idle.p50.toFixed(2)}, p95 ${idle.p95.toFixed(2)}, p99 ${idle.p99.toFixed(2)} ms; hostile calls ended: ${ended || 'none yet'}`,
    },
  ]
}
