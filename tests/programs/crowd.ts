/** One of many: it counts, waits, holds on, spins and asks for more than it may. */
import { Agent, sleep, tool } from '@cardinal/sdk'

export default class Crowd extends Agent {
  static methods = Object.fromEntries(
    ['count', 'nap', 'hold', 'ask', 'spin', 'grow', 'effects', 'say', 'big', 'noise', 'sum'].map((name) => [
      name,
      { shared: name !== 'hold' },
    ]),
  )
  n = 0
  kept: Uint8Array[] = []

  count() {
    return ++this.n
  }
  async nap({ ms }: { ms: number }) {
    await sleep(`${ms}ms`)
    return ++this.n
  }
  async hold() {
    await tool('test.hold', {})
    return ++this.n
  }
  async ask() {
    return tool('test.echo', { n: ++this.n })
  }
  spin({ rounds }: { rounds: number }) {
    let x = 0
    for (let i = 0; i < rounds; i++) x = (x * 31 + i) % 1_000_003
    return x
  }
  grow({ mib }: { mib: number }) {
    for (let i = 0; i < mib; i++) this.kept.push(new Uint8Array(1 << 20).fill(1))
    return this.kept.length
  }
  /** Bytes that no compression makes smaller. */
  noise({ mib }: { mib: number }) {
    for (let i = 0; i < mib; i++) {
      const block = new Uint8Array(1 << 20)
      for (let at = 0; at < block.length; at += 65_536)
        crypto.getRandomValues(block.subarray(at, at + 65_536))
      this.kept.push(block)
    }
    return this.sum()
  }
  /** One byte of each page is enough to notice a page that is another. */
  sum() {
    let sum = 0
    for (const block of this.kept)
      for (let at = 7; at < block.length; at += 4096) sum = (sum * 31 + (block[at] as number)) % 1_000_003
    return [this.kept.length, sum]
  }
  async effects({ n }: { n: number }) {
    return (await Promise.all(Array.from({ length: n }, (_, i) => tool('test.echo', { i })))).length
  }
  say({ text }: { text: string }) {
    return text.length
  }
  big({ bytes }: { bytes: number }) {
    return 'x'.repeat(bytes)
  }
}
