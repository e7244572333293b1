/** What a hostile guest does to its neighbours: one method each, all of them without end. */
import { DatabaseSync } from 'node:sqlite'
import { Agent, sleep, tool } from '@cardinal/sdk'

export default class Hog extends Agent {
  static methods = {
    bytecode: {},
    builtin: {},
    memory: {},
    recursion: {},
    promises: {},
    effects: {},
    strings: {},
    regexp: {},
    timers: {},
    sql: {},
    sparse: {},
  }

  bytecode() {
    for (;;);
  }
  builtin() {
    return 'a'.repeat(4_000_000).indexOf(`${'a'.repeat(2_000_000)}b`)
  }
  memory() {
    const kept: Uint8Array[] = []
    for (;;) kept.push(new Uint8Array(1 << 20).fill(1))
  }
  recursion() {
    for (;;) {
      try {
        const deep = (): number => deep() + 1
        deep()
      } catch {}
    }
  }
  async promises(): Promise<unknown> {
    return Promise.all([this.promises(), this.promises()])
  }
  async effects() {
    for (let i = 0; i < 20; i++)
      await Promise.all(Array.from({ length: 4000 }, (_, n) => tool('bench.step', { n })))
  }
  strings() {
    let text = 'x'
    for (;;) text = `${text}${text}`.slice(0, 64 << 20).toUpperCase()
  }
  regexp() {
    return /^(a+)+$/.test(`${'a'.repeat(64)}b`)
  }
  async timers() {
    const all: Promise<void>[] = []
    for (let i = 0; i < 1_000_000; i++) all.push(sleep('1m'))
    await Promise.all(all)
  }
  sql() {
    const db = new DatabaseSync('hog.db')
    return db
      .prepare('with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) c from n')
      .get()
  }
  /** Killed the whole process of a peer. */
  sparse() {
    return new Array(2 ** 32 - 2).fill(1)
  }
}
