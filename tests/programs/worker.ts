/** An agent that acts and remembers: what most tests need. */
import { Agent, event, log, type Refused, sleep, tool } from '@cardinal/sdk'

export default class Worker extends Agent {
  static methods = {
    echo: {},
    steps: {},
    together: {},
    nap: {},
    waitFor: {},
    pay: {},
    ask: {},
    status: { shared: true },
    random: {},
    get: {},
    strict: {
      in: {
        type: 'object',
        properties: { n: { type: 'integer' } },
        required: ['n'],
        additionalProperties: false,
      },
    },
    hold: {},
    slow: {},
    caught: {},
  }
  turns = 0
  seen: unknown[] = []

  async echo(value: unknown) {
    this.turns++
    this.seen.push(await tool('test.echo', { value }))
    if (this.seen.length > 20) this.seen.shift()
    return this.turns
  }
  async steps({ n }: { n: number }) {
    let sum = 0
    for (let i = 0; i < n; i++) sum += (await tool('test.echo', { value: i })).value
    return sum
  }
  async together({ n }: { n: number }) {
    const all = await Promise.all(
      Array.from({ length: n }, (_, i) =>
        tool('test.pay', { to: `p${i}` }).catch((e) => ({ error: e.code })),
      ),
    )
    return all
  }
  async pay(args: { to: string }) {
    return tool('test.pay', args)
  }
  async nap({ ms }: { ms: number }) {
    const began = Date.now()
    await sleep(`${ms}ms`)
    return Date.now() - began
  }
  async waitFor({ name, expires }: { name: string; expires?: `${number}s` }) {
    return event(name, expires ? { expires } : {})
  }
  async ask({ tool: name, args }: { tool: string; args: unknown }) {
    try {
      return { value: await tool(name, args) }
    } catch (e) {
      const error = e as Refused
      return {
        name: error.name,
        code: error.code,
        by: error.by,
        missing: error.missing,
        effect: error.effect,
      }
    }
  }
  status() {
    return { turns: this.turns, seen: this.seen.length, address: this.self.address, key: this.key }
  }
  random() {
    return [Math.random(), Math.random(), crypto.randomUUID(), Date.now()]
  }
  async get(asked: { url: string; method?: string; body?: string; headers?: Record<string, string> }) {
    const { url, method, body, headers } = asked
    try {
      const r = await fetch(url, {
        ...(method && { method }),
        ...(headers && { headers }),
        ...(body !== undefined && { body }),
      })
      return { status: r.status, text: await r.text() }
    } catch (e) {
      const error = e as Refused
      return {
        name: error.name,
        code: error.code,
        by: error.by,
        missing: error.missing,
        message: error.message,
      }
    }
  }
  strict({ n }: { n: number }) {
    return n
  }
  async hold() {
    await event('never')
  }
  async slow({ ms }: { ms: number }) {
    await sleep(`${ms}ms`)
    log('slept')
    return 'done'
  }
  async caught() {
    try {
      await event('never')
    } catch (e) {
      this.seen.push(String(e))
      throw e
    }
  }
}
