/** What the rows measure: an empty call, ten steps, bytes through a call. */
import { Agent, tool } from '@cardinal/sdk'

export default class Bench extends Agent {
  static methods = { nothing: {}, one: {}, ten: {}, bytes: {} }
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
  bytes({ base64 }: { base64: string }) {
    return { length: base64.length, base64 }
  }
}
