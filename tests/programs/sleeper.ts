/**
 * One of a crowd that is put to sleep and woken all the time. What it says of itself in memory, in its home and in
 * the ledger of the test must be one and the same: those whose key begins with `h` keep rows, with `m` much memory.
 */
import { DatabaseSync } from 'node:sqlite'
import { Agent, tool } from '@cardinal/sdk'

const db = new DatabaseSync('rounds.db')
db.exec('create table rounds(round integer primary key)')
const note = db.prepare('insert into rounds values (?)')

const BLOCK = 1 << 20
/** So much that it is saved in a file of its own. */
const BLOCKS = 9

export default class Sleeper extends Agent {
  static methods = { work: {}, books: {} }
  rounds: number[] = []
  noise: Uint8Array[] = []
  /** What the noise adds up to. */
  mark = 0

  async work({ round }: { round: number }) {
    await tool('test.book', { who: this.key, round })
    this.rounds.push(round)
    if (this.key.startsWith('h')) note.run(round)
    if (this.key.startsWith('m')) this.draw(round)
    return this.rounds.length
  }

  private draw(round: number) {
    while (this.noise.length < BLOCKS) this.noise.push(noise())
    this.noise[round % BLOCKS] = noise()
    this.mark = this.added()
  }

  /** One byte of each page is enough to notice a page that is another. */
  private added() {
    let sum = 0
    for (const block of this.noise)
      for (let at = 7; at < block.length; at += 4096) sum = (sum * 31 + (block[at] as number)) % 1_000_003
    return sum
  }

  books() {
    const rows = this.key.startsWith('h') ? db.prepare('select round from rounds order by rowid').all() : null
    const stored = rows?.map((row) => (row as { round: number }).round) ?? this.rounds
    return { rounds: this.rounds, stored, whole: this.added() === this.mark }
  }
}

/** Bytes that no compression makes smaller. */
function noise(): Uint8Array {
  const block = new Uint8Array(BLOCK)
  for (let at = 0; at < BLOCK; at += 65_536) crypto.getRandomValues(block.subarray(at, at + 65_536))
  return block
}
