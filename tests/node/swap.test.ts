/**
 * Memory of agents that the machine has pushed out to swap is theirs as before. Runs where there is swap and memory
 * may be bounded for one process: as root, with control groups.
 */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { type NodeProcess, startNode } from '../crash/processes.ts'
import { tempFolder } from '../support/kernel.ts'

const V1 = '/sys/fs/cgroup/memory'
const V2 = '/sys/fs/cgroup'
const isV1 = fs.existsSync(path.join(V1, 'memory.limit_in_bytes'))
const swapMissing = missing()

function missing(): string | undefined {
  const [, ...swaps] = fs.readFileSync('/proc/swaps', 'utf8').trimEnd().split('\n')
  if (swaps.length === 0) return 'no swap on this machine'
  try {
    fs.accessSync(isV1 ? V1 : V2, fs.constants.W_OK)
    return undefined
  } catch {
    return 'memory cannot be bounded for one process'
  }
}

/** A process whose memory can be bounded from here on: what it takes goes to swap beyond that. */
function grouped(pid: number): { bound(bytes: number): Promise<void>; remove(): void } {
  const group = path.join(isV1 ? V1 : V2, `cardinal-test-${pid}`)
  const limit = path.join(group, isV1 ? 'memory.limit_in_bytes' : 'memory.max')
  fs.mkdirSync(group)
  fs.writeFileSync(path.join(group, 'cgroup.procs'), String(pid))
  const bound = async (bytes: number, tries = 50): Promise<void> => {
    try {
      fs.writeFileSync(limit, String(bytes))
    } catch (error) {
      // The disk has not taken so much yet.
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || tries === 0) throw error
      await sleep(100)
      await bound(bytes, tries - 1)
    }
  }
  return { bound, remove: () => fs.rmdirSync(group) }
}

/** In kibibytes. */
function inSwap(pid: number): number {
  return Number(/^VmSwap:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

const names = [
  ...Array.from({ length: 150 }, (_, i) => `p${i}`),
  ...Array.from({ length: 40 }, (_, i) => `h${i}`),
  ...Array.from({ length: 10 }, (_, i) => `m${i}`),
]

async function round(node: NodeProcess, n: number): Promise<void> {
  const answers = await Promise.all(names.map((agent) => node.ask({ op: 'work', agent, round: n })))
  for (const answer of answers) expect(answer.reply).toEqual({ ok: true, value: n })
}

async function expectBooks(node: NodeProcess, rounds: readonly number[]): Promise<void> {
  for (const agent of names) {
    const { reply } = await node.ask({ op: 'books', agent })
    expect(reply, agent).toEqual({ ok: true, value: { rounds, stored: rounds, whole: true } })
    expect((await node.ask({ op: 'replay', agent })).error, agent).toBeUndefined()
  }
}

it.skipIf(swapMissing)(
  `memory that is in swap works on, is saved and comes back${swapMissing ? ` (not run: ${swapMissing})` : ''}`,
  { timeout: 300_000 },
  async () => {
    const folder = tempFolder()
    const config = {
      data: path.join(folder, 'data'),
      anchor: path.join(folder, 'anchor'),
      ledger: path.join(folder, 'ledger'),
      maxLive: 1000,
      idleMs: 600_000,
    }
    let node = startNode(config, {}, 'crowd-node.ts')
    const group = grouped(node.pid)
    expect(await node.ready).toBe(true)
    await round(node, 1)
    await group.bound(200 << 20)
    const swapped = inSwap(node.pid)
    await round(node, 2)
    await expectBooks(node, [1, 2])
    // Everybody is saved from there.
    await node.ask({ op: 'close' })
    await node.stop()
    group.remove()
    expect(swapped).toBeGreaterThan(50 << 10)
    node = startNode(config, {}, 'crowd-node.ts')
    expect(await node.ready).toBe(true)
    await expectBooks(node, [1, 2])
    await round(node, 3)
    await node.ask({ op: 'close' })
    await node.stop()
    fs.rmSync(folder, { recursive: true, force: true })
  },
)
