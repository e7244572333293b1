/** A program that tries to reach its host through what hosts usually forget: hooks, thenables, getters. */
import { Agent, tool } from '@cardinal/sdk'

type Hooks = { prepareStackTrace?: (error: Error, frames: unknown[]) => unknown }

export default class Sly extends Agent {
  static methods = Object.fromEntries(
    [
      'good',
      'thrown',
      'errorHook',
      'loopingStack',
      'species',
      'thenable',
      'throwingThen',
      'jsonHook',
      'jsonGone',
      'flipping',
      'reach',
      'importing',
      'registering',
      'ask',
      'fields',
    ].map((name) => [name, {}]),
  )
  n = 0

  good() {
    return ++this.n
  }
  thrown() {
    throw new Error('plain')
  }
  errorHook() {
    const seen: unknown[] = []
    ;(Error as Hooks).prepareStackTrace = (_error, frames) => {
      seen.push(frames)
      return { frames, reach: globalThis }
    }
    throw new Error('hooked')
  }
  loopingStack() {
    this.n += 1000
    Promise.reject({
      get stack() {
        for (;;);
      },
    })
  }
  /** What every derived array is made by here is the program's own class, and nobody else's. */
  species() {
    const made: string[] = []
    class Thief extends Array<number> {
      constructor(...items: number[]) {
        super(...items)
        made.push('made')
      }
      static get [Symbol.species](): ArrayConstructor {
        return Thief as unknown as ArrayConstructor
      }
    }
    return { list: new Thief(1, 2, 3).map((x) => x * 2), made: made.length > 0 }
  }
  thenable() {
    // biome-ignore lint/suspicious/noThenProperty: a thenable is what this is about
    return { then: (resolve: (value: unknown) => void) => resolve(JSON.parse('{"then":"text","n":1}')) }
  }
  throwingThen() {
    return Object.defineProperty({}, 'then', {
      get() {
        throw new Error('then was read')
      },
    })
  }
  jsonHook() {
    Object.defineProperty(Object.prototype, 'toJSON', { value: () => 'replaced', configurable: true })
    return { n: 1 }
  }
  jsonGone() {
    this.n += 1000
    Object.defineProperty(Object.prototype, 'toJSON', { value: () => undefined, configurable: true })
    throw new Error('an error that turns to nothing')
  }
  /** Answers `first` when it is read first, and something else ever after. */
  async flipping({ first, later }: { first: string; later: string }) {
    let reads = 0
    const to = { get: () => (reads++ === 0 ? first : later), enumerable: true }
    return tool('test.pay', Object.defineProperty({}, 'to', to)).catch((e) => ({ refused: e.code }))
  }
  reach() {
    // biome-ignore lint/security/noGlobalEval: what it reaches is what this is about
    const indirect = eval
    const names = ['process', 'require', 'WebAssembly', 'SharedArrayBuffer', 'std', 'os', 'bjson', 'Deno']
    return {
      found: names.filter((name) => indirect(`typeof ${name}`) !== 'undefined'),
      sum: indirect('1 + 1'),
      made: new Function('return typeof process + typeof this.__cardinal_deliver')(),
    }
  }
  async importing({ name }: { name: string }) {
    return Object.keys(await import(name))
  }
  registering() {
    const sdk = (globalThis as Record<symbol, unknown>)[Symbol.for('cardinal.sdk')]
    ;(sdk as { register: (c: unknown) => void }).register(class extends Agent {})
  }
  async ask({ args }: { args: unknown }) {
    const got = (await tool('test.echo', args as Record<string, unknown>)) as Record<string, unknown>
    return { got, polluted: ({} as Record<string, unknown>).polluted ?? null, keys: Object.keys(got) }
  }
  fields(args: Record<string, unknown>) {
    return { polluted: ({} as Record<string, unknown>).polluted ?? null, args }
  }
}
