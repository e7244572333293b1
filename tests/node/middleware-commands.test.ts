/** Middleware as a platform team deploys it: manifests, modules of the operator's, a classifier over HTTP. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { programFile } from '../support/kernel.ts'
import { type Reflecting, startReflecting } from '../support/reflecting.ts'

const GUARD = `import { createHash } from 'node:crypto'
import { limit } from './limit.ts'
export default {
  request(call: { args: { text?: string } }, config: { word: string }) {
    if (call.args.text === 'spin') for (;;);
    if (call.args.text === 'crash') process.exit(1)
    if ((call.args.text ?? '').length > limit) return { do: 'refuse', code: 'TooLong', message: createHash('md5').update('x').digest('hex').slice(0, 4) }
    if (call.args.text === config.word) return { do: 'refuse', code: 'Forbidden', message: 'that word' }
    return { do: 'pass' }
  },
}
`
const manifest = (port: number, classifier: number) => `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: messenger }
spec:
  program: ./messenger.ts
  middleware: [classifier]
  card:
    now:
      - { tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [${port}], method: [POST], path: "*", args: { body: "*" } }
---
apiVersion: cardinal/v1
kind: Middleware
metadata: { tenant: default, name: guard }
spec: { tools: [http.fetch], order: 10, module: { name: guard, with: { word: sesame } } }
---
apiVersion: cardinal/v1
kind: Middleware
metadata: { tenant: default, name: classifier }
spec: { guardrail: { url: "http://127.0.0.1:${classifier}/check", on: [request, response] } }
---
apiVersion: cardinal/v1
kind: Middleware
metadata: { tenant: default, name: watch }
spec: { tools: ["*"], order: 900, audit: {} }
---
apiVersion: cardinal/v1
kind: Zone
metadata: { name: here }
spec: { hosts: [127.0.0.1], ranges: [127.0.0.0/8] }
`

describe('a node with middleware', () => {
  const { folder, run, runBeside, begin, end, remove } = commandLine()
  let service: Reflecting
  let node: ChildProcess
  let verdict: (asked: { when: string; args: { text?: string }; value?: { text: string } }) => unknown =
    () => ({
      allow: true,
    })
  let status = 200
  const classifier = http.createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    const given = verdict(JSON.parse(body))
    if (given === undefined) return
    response.writeHead(status)
    response.end(typeof given === 'string' ? given : JSON.stringify(given))
  })
  const send = async (text: string) => {
    const args = { url: `http://127.0.0.1:${service.port}/quiet`, method: 'POST', text }
    return JSON.parse((await runBeside(['invoke', 'messenger/a', 'send', JSON.stringify(args)])).out)
  }
  beforeAll(async () => {
    service = await startReflecting()
    classifier.listen(0, '127.0.0.1')
    await once(classifier, 'listening')
    fs.copyFileSync(programFile('messenger.ts'), path.join(folder, 'messenger.ts'))
    fs.writeFileSync(path.join(folder, 'guard.ts'), GUARD)
    fs.writeFileSync(path.join(folder, 'limit.ts'), 'export const limit: number = 20\n')
    const { port } = classifier.address() as AddressInfo
    fs.writeFileSync(path.join(folder, 'cardinal.yaml'), manifest(service.port, port))
    node = (
      await begin(
        ['dev', '--port', '0', '--middleware', 'guard=guard.ts', '--audit-log', 'audit.jsonl'],
        /applied default\/messenger/,
      )
    ).child
  }, 60_000)
  afterAll(async () => {
    await end(node)
    classifier.closeAllConnections()
    classifier.close()
    await service.close()
    remove()
  })

  it("asks the operator's module, with what it imports and its configuration", async () => {
    expect(await send('hello')).toMatchObject({ ok: true, status: 200 })
    expect(await send('sesame')).toMatchObject({ ok: false, code: 'Forbidden', by: 'middleware' })
    expect(await send('x'.repeat(21))).toMatchObject({ ok: false, code: 'TooLong' })
    expect(service.seen.map(({ body }) => body)).toEqual(['hello'])
  })

  it('refuses what a module spins or dies over, and goes on', { timeout: 60_000 }, async () => {
    service.seen.length = 0
    expect(await send('crash')).toMatchObject({ ok: false, code: 'MiddlewareFailed' })
    expect(await send('spin')).toMatchObject({ ok: false, code: 'MiddlewareFailed' })
    expect(service.seen).toEqual([])
    expect(await send('hello again')).toMatchObject({ ok: true })
  })

  it('keeps the code that it was started with, whatever becomes of the file', async () => {
    fs.writeFileSync(path.join(folder, 'guard.ts'), 'export default { request: () => ({ do: "pass" }) }')
    expect(await send('sesame')).toMatchObject({ ok: false, code: 'Forbidden' })
    fs.writeFileSync(path.join(folder, 'guard.ts'), GUARD)
  })

  it('asks a classifier over HTTP, and only a clear yes lets anything pass', async () => {
    service.seen.length = 0
    verdict = ({ when, args }) =>
      when === 'request' && args.text === 'bad' ? { allow: false, reason: 'unkind' } : { allow: true }
    expect(await send('bad')).toMatchObject({
      ok: false,
      code: 'GuardrailRefused',
      message: expect.stringContaining('unkind'),
    })
    expect(service.seen).toEqual([])
    expect(await send('good')).toMatchObject({ ok: true })
    for (const odd of ['no JSON', '{"allow":"true"}', '{}', 'null', '{"allow":1}']) {
      verdict = () => odd
      expect(await send(`odd ${odd.length}`)).toMatchObject({ ok: false, by: 'middleware' })
    }
    verdict = () => ({ allow: true })
    status = 500
    expect(await send('good')).toMatchObject({ ok: false, code: 'MiddlewareFailed' })
    status = 200
    expect(service.seen).toHaveLength(1)
  })

  it('holds back what the classifier does not let in, and it is done once', async () => {
    service.seen.length = 0
    verdict = ({ when }) => ({ allow: when === 'request', reason: 'not for this agent' })
    expect(await send('pay')).toMatchObject({
      ok: false,
      name: 'Withheld',
      message: expect.stringContaining('not for this agent'),
    })
    verdict = ({ when }) => (when === 'request' ? { allow: true } : undefined)
    const slow = send('pay more')
    await expect.poll(() => service.seen.length).toBe(2)
    verdict = () => ({ allow: true })
    classifier.closeAllConnections()
    expect(await slow).toMatchObject({ ok: false, name: 'Withheld' })
    expect(service.seen.map(({ body }) => body)).toEqual(['pay', 'pay more'])
  })

  it('writes a line for each effect that ended, and shows the chain in the history', () => {
    const lines = fs
      .readFileSync(path.join(folder, 'audit.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(lines.find(({ args }) => args.text === 'hello')).toMatchObject({
      tool: 'http.fetch',
      outcome: 'done',
    })
    expect(lines.find(({ args }) => args.text === 'pay')).toMatchObject({ outcome: 'Withheld Withheld' })
    expect(run(['history', 'messenger/a']).out).toMatch(
      /middleware of \d+\.0: guard \(refuse\): refused by middleware \(Forbidden\)/,
    )
    expect(run(['history', 'messenger/a']).out).toMatch(
      /middleware of \d+\.0: guard, watch, classifier: allow/,
    )
  })

  it('says which module does not build, and which name is none', async () => {
    fs.writeFileSync(path.join(folder, 'broken.ts'), 'export default {')
    const broken = await begin(
      ['serve', '--port', '0', '--data', 'other', '--middleware', 'x=broken.ts'],
      /\[BadOwnCode\]/,
    )
    expect(broken.said).toMatch(/middleware `x`: .*broken\.ts:1/)
    expect(run(['serve', '--middleware', 'broken.ts'])).toMatchObject({
      status: 2,
      err: expect.stringContaining('NAME=FILE'),
    })
  })
})
