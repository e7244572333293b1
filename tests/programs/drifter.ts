/** An agent whose memory changes in every way that memory of a program can: for whoever suspends it anywhere. */
import { Agent, log, sleep, tool } from '@cardinal/sdk'

const outside = new Map<string, number[]>()

export default class Drifter extends Agent {
  static methods = Object.fromEntries(
    ['remember', 'forget', 'grow', 'act', 'wait', 'random', 'closures', 'throws', 'buffers'].map((name) => [
      name,
      { shared: true },
    ]),
  )
  seen: number[] = []
  kept = new Map<number, () => number>()
  bytes = new Uint8Array(16)

  remember(n: number) {
    this.seen.push(n)
    outside.set(`k${n % 7}`, [...(outside.get(`k${n % 7}`) ?? []), n])
    return [this.seen.length, outside.size]
  }
  forget(n: number) {
    this.seen.splice(0, n)
    outside.delete(`k${n % 7}`)
    return this.seen.reduce((a, b) => a + b, 0)
  }
  /** Memory itself grows. */
  grow(n: number) {
    this.bytes = new Uint8Array(this.bytes.length + n * 20_000).fill(n)
    return this.bytes.length
  }
  async act(n: number) {
    try {
      const value = await tool('test.echo', { n, of: this.seen.length })
      this.seen.push(n)
      return value
    } catch (error) {
      log(`refused ${(error as Error).name}`)
      return null
    }
  }
  async wait(n: number) {
    await sleep(`${n + 1}ms`)
    return this.remember(n)
  }
  random(n: number) {
    return [Math.random(), Date.now(), crypto.getRandomValues(new Uint8Array(n % 16)).join()]
  }
  closures(n: number) {
    let count = n
    this.kept.set(n % 5, () => ++count)
    return [...this.kept.values()].map((next) => next())
  }
  throws(n: number) {
    this.seen.push(n)
    throw new RangeError(`thrown ${n}`)
  }
  buffers(n: number) {
    this.bytes[n % this.bytes.length] = n
    return this.bytes.slice(0, 16).join()
  }
}
