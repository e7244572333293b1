/** Everything a program can do to the engine that it should not get away with. */
import { DatabaseSync } from 'node:sqlite'
import { Agent, log, sleep, tool } from '@cardinal/sdk'

const methods = [
  'loop',
  'allocate',
  'recurse',
  'flood',
  'throws',
  'garbage',
  'cyclic',
  'rejected',
  'poison',
  'substring',
  'sparse',
  'bigints',
  'nested',
  'regexp',
  'microtasks',
  'logFlood',
  'bigOutput',
  'handles',
  'promiseBomb',
  'constructorEscape',
  'proxies',
  'fillBytes',
  'fillSparse',
  'strings',
  'timers',
  'sql',
] as const

export default class Hostile extends Agent {
  static methods = Object.fromEntries(
    [...methods, 'count', 'globals', 'good', 'polluted'].map((name) => [name, {}]),
  )
  n = 0

  count() {
    return this.n
  }
  good() {
    return ++this.n
  }
  loop() {
    this.n += 1000
    for (;;);
  }
  allocate() {
    this.n += 1000
    const kept: Uint8Array[] = []
    for (;;) kept.push(new Uint8Array(1 << 20).fill(1))
  }
  recurse() {
    this.n += 1000
    const deep = (): number => deep() + 1
    return Promise.reject(deep())
  }
  async flood() {
    this.n += 1000
    const all: Promise<unknown>[] = []
    for (let i = 0; i < 5_000; i++) all.push(tool('test.echo', { i }))
    await Promise.all(all)
  }
  throws() {
    throw new TypeError('thrown on purpose')
  }
  garbage() {
    return { big: 10n, f: () => 1 }
  }
  cyclic() {
    const a: Record<string, unknown> = {}
    a.self = a
    return a
  }
  rejected() {
    this.n += 1000
    Promise.reject(new Error('nobody listens'))
    return 'answered'
  }
  /** Poisoned prototypes hurt the program, not the turn. */
  poison() {
    const evil = () => {
      throw new Error('poisoned')
    }
    Object.assign(Array.prototype, { push: evil, join: evil, map: evil, find: evil })
    Object.assign(Map.prototype, { get: evil, set: evil, delete: evil, forEach: evil })
    JSON.stringify = () => 'null'
    JSON.parse = () => null
    Object.defineProperty(Promise.prototype, 'then', { value: evil })
    Object.defineProperty(Object.prototype, 'inv', { get: () => 'inv_other', configurable: true })
    return 'poisoned'
  }
  substring() {
    this.n += 1000
    return 'a'.repeat(2_000_000).indexOf(`${'a'.repeat(1_000_000)}b`)
  }
  sparse() {
    this.n += 1000
    const a: number[] = []
    a[4_000_000_000] = 1
    a.length = 4_294_967_295
    return a.sort().indexOf(2)
  }
  bigints() {
    this.n += 1000
    let x = 3n
    for (;;) x = x * x
  }
  nested() {
    this.n += 1000
    let text = ''
    for (let i = 0; i < 200_000; i++) text += '['
    for (;;) {
      try {
        JSON.parse(text)
      } catch {
        text += '['
      }
    }
  }
  regexp() {
    this.n += 1000
    return /^(a+)+$/.test(`${'a'.repeat(40)}b`)
  }
  microtasks() {
    this.n += 1000
    const again = () => void Promise.resolve().then(again)
    again()
  }
  logFlood() {
    this.n += 1000
    for (let i = 0; i < 12_000; i++) log('line', i)
  }
  bigOutput() {
    this.n += 1000
    return 'x'.repeat(7 << 20)
  }
  handles() {
    this.n += 1000
    const all: (() => number)[] = []
    for (let i = 0; ; i++) all.push(() => i)
  }
  async promiseBomb(): Promise<unknown> {
    this.n += 1000
    return Promise.all([this.promiseBomb(), this.promiseBomb()])
  }
  constructorEscape() {
    const make = (async () => {}).constructor as unknown as (code: string) => () => Promise<unknown>
    return make(
      'return typeof process + typeof require + typeof __cardinal_deliver + typeof __cardinal_random',
    )()
  }
  proxies() {
    throw new Proxy(new Error('x'), {
      get() {
        throw new Error('getter')
      },
    })
  }
  fillBytes() {
    this.n += 1000
    const bytes = new Uint8Array(32 << 20)
    for (;;) bytes.fill(7)
  }
  /** Killed the whole process of a peer. */
  fillSparse() {
    this.n += 1000
    return new Array(2 ** 32 - 2).fill(1)
  }
  strings() {
    this.n += 1000
    let text = 'x'
    for (;;) text = `${text}${text}`.slice(0, 16 << 20).toUpperCase()
  }
  async timers() {
    this.n += 1000
    const all: Promise<void>[] = []
    for (let i = 0; i < 1_000_000; i++) all.push(sleep('1m'))
    await Promise.all(all)
  }
  sql() {
    this.n += 1000
    const endless =
      'with recursive n(i) as (select 1 union all select i + 1 from n) insert into t select i from n'
    const db = new DatabaseSync('x.db')
    db.exec('create table if not exists t(i)')
    db.exec(endless)
  }
  globals() {
    return [
      'process',
      'require',
      'SharedArrayBuffer',
      'Atomics',
      'WebAssembly',
      '__cardinal_deliver',
      '__cardinal_collect',
      '__cardinal_random',
    ].filter((name) => name in globalThis)
  }
  polluted(args: Record<string, unknown>) {
    return { own: Object.keys(args), inherited: ({} as Record<string, unknown>).polluted ?? null }
  }
}
