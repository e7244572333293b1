/** An agent with a gigabyte of memory: what it takes to put it to sleep and to wake it, and what others notice. */
import fs from 'node:fs'
import path from 'node:path'
import { percentiles, type Row } from './measure.ts'
import { agentText, applyTo, ask, openNode } from './node.ts'

const MIB = 1000

export async function largeAgent(folder: string, scale: number): Promise<Row[]> {
  const mib = Math.max(16, Math.round(MIB * Math.min(1, scale * 4)))
  const kernel = await openNode(folder, { idleMs: 3_600_000 })
  const limits =
    'apiVersion: cardinal/v1\nkind: Limits\nmetadata: { tenant: acme, name: large }\nspec: { memory: 1GiB, fuel: 1000000000000 }\n'
  await applyTo(kernel, `${limits}---\n${agentText('acme', 'large', 'large.ts')}`, {
    'acme/large': 'large.ts',
  })
  const address = 'acme/large/one'
  const call = async (method: string, args: unknown = null) => {
    const done = await (await kernel.begin({ address, method, args })).reply
    if (!done.ok) throw new Error(done.error.message)
  }
  await call('fill', { mib })
  const beside: number[] = []
  let over = false
  const neighbour = (async () => {
    while (!over) {
      const at = performance.now()
      await ask(kernel, 'neighbour', 'nothing')
      beside.push(performance.now() - at)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  })()
  const suspending = performance.now()
  while (!(await kernel.suspend(address))) await new Promise((resolve) => setTimeout(resolve, 10))
  const suspended = performance.now() - suspending
  const waking = performance.now()
  await call('count')
  const woke = performance.now() - waking
  over = true
  await neighbour
  const memory = path.join(folder, 'memory')
  const files = fs.existsSync(memory) ? fs.readdirSync(memory, { recursive: true, encoding: 'utf8' }) : []
  const bytes = Math.max(0, ...files.map((name) => fs.statSync(path.join(memory, name)).size))
  await kernel.close()
  const others = percentiles(beside)
  const note = `${(bytes / 2 ** 20).toFixed(0)} MiB on disk; a neighbour's calls meanwhile p50 ${others.p50.toFixed(1)}, p99 ${others.p99.toFixed(0)}, at most ${Math.max(...beside).toFixed(0)} ms`
  const row = (name: string, value: number): Row => ({
    row: 8,
    name,
    unit: 'ms',
    n: 1,
    value: Math.round(value),
    goal: 'none',
    met: true,
    note,
  })
  return [
    row(`save and suspend an agent with ${mib} MiB of noise, durably`, suspended),
    row(`wake it, to a durable answer`, woke),
  ]
}
