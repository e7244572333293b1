/** An agent with as much memory as it is allowed, all of it noise. */
import { Agent } from '@cardinal/sdk'

export default class Large extends Agent {
  static methods = { fill: {}, count: {} }
  kept: Uint8Array[] = []
  n = 0

  fill({ mib }: { mib: number }) {
    for (let i = 0; i < mib; i++) {
      const block = new Uint8Array(1 << 20)
      for (let at = 0; at < block.length; at += 65_536)
        crypto.getRandomValues(block.subarray(at, at + 65_536))
      this.kept.push(block)
    }
    return this.kept.length
  }
  count() {
    return ++this.n
  }
}
