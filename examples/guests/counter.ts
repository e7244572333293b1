/** An agent that counts, asks a tool and waits. `c/counter.c` and `go/counter.go` are the same agent. */
import { Agent, log, sleep, tool } from '@cardinal/sdk'

export default class Counter extends Agent {
  static methods = {
    add: { about: 'adds n to the count' },
    total: { shared: true },
    price: { about: 'what rates.get says of a currency' },
    nap: { about: 'waits for so many milliseconds' },
  }
  count = 0

  add({ n }: { n: number }) {
    this.count += n
    log(`counted to ${this.count}`)
    return this.count
  }
  total() {
    return this.count
  }
  async price({ currency }: { currency: string }) {
    return { count: this.count, rate: await tool('rates.get', { currency }) }
  }
  async nap({ ms }: { ms: number }) {
    await sleep(`${ms}ms`)
    return this.count
  }
}
