/**
 * The power-cut sweep: as the kill sweep, but what the node wrote and did not sync is lost at random.
 * Kill −9 alone never tests a sync, for the page cache survives it.
 */
import fs from 'node:fs'
import path from 'node:path'
import { tempFolder } from '../support/kernel.ts'
import { rng } from '../support/seed.ts'
import { askAll, askOdd, CRASH_POINTS, check } from './kill-sweep.ts'
import { cutPower, LIBRARY } from './power.ts'
import { payer, startBank, startNode } from './processes.ts'

export interface PowerOptions {
  readonly seed: number
  readonly cuts: number
  /** Leaves a sync out: the canary. */
  readonly skipSync?: 'batch' | 'folder'
  /** Cuts before a fresh folder is taken; 10 if left out. */
  readonly cutsARound?: number
  readonly onCut?: (done: number) => void
}

export interface PowerResult {
  readonly cuts: number
  readonly lostSectors: number
  readonly lostRenames: number
  readonly problems: readonly string[]
}

const AGENTS = 10
const PAYMENTS = 10
const DEFAULT_CUTS_A_ROUND = 10

export async function powerSweep(options: PowerOptions): Promise<PowerResult> {
  const random = rng(options.seed)
  const cutsARound = options.cutsARound ?? DEFAULT_CUTS_A_ROUND
  const problems: string[] = []
  let cuts = 0
  let lostSectors = 0
  let lostRenames = 0
  for (let round = 0; cuts < options.cuts && problems.length === 0; round++) {
    const folder = tempFolder()
    const bank = await startBank(folder)
    const data = path.join(folder, 'data')
    const journal = path.join(folder, 'journal')
    const env = { LD_PRELOAD: LIBRARY, POWERCUT_FOLDER: data, POWERCUT_JOURNAL: journal }
    const base = {
      data,
      anchor: path.join(data, 'anchor'),
      bankPort: bank.port,
      program: payer,
      keyed: true,
      mediated: (options.seed + round) % 2 === 0,
      idleMs: random() < 0.5 ? 0 : 50,
      ...((options.seed + round) % 3 === 0 && { maxLive: 4 }),
      ...(options.skipSync && { skipSync: options.skipSync }),
    }
    const names = Array.from({ length: AGENTS }, (_, i) => `a${i}`)
    const acked = new Map<string, string>()
    try {
      await bank.set({ afterMs: Math.floor(random() * 8) })
      for (let i = 0; i < cutsARound && cuts < options.cuts && problems.length === 0; i++) {
        const crash =
          random() < 0.7
            ? {
                crashAt: CRASH_POINTS[Math.floor(random() * CRASH_POINTS.length)],
                crashOn: 1 + Math.floor(random() * 15),
              }
            : {}
        const node = startNode({ ...base, ...crash }, env)
        if (await node.ready) {
          void askOdd(node)
          await askAll(node, names, PAYMENTS, acked)
        }
        const timer = setTimeout(() => node.kill(), 'crashAt' in crash ? 600 : Math.floor(random() * 300))
        await node.exited
        clearTimeout(timer)
        if (node.fatal()) problems.push(`cut ${i}: ${node.fatal()}`)
        const lost = cutPower(data, journal, random, random())
        lostSectors += lost.sectors
        lostRenames += lost.renames
        cuts++
        options.onCut?.(cuts)
      }
      if (problems.length === 0) problems.push(...(await check(base, names, PAYMENTS, acked, bank)).problems)
    } finally {
      await bank.stop()
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
  return { cuts, lostSectors, lostRenames, problems: problems.map((p) => `seed ${options.seed}: ${p}`) }
}
