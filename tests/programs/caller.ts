/** What a model would write around `fetch`, timeouts and schemas. */
import { Agent, event, sleep, tool } from '@cardinal/sdk'
import { z } from 'zod'

class Money {
  static readonly zero = new Money()
  kind = this.constructor.name
}
class NotFound extends Error {
  override name = this.constructor.name
}

const anyone = { type: 'object', properties: { s: { type: 'string', pattern: '^(a+)+$' } } }

export default class Caller extends Agent {
  static methods = {
    timed: {},
    expiring: {},
    next: {},
    slowPattern: { in: anyone },
    wrongResult: { out: { type: 'number' } },
    request: {},
    read: {},
    aborted: {},
    logs: {},
    count: { shared: true },
    later: {},
    views: {},
    peek: {},
    sentNull: { out: { type: 'null' } },
    sentDate: {
      out: { type: 'object', properties: { at: { type: 'string' } }, additionalProperties: false },
    },
    strictPost: {},
    payer: { shared: true },
    opener: { shared: true },
    crit: {},
    crit2: {},
    caused: {},
    named: {},
    environment: {},
    unshowable: {},
    cut: { out: z.object({ id: z.string() }) },
    abortedPost: {},
  }

  async timed({ ms }: { ms: number }) {
    try {
      return await tool('test.wait', {}, { timeout: `${ms}ms` })
    } catch (e) {
      const { name, code } = e as { name: string; code: string }
      return { name, code }
    }
  }
  async expiring({ expires }: { expires: `${number}ms` }) {
    try {
      return { got: await event('go', { expires }) }
    } catch (e) {
      const { name, code } = e as { name: string; code: string }
      return { name, code }
    }
  }
  async next() {
    return { got: await event('go') }
  }
  /** Awaits a turn after it was rejected, as a program that starts two things and awaits them in turn. */
  async later() {
    const late = tool('test.wait', {}, { timeout: '20ms' })
    void tool('test.wait', {}, { timeout: '20ms' })
    await sleep('120ms')
    try {
      return await late
    } catch (e) {
      return (e as { code: string }).code
    }
  }
  async views({ url }: { url: string }) {
    const bytes = new Uint8Array([9, 1, 2, 3, 4, 9])
    const bodies = [new Uint16Array([0x1234, 0x5678]), new DataView(bytes.buffer, 1, 4)]
    for (const body of bodies) await fetch(url, { method: 'POST', body })
    return null
  }
  async peek({ url }: { url: string }) {
    const r = await fetch(url)
    return { there: r.body !== null, text: await r.text() }
  }
  sentNull() {}
  sentDate() {
    return { at: new Date(0), none: undefined }
  }
  async strictPost({ url, redirect }: { url: string; redirect: 'error' | 'follow' }) {
    try {
      return (await fetch(url, { method: 'POST', body: 'x', redirect })).status
    } catch (e) {
      const { name, code } = e as { name: string; code: string }
      return { name, code }
    }
  }
  async abortedPost({ url }: { url: string }) {
    const controller = new AbortController()
    const going = fetch(url, { method: 'POST', body: new Uint8Array([1, 2, 3]), signal: controller.signal })
    controller.abort()
    return going.then(
      (r) => r.status,
      (e) => e.name,
    )
  }
  gate = Promise.withResolvers<void>()
  inside = 0
  trace: string[] = []

  /** Waits for what another invocation opens; what it does afterwards is its own all the same. */
  async payer() {
    await this.gate.promise
    return tool('test.wait', { who: 'payer' })
  }
  async opener() {
    this.gate.resolve()
    return tool('test.wait', { who: 'opener' })
  }
  async crit() {
    this.trace.push(`crit in ${++this.inside}`)
    try {
      await event('never')
    } finally {
      await sleep('60ms')
      this.trace.push(`crit out ${--this.inside}`)
    }
  }
  async crit2() {
    this.trace.push(`crit2 in ${++this.inside}`)
    this.inside--
    return this.trace
  }
  async caused() {
    try {
      await tool('no.such', {})
    } catch (cause) {
      throw new Error('payment failed', { cause })
    }
  }
  named() {
    return { name: new Money().kind, error: new NotFound('x').name, thrown: (() => NotFound.name)() }
  }
  environment() {
    return process.env.NODE_ENV
  }
  unshowable() {
    console.log(
      new Proxy(
        {},
        {
          get() {
            throw new Error('trap')
          },
        },
      ),
    )
    throw { code: 'E', detail: 'an object' }
  }
  cut() {
    return { id: 'x', password: 'hunter2' }
  }
  slowPattern() {
    return 'fits'
  }
  wrongResult({ give }: { give: unknown }) {
    return give
  }
  async request({ url }: { url: string }) {
    const request = new Request(url, { method: 'POST', body: 'from a request' })
    const bytes = new Request(url, { method: 'POST', body: new Uint8Array([0xff, 0, 1]) })
    const stream = new ReadableStream({
      start(c) {
        c.enqueue(new TextEncoder().encode('in '))
        c.enqueue(new TextEncoder().encode('pieces'))
        c.close()
      },
    })
    const answers = [
      await fetch(request),
      await fetch(bytes),
      await fetch(url, { method: 'POST', body: stream }),
    ]
    return answers.map((r) => r.status)
  }
  async read({ url, redirect }: { url: string; redirect?: 'follow' | 'manual' | 'error' }) {
    try {
      const r = await fetch(url, redirect ? { redirect } : {})
      const copy = r.clone()
      const streamed = r.clone().body
      let size = 0
      if (streamed)
        for await (const chunk of streamed as unknown as AsyncIterable<Uint8Array>) size += chunk.length
      const { byteLength } = await copy.arrayBuffer()
      return { status: r.status, ok: r.ok, redirected: r.redirected, text: await r.text(), byteLength, size }
    } catch (e) {
      const { name, code, effect } = e as { name: string; code: string; effect: string }
      return { name, code, effect }
    }
  }
  async aborted({ url }: { url: string }) {
    const names: string[] = []
    const before = new AbortController()
    before.abort()
    const request = new Request(url, { signal: before.signal })
    await fetch(request).catch((e) => names.push(e.name))
    const during = new AbortController()
    const going = fetch(url, { signal: during.signal })
    during.abort()
    await going.catch((e) => names.push(e.name))
    await fetch(url, { signal: AbortSignal.timeout(20) }).catch((e) => names.push(e.name))
    return names
  }
  logs() {
    const circular: Record<string, unknown> = { n: 1n }
    circular.self = circular
    console.log('%s has %d', 'x', 3, circular, {
      map: new Map([['k', new Set([1])]]),
      error: new TypeError('inner'),
    })
    console.log('one\n2026-01-01T00:00:00.000Z info  two')
    console.error(new Error('logged'))
    return null
  }
  count() {
    return 1
  }
}
