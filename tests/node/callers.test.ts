/** Timeouts, schemas and `fetch` as programs use them; each was got wrong once. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  applyPrograms,
  applyZone,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'

describe('a program', () => {
  let t: TestKernel
  let server: http.Server
  let url: string
  const seen: { body: Buffer; type: string | undefined }[] = []
  let sent = 0
  let waitMs = 0
  const wait = functionTool('test.wait', 'once', async () => {
    sent++
    await new Promise((resolve) => setTimeout(resolve, waitMs))
    return { sent }
  })

  beforeAll(async () => {
    server = http.createServer(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      if (request.method === 'POST')
        seen.push({ body: Buffer.concat(chunks), type: request.headers['content-type'] })
      if (request.url === '/ansi') return response.end('é\u001b[0mü €')
      if (request.url === '/slow') return setTimeout(() => response.end('late'), 500)
      if (request.url === '/odd') return response.writeHead(799).end('odd')
      if (request.url === '/to') return response.writeHead(302, { location: '/ansi' }).end()
      if (request.url === '/moved') return response.writeHead(303, { location: '/ansi' }).end()
      if (request.url === '/out') return response.writeHead(302, { location: '/forbidden' }).end()
      return response.end('hello')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    url = `http://127.0.0.1:${port}`
    t = await openTestKernel([], { tools: [wait], limits: { fuel: 1_000_000_000, memory: 64 << 20 } })
    const at = `tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [${port}]`
    const reads = ['ansi', 'slow', 'odd', 'to', 'out', 'hello'].map((name) => `{ ${at}, path: /${name} }`)
    const post = `{ ${at}, path: /post, method: [POST], args: { body: "*" } }`
    const moved = `{ ${at}, path: /moved, method: [POST], args: { body: "*" } }`
    await applyPrograms(t.kernel, [
      {
        name: 'caller',
        file: programFile('caller.ts'),
        now: ['{ tool: test.wait, args: { who: { len: 9, optional: true } } }', ...reads, post, moved],
      },
    ])
    await applyZone(t.kernel, '127.0.0.1', '127.0.0.1/32')
  })
  afterAll(async () => {
    await t.close()
    server.close()
  })

  it('gets what a tool answers within its timeout, and is told once when it does not', async () => {
    waitMs = 0
    expect(await t.call('caller/t', 'timed', { ms: 5000 })).toEqual({ ok: true, value: { sent: 1 } })
    waitMs = 300
    expect(await t.call('caller/t', 'timed', { ms: 40 })).toEqual({
      ok: true,
      value: { name: 'Indeterminate', code: 'TimedOut' },
    })
    expect(sent).toBe(2)
  })

  it('gets an event within its time, and one that comes later goes to whoever waits then', async () => {
    const first = await t.kernel.invoke({
      address: 'acme/caller/e',
      method: 'expiring',
      args: { expires: '60000ms' },
    })
    await t.kernel.emit('acme/caller/e', 'go', 1)
    expect(await first.reply).toEqual({ ok: true, value: { got: 1 } })
    expect(await t.call('caller/e', 'expiring', { expires: '20ms' })).toEqual({
      ok: true,
      value: { name: 'Unavailable', code: 'TimedOut' },
    })
    const second = await t.kernel.invoke({ address: 'acme/caller/e', method: 'next' })
    await t.kernel.emit('acme/caller/e', 'go', 2)
    expect(await second.reply).toEqual({ ok: true, value: { got: 2 } })
  })

  it('spends its own fuel on its own schema, and its neighbours answer meanwhile', async () => {
    const slow = t.call('caller/slow', 'slowPattern', { s: `${'a'.repeat(40)}b` })
    const began = Date.now()
    expect(await t.call('caller/neighbour', 'count')).toMatchObject({ ok: true })
    expect(Date.now() - began).toBeLessThan(2000)
    expect(await slow).toMatchObject({ ok: false, error: { code: 'OutOfFuel' } })
    expect(await t.call('caller/slow', 'slowPattern', { s: 'aaa' })).toEqual({ ok: true, value: 'fits' })
  })

  it('has its results checked like its arguments', async () => {
    expect(await t.call('caller/r', 'wrongResult', { give: 's' })).toMatchObject({
      ok: false,
      error: { class: 'Thrown', code: 'BadResult' },
    })
    expect(await t.call('caller/r', 'wrongResult', { give: 1 })).toEqual({ ok: true, value: 1 })
  })

  it('sends what a Request, bytes and a stream hold', async () => {
    expect(await t.call('caller/q', 'request', { url: `${url}/post` })).toEqual({
      ok: true,
      value: [200, 200, 200],
    })
    expect(seen.map((s) => s.body.toString('latin1'))).toEqual(['from a request', '\xff\0\x01', 'in pieces'])
  })

  it('reads text as UTF-8, and every body as text, bytes and stream', async () => {
    const text = 'é\u001b[0mü €'
    const byteLength = Buffer.byteLength(text)
    expect(await t.call('caller/x', 'read', { url: `${url}/ansi` })).toEqual({
      ok: true,
      value: { status: 200, ok: true, redirected: false, text, byteLength, size: byteLength },
    })
    expect(await t.call('caller/x', 'read', { url: `${url}/odd` })).toMatchObject({
      ok: true,
      value: { status: 799, ok: false, text: 'odd' },
    })
  })

  it('says itself whether a redirect is followed, shown or an error', async () => {
    const read = (redirect?: string) =>
      t.call('caller/y', 'read', { url: `${url}/to`, ...(redirect && { redirect }) })
    expect(await read()).toMatchObject({ ok: true, value: { status: 200, redirected: true } })
    expect(await read('manual')).toMatchObject({ ok: true, value: { status: 302, redirected: false } })
    expect(await read('error')).toMatchObject({
      ok: true,
      value: { name: 'Unavailable', code: 'Redirected' },
    })
  })

  it('may await a timeout late, or never', async () => {
    waitMs = 200
    expect(await t.call('caller/late', 'later')).toEqual({ ok: true, value: 'TimedOut' })
    waitMs = 0
  })

  it('sends the bytes of any view, and nothing of what it gave up before it was read', async () => {
    const before = seen.length
    expect(await t.call('caller/v', 'views', { url: `${url}/post` })).toMatchObject({ ok: true })
    expect(seen.slice(before).map((s) => s.body.toString('hex'))).toEqual(['34127856', '01020304'])
    expect(await t.call('caller/v', 'abortedPost', { url: `${url}/post` })).toEqual({
      ok: true,
      value: 'AbortError',
    })
    expect(seen.length).toBe(before + 2)
  })

  it('may look whether there is a body before it reads it', async () => {
    expect(await t.call('caller/p', 'peek', { url: `${url}/hello` })).toEqual({
      ok: true,
      value: { there: true, text: 'hello' },
    })
  })

  it('has its result checked as it is sent, not as it stands in memory', async () => {
    expect(await t.call('caller/r', 'sentNull')).toEqual({ ok: true, value: null })
    expect(await t.call('caller/r', 'sentDate')).toEqual({
      ok: true,
      value: { at: '1970-01-01T00:00:00.000Z' },
    })
  })

  it('is told of a redirect of what was sent once, if it wants none', async () => {
    const post = (redirect: string) => t.call('caller/s', 'strictPost', { url: `${url}/moved`, redirect })
    expect(await post('follow')).toEqual({ ok: true, value: 303 })
    expect(await post('error')).toEqual({ ok: true, value: { name: 'Withheld', code: 'Redirected' } })
  })

  it('is told of an abort by the names that every program looks for', async () => {
    expect(await t.call('caller/a', 'aborted', { url: `${url}/slow` })).toEqual({
      ok: true,
      value: ['AbortError', 'AbortError', 'TimeoutError'],
    })
  })

  it('can have a refusal on the way explained, with where it led', async () => {
    const refused = await t.call('caller/w', 'read', { url: `${url}/out` })
    expect(refused).toMatchObject({ ok: true, value: { name: 'Refused', code: 'NoGrant' } })
    const { effect } = (refused as { value: { effect: string } }).value
    const why = await t.kernel.view.why('last')
    expect(why).toMatchObject({
      effect,
      verdict: 'refuse',
      when: 'performed',
      code: 'NoGrant',
      missing: { path: '/forbidden' },
    })
    const lines = await t.kernel.view.history('acme/caller/w')
    expect(lines.find((l) => l.kind === 'receipt')?.text).toMatch(/Refused NoGrant: .*falls short in path/)
  })

  it('logs what is in maps, errors and circles, with stacks of its own files', async () => {
    await t.call('caller/l', 'logs')
    const [first, second, third] = (await t.kernel.view.logs('acme/caller/l')).map((l) => l.text)
    expect(first).toMatch(
      /^x has 3 \{"n":"1n","self":"\[circular\]"\} \{"map":\{"k":\[1\]\},"error":"TypeError: inner/,
    )
    expect(second).toContain('\n')
    expect(third).toMatch(/Error: logged\n\s+at logs \(caller\.ts:\d+:\d+\)/)
  })

  it('is cancelled alone: what it did for another, or waited for from another, is that one’s own', async () => {
    waitMs = 400
    const [payer, opener] = [
      await t.kernel.invoke({ address: 'acme/caller/two', method: 'payer' }),
      await t.kernel.invoke({ address: 'acme/caller/two', method: 'opener' }),
    ]
    await new Promise((resolve) => setTimeout(resolve, 100))
    await t.kernel.cancel(opener.id, 'not needed')
    expect(await opener.reply).toMatchObject({ ok: false, error: { class: 'Cancelled' } })
    expect(await payer.reply).toMatchObject({ ok: true, value: { sent: expect.any(Number) } })
    // And the other way round: a cancel finds the effect of the one that waited for the gate.
    const again = await t.kernel.invoke({ address: 'acme/caller/mirror', method: 'payer' })
    const open = await t.kernel.invoke({ address: 'acme/caller/mirror', method: 'opener' })
    await new Promise((resolve) => setTimeout(resolve, 100))
    await t.kernel.cancel(again.id, 'not needed')
    expect(await again.reply).toMatchObject({ ok: false, error: { class: 'Cancelled' } })
    expect(await open.reply).toMatchObject({ ok: true })
    waitMs = 0
  })

  it('that is cancelled ends its `finally` before the next call begins', async () => {
    const crit = await t.kernel.invoke({ address: 'acme/caller/serial', method: 'crit' })
    await t.call('caller/serial', 'count')
    await t.kernel.cancel(crit.id, 'enough')
    expect(await crit.reply).toMatchObject({ ok: false, error: { class: 'Cancelled' } })
    expect(await t.call('caller/serial', 'crit2')).toEqual({
      ok: true,
      value: ['crit in 1', 'crit out 0', 'crit2 in 1'],
    })
    expect((await t.kernel.replay('acme/caller/serial')).turns).toBeGreaterThan(3)
  })

  it('tells what an error was caused by, and the effect to ask about', async () => {
    const failed = await t.call('caller/c', 'caused')
    expect(failed).toMatchObject({
      ok: false,
      error: {
        message: expect.stringMatching(/^Error: payment failed; caused by Refused: /),
        effect: expect.stringMatching(/^acme\/caller\/c@/),
      },
    })
    expect(await t.call('caller/c', 'unshowable')).toMatchObject({
      ok: false,
      error: { message: 'Error: {"code":"E","detail":"an object"}' },
    })
  })

  it('keeps the names of its classes, and loads packages that ask for their environment', async () => {
    expect(await t.call('caller/n', 'named')).toEqual({
      ok: true,
      value: { name: 'Money', error: 'NotFound', thrown: 'NotFound' },
    })
    expect(await t.call('caller/n', 'environment')).toEqual({ ok: true, value: 'production' })
  })

  it('answers with what its schema made of the result', async () => {
    expect(await t.call('caller/z', 'cut')).toEqual({ ok: true, value: { id: 'x' } })
  })

  it('that declares a schema which is none is refused by name when it is applied', async () => {
    const fs = await import('node:fs')
    const path = await import('node:path')
    const apply = (schema: string) => {
      const file = path.join(t.data, 'bad.ts')
      fs.writeFileSync(
        file,
        `import { Agent } from '@cardinal/sdk'\nexport default class Bad extends Agent { static methods = { m: { in: ${schema} } }; m() {} }\n`,
      )
      return applyPrograms(t.kernel, [{ name: 'bad', file, now: [] }])
    }
    for (const [schema, says] of [
      ['5 as never', /methods\.m\.in.*a schema is an object/],
      ['{ type: "strnig" }', /methods\.m\.in.*`strnig` is no type/],
      [
        '{ type: "object", properties: { a: { pattern: "(" } } }',
        /methods\.m\.in.*`\(` is no pattern at `\/properties\/a`/,
      ],
      ['{ $ref: "#/nope" }', /methods\.m\.in.*points nowhere/],
      ['{ $ref: "#" }', /methods\.m\.in.*points at itself/],
    ] as const)
      await expect(apply(schema), schema).rejects.toMatchObject({
        code: 'BadProgram',
        message: expect.stringMatching(says),
      })
    await apply('{ type: "string" }')
    expect(await t.call('bad/b', 'm', 'text')).toEqual({ ok: true, value: null })
  })

  it('is not born by a call that cannot be made', async () => {
    t.kernel.view.agents({ limit: 1 })
    const before = t.kernel.stats().agents
    await expect(t.call('caller/typo', 'nope')).rejects.toMatchObject({ code: 'NoSuchMethod' })
    await expect(
      t.kernel.invoke({ address: 'acme/caller/typo', method: 'count', idempotencyKey: '' }),
    ).rejects.toMatchObject({ code: 'BadKey' })
    await expect(t.kernel.view.agent('acme/caller/typo')).rejects.toMatchObject({ code: 'NoSuchAgent' })
    expect(t.kernel.stats().agents).toBe(before)
    await t.call('caller/typo', 'count')
    expect(await t.kernel.view.agent('acme/caller/typo')).toMatchObject({ turns: 1 })
  })
})
