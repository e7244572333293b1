/** Bringing derived state up to the log when a node starts. */
import type { Log, ScannedEntry } from '@cardinal/oplog'
import type { Derived } from './derived.ts'
import { KernelError } from './errors.ts'

/** Derived state counts only if the log has its last entry; then what came after it is applied, else everything anew. */
export function catchUp(
  derived: Derived,
  log: Log,
  scanned: readonly ScannedEntry[],
  lossAccepted: boolean,
): void {
  const { applied } = derived
  // From the end: it is likely to be there, and all that was scanned may be long.
  const at = applied ? scanned.findLastIndex((e) => e.pos === applied.pos) : -1
  const known = applied !== undefined && at >= 0 && (scanned[at] as ScannedEntry).hash.equals(applied.hash)
  if (applied && !known) {
    if (applied.pos >= log.end && !lossAccepted) {
      throw new KernelError(
        'Corrupt',
        'LogShort',
        `the log ends at position ${log.end}, before ${applied.pos} that derived state was made from: its end was lost; an operator may accept that by removing \`derived.db\``,
      )
    }
    derived.reset()
  }
  for (const entry of known ? scanned.slice(at + 1) : scanned) derived.push(entry)
  derived.apply()
  // An agent that woke at an older row would write beside its own newer entries.
  if ((derived.applied?.pos ?? 0) < (scanned.at(-1)?.pos ?? 0))
    throw new KernelError(
      'Unavailable',
      'DiskFull',
      'the disk is full: rows of the log’s end cannot be written',
    )
}
