/** The rows of density: what agents cost that live, that sleep, that wake, and that come and go. */
import { crowdedFolder } from './crowded-folder.ts'
import { largeAgent } from './large.ts'
import { comeAndGo, fullAgent, longHistory, manyLive } from './living.ts'
import type { Row } from './measure.ts'
import { neighbours } from './neighbours.ts'
import { firstEffect, firstReply, liveMemory } from './rows.ts'
import { allDue, workingSet } from './working-set.ts'

interface Measured {
  readonly row: number
  readonly run: (folder: string) => Promise<Row[]>
}

/** The crowded folder holds rows 3, 10, 11 and 14. */
export function densityRows(scale: number): readonly Measured[] {
  return [
    { row: 1, run: firstEffect },
    { row: 2, run: firstReply },
    { row: 8, run: liveMemory },
    { row: 8, run: fullAgent },
    { row: 8, run: (folder) => largeAgent(folder, scale) },
    { row: 12, run: longHistory },
    { row: 17, run: (folder) => comeAndGo(folder, scale) },
    { row: 9, run: (folder) => manyLive(folder, scale) },
    { row: 11, run: (folder) => crowdedFolder(folder, scale) },
    { row: 11, run: (folder) => workingSet(folder, scale) },
    { row: 11, run: (folder) => allDue(folder, scale) },
    // Its hogs spin until their fuel is spent: nothing is measured behind it.
    { row: 16, run: neighbours },
  ]
}
