/** Row 11: agents in use that are more than may be awake, and very many whose timers come due at one moment. */
import { VirtualClock } from '@cardinal/kernel'
import { percentiles, type Row } from './measure.ts'
import { ask, crowd, openNode } from './node.ts'

const WIDTH = 16

/** Calls of a working set that is as large as the cap, and twice as large: at random, and one after the other. */
export async function workingSet(folder: string, scale: number): Promise<Row[]> {
  const agents = Math.max(64, Math.round(4000 * scale))
  const calls = agents * 3
  const made = await openNode(folder, { idleMs: 3_600_000 })
  await crowd('agents of a working set', agents, WIDTH, (i) => ask(made, `w${i}`, 'nothing'))
  await made.close()
  const rows: Row[] = []
  const orders = {
    random: () => Math.floor(Math.random() * agents),
    'in a circle': (i: number) => i % agents,
  }
  for (const [cap, what] of [
    [agents + WIDTH, 'as large as the cap'],
    [agents / 2, 'twice the cap'],
  ] as const)
    for (const [order, pick] of Object.entries(orders)) {
      const kernel = await openNode(folder, { idleMs: 3_600_000, maxLive: cap })
      await crowd('warm up', agents, WIDTH, (i) => ask(kernel, `w${i}`, 'nothing'))
      const taken: number[] = []
      const seconds = await crowd(`calls, ${what}, ${order}`, calls, WIDTH, async (i) => {
        const at = performance.now()
        await ask(kernel, `w${pick(i)}`, 'nothing')
        taken.push(performance.now() - at)
      })
      await kernel.close()
      rows.push({
        row: 11,
        name: `durable calls, ${WIDTH} at a time, of a working set ${what}, ${order}`,
        unit: 'ms',
        ...percentiles(taken),
        goal: 'none',
        met: true,
        note: `${Math.round(calls / seconds).toLocaleString('en')}/s; ${agents} agents, ${cap} awake at most`,
      })
    }
  return rows
}

/** All of them sleep, and are due at one moment of a clock that is set forward. */
export async function allDue(folder: string, scale: number): Promise<Row[]> {
  const timers = Math.max(100, Math.round(100_000 * scale))
  const clock = new VirtualClock(Date.now())
  const kernel = await openNode(folder, { clock, idleMs: 0 })
  await crowd('timers set', timers, 128, async (i) => {
    await kernel.invoke({ address: `acme/bench/due${i}`, method: 'nap', args: { ms: 3_600_000 } })
  })
  while (kernel.stats().live > 0) await new Promise((resolve) => setTimeout(resolve, 20))
  const began = performance.now()
  clock.moveTo(clock.nowMs() + 3_600_001)
  let over = false
  const drained = kernel.poll().then(() => {
    over = true
  })
  const beside: number[] = []
  let most = 0
  while (!over) {
    const at = performance.now()
    await ask(kernel, 'visitor', 'one')
    beside.push(performance.now() - at)
    most = Math.max(most, kernel.stats().live)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await drained
  while (kernel.overdue() > 0 || kernel.busy()) await new Promise((resolve) => setTimeout(resolve, 20))
  const seconds = (performance.now() - began) / 1000
  await kernel.close()
  const note = `${Math.round(timers / seconds).toLocaleString('en')}/s; ${most} awake at most`
  return [
    {
      row: 11,
      name: `${timers.toLocaleString('en')} timers of sleeping agents due at one moment: all have run`,
      unit: 's',
      n: timers,
      value: Number(seconds.toFixed(1)),
      goal: 'none',
      met: true,
      note,
    },
    {
      row: 11,
      name: 'a call with an effect meanwhile, of somebody else',
      unit: 'ms',
      ...percentiles(beside),
      goal: 'none',
      met: true,
      note,
    },
  ]
}
