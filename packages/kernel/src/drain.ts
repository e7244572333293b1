/**
 * Saves everybody of whom turns would have to be repeated: a kernel with another engine or another SQLite repeats
 * none of them. Those that sleep are woken for it, some at a call, so that callers are served meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Pos } from '@cardinal/oplog'
import type { Agents } from './agents.ts'
import type { Context } from './context.ts'
import type { AgentRow } from './derived.ts'
import { KernelError } from './errors.ts'
import { parseAddress } from './ids.ts'

/** What came of a call. */
export interface Drained {
  /** Agents that were saved now. */
  readonly saved: number
  /** Agents that could not be, and why. */
  readonly left: readonly { readonly agent: string; readonly why: string }[]
  /** Where the next call begins; undefined: that was all. */
  readonly next: number | undefined
}

/** Rows that a call looks at. */
const A_CALL = 2000
const AT_ONCE = 8
const RETRY_MS = 250
/** How often an agent is tried for which there is no room, and how long one may take. */
const TRIES = 20
const PATIENCE_MS = 20_000

export async function drainSome(ctx: Context, agents: Agents, after: number): Promise<Drained> {
  await ctx.log.untilDurable((ctx.log.end - 1) as Pos)
  ctx.derived.apply()
  const rows = ctx.derived.agentsWithTails(after, after + A_CALL)
  const left: { agent: string; why: string }[] = []
  let saved = 0
  const todo = [...rows]
  const one = async () => {
    for (let row = todo.shift(); row; row = todo.shift()) {
      try {
        const done = await Promise.race([
          saveTail(agents, row),
          sleep(PATIENCE_MS, 'late' as const, { ref: false }),
        ])
        if (done === 'late')
          left.push({ agent: row.address, why: 'it is still at work, or waits for the disk' })
        else saved++
      } catch (error) {
        // One that cannot be saved keeps nobody behind it from being saved.
        if (error instanceof KernelError && error.class === 'Bug') throw error
        left.push({ agent: row.address, why: (error as Error).message })
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
  // Whoever is told that somebody is saved may cut the power.
  ctx.derived.saves.sync()
  const next = after + A_CALL
  return { saved, left, next: next < ctx.derived.countAgents() ? next : undefined }
}

/** What is saved in a home is not seen from here, so whoever has one is saved again. */
async function saveTail(agents: Agents, row: AgentRow): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      const agent = await agents.find(parseAddress(row.address), true)
      await agent?.checkpoint()
      return
    } catch (error) {
      if (!(error instanceof KernelError) || error.class !== 'Busy' || tries === TRIES) throw error
      await sleep(RETRY_MS)
    }
  }
}
