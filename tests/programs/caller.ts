/** What a model would write around `fetch`, timeouts and schemas. */
import { Agent, event, tool } from '@cardinal/sdk'

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
