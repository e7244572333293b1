/** What the rows measure: an empty call, ten steps, bytes through a call. */
import { Agent, sleep, tool } from '@cardinal/sdk'

export default class Bench extends Agent {
  static methods = { nothing: {}, one: {}, ten: {}, bytes: {}, nap: {}, history: {} }
  calls = 0

  nothing() {
    return ++this.calls
  }
  async one() {
    return tool('bench.step', {})
  }
  async ten() {
    for (let i = 0; i < 10; i++) await tool('bench.step', { i })
    return ++this.calls
  }
  async nap({ ms }: { ms: number }) {
    await sleep(`${ms}ms`)
    return ++this.calls
  }
  /** Writes so many entries: an effect and its receipt are turn and receipt, and another turn. */
  async history({ steps }: { steps: number }) {
    for (let i = 0; i < steps; i++) await tool('bench.step', { i })
    return ++this.calls
  }
  bytes({ base64 }: { base64: string }) {
    return { length: base64.length, base64 }
  }
}
