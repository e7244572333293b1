/**
 * Makes a folder full of sleeping agents, and ends as a power cut would have it: some of them in the middle of
 * what they did, some with timers that come due meanwhile.
 *
 *     node bench/src/populate.ts FOLDER '{"agents":1000000,"tails":10000,"timers":10000}'
 *
 * Kills itself when it is done.
 */
import { ask, crowd, openNode } from './node.ts'

export interface Population {
  readonly agents: number
  /** Of them, those that have turns which no snapshot holds. */
  readonly tails: number
  /** Of them, those that wait for a timer. */
  readonly timers: number
}

const WIDTH = 128
const TAIL_CALLS = 3
/** So long that none of them is over before the node is killed. */
export const NAP_MS = 60_000

async function populate(folder: string, { agents, tails, timers }: Population): Promise<void> {
  const asleep = await openNode(folder, { idleMs: 0 })
  const seconds = await crowd('agents made', agents, WIDTH, (i) => ask(asleep, `a${i}`, 'nothing'))
  process.stderr.write(`  ${agents} agents made in ${seconds.toFixed(0)} s\n`)
  while (asleep.stats().live > 0) await new Promise((resolve) => setTimeout(resolve, 20))
  await asleep.close()
  const awake = await openNode(folder, { idleMs: 3_600_000, maxLive: tails + timers + 1000 })
  const some = (i: number, of: number) => `a${Math.floor(((i + 0.5) * agents) / of)}`
  await crowd('tails', tails, WIDTH, async (i) => {
    for (let call = 0; call < TAIL_CALLS; call++) await ask(awake, some(i, tails), 'nothing')
  })
  await crowd('timers', timers, WIDTH, async (i) => {
    const address = `acme/bench/${some(i + 0.25, timers)}`
    const { id } = await awake.invoke({ address, method: 'nap', args: { ms: NAP_MS } })
    await awake.result(id)
  })
  // Whoever was told to sleep does, and rows of it are written.
  while (awake.busy()) await new Promise((resolve) => setTimeout(resolve, 20))
  await new Promise((resolve) => setTimeout(resolve, 200))
  process.kill(process.pid, 'SIGKILL')
}

if (import.meta.main) {
  const [folder = '', said = '{}'] = process.argv.slice(2)
  await populate(folder, JSON.parse(said) as Population)
}
