/** Keeps what it is told in its home: each call is a list of things to do with SQL, and says what came of each. */

import { DatabaseSync } from 'node:sqlite'
import { Agent, sleep } from '@cardinal/sdk'
import { act } from '../sql/act.ts'
import type { Step } from '../sql/corpus.ts'

const db = new DatabaseSync('home.db')
const open = new Map<string, Iterator<unknown>>()

export default class Keeper extends Agent {
  static methods = {
    do: {},
    memory: {},
    pause: {},
    iterator: {},
    copies: {},
  }
  turns = 0

  do({ steps }: { steps: Step[] }) {
    this.turns++
    return steps.map((step) => act(db, step))
  }

  memory() {
    return this.turns
  }

  /** Does some, waits, does the rest. */
  async pause({ before, after }: { before: Step[]; after: Step[] }) {
    const first = before.map((step) => act(db, step))
    await sleep('1ms')
    return [...first, ...after.map((step) => act(db, step))]
  }

  /** An iterator that is open over an await. */
  async iterator() {
    const rows = db
      .prepare('with recursive n(i) as (select 1 union all select i + 1 from n limit 1000) select i from n')
      .iterate()
    open.set('it', rows)
    const seen: unknown[] = [rows.next().value]
    await sleep('1ms')
    try {
      for (;;) {
        const { value, done } = rows.next()
        if (done) break
        seen.push(value)
      }
      return seen.length
    } catch (error) {
      return { seen: seen.length, error: (error as Error).message }
    }
  }

  copies() {
    return this.turns
  }
}
