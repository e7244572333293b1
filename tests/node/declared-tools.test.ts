/** Tools that manifests declare: typed, bounded by cards to the cent, and one request each. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { ManifestError, parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { declaredTool, isRange } from '@cardinal/tools'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { applyZone, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

const seen: Seen[] = []
let next: { status: number; body: string; headers?: Record<string, string> } = {
  status: 200,
  body: '{"id":"p1"}',
}
const bank = http.createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += String(chunk)
  seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, body })
  response.writeHead(next.status, next.headers)
  response.end(next.body)
})

let url = ''
let t: TestKernel
const program = programFile('teller.ts')

/** So many that looking them through for every value would take its time. */
const KINDS = Array.from({ length: 2000 }, (_, i) => `k${i}`).join(', ')

const declared = () => `
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: bank.pay }
spec:
  about: pay somebody
  effect: once
  in:
    type: object
    properties:
      to: { type: string, maxLength: 34 }
      amount: { type: number, minimum: 0 }
      note: { anyOf: [{ type: string }, { type: 'null' }], default: null }
      currency: { type: string, enum: [EUR, USD], default: EUR }
    required: [to, amount]
  http: { method: POST, url: "${url}/accounts/{to}/payments", headers: { X-Client: acme }, body: json }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: bank.list }
spec:
  effect: read
  in:
    type: object
    properties: { n: { type: integer, default: 100, maximum: 1000 }, after: { type: string, default: null } }
  out: { type: object, properties: { id: { type: string, maxLength: 9 }, more: { type: array, items: { type: integer } }, kind: { enum: [${KINDS}] } }, required: [id] }
  http: { method: GET, url: "${url}/payments", query: { limit: "{n}", after: "{after}" } }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: files.read }
spec:
  effect: read
  in: { type: object, properties: { file: { type: string } }, required: [file] }
  http: { method: GET, url: "${url}/files", query: { name: "{file}" } }
  dimensions: { path: file }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: bank.book }
spec:
  effect: idempotent
  in: { type: object, properties: { id: { type: string } }, required: [id] }
  out: { type: object, properties: { id: { type: string } }, required: [id] }
  http: { method: PUT, url: "${url}/bookings/{id}", body: json, idempotencyHeader: Idempotency-Key }
`
const agent = (now: readonly string[], tenant = 'acme') =>
  `---\napiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: ${tenant}, name: teller }\nspec:\n  program: ${program}\n  card:\n    now:\n${now.map((g) => `      - ${g}\n`).join('')}`
const GRANTS = [
  '{ tool: bank.pay, args: { to: [DE89, "DE 90", ".."], amount: { decimal: 2, min: 0.01, max: 500.00 }, note: { len: 20, optional: true }, currency: [EUR] }, ask: [] }',
  '{ tool: bank.list, args: { n: { min: 1, max: 100 }, after: { len: 9, optional: true } } }',
  '{ tool: files.read, path: /in/*, args: { file: "*" } }',
  '{ tool: bank.book, args: { id: { len: 8 } } }',
]

const parse = (text: string) =>
  parseManifests(text, 'bank.yaml', { isRange, defaultsOf: t.kernel.defaultsOf })

async function apply(text: string, tenant = 'acme'): Promise<unknown> {
  return t.kernel.apply(parse(text), new Map([[`${tenant}/teller`, await bundleProgram(program)]]))
}

async function use(name: string, args: unknown, tenant = 'acme'): Promise<Record<string, unknown>> {
  const reply = await (
    await t.kernel.invoke({ address: `${tenant}/teller/a`, method: 'use', args: { name, args } })
  ).reply
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value as Record<string, unknown>
}

beforeAll(async () => {
  bank.listen(0, '127.0.0.1')
  await once(bank, 'listening')
  url = `http://127.0.0.1:${(bank.address() as AddressInfo).port}`
  t = await openTestKernel([])
  await applyZone(t.kernel, '"127.0.0.1"', '127.0.0.1/32')
  await apply(declared() + agent(GRANTS))
})
afterAll(async () => {
  await t.close()
  bank.close()
})
beforeEach(() => {
  seen.length = 0
  next = { status: 200, body: '{"id":"p1"}' }
})

describe('a declared tool', () => {
  it('becomes the one request that its manifest says', async () => {
    expect(await use('bank.pay', { to: 'DE 90', amount: 12.5, note: null })).toEqual({
      ok: true,
      value: { id: 'p1' },
    })
    const [request] = seen
    expect(request).toMatchObject({
      method: 'POST',
      url: '/accounts/DE%2090/payments',
      body: '{"amount":12.5,"currency":"EUR"}',
    })
    expect(request?.headers).toMatchObject({ 'x-client': 'acme', 'content-type': 'application/json' })
    expect(await use('bank.list', {})).toMatchObject({ ok: true })
    expect(await use('bank.list', { n: 5, after: 'p 9' })).toMatchObject({ ok: true })
    expect(seen.slice(1).map((s) => s.url)).toEqual(['/payments?limit=100', '/payments?limit=5&after=p+9'])
  })

  const twins: [string, string, unknown, unknown][] = [
    ['an amount above the bound', 'bank.pay', { to: 'DE89', amount: 500.01 }, { to: 'DE89', amount: 500 }],
    ['a tenth of a cent', 'bank.pay', { to: 'DE89', amount: 1.001 }, { to: 'DE89', amount: 1.01 }],
    ['another payee', 'bank.pay', { to: 'DE91', amount: 1 }, { to: 'DE89', amount: 1 }],
    [
      'another currency',
      'bank.pay',
      { to: 'DE89', amount: 1, currency: 'USD' },
      { to: 'DE89', amount: 1, currency: 'EUR' },
    ],
    [
      'a longer note',
      'bank.pay',
      { to: 'DE89', amount: 1, note: 'x'.repeat(21) },
      { to: 'DE89', amount: 1, note: 'x' },
    ],
    ['more than the bound by default alone', 'bank.list', { n: 101 }, {}],
    ['a path beside the granted one', 'files.read', { file: '/out/a' }, { file: '/in/a' }],
  ]
  for (const [name, tool, refused, allowed] of twins)
    it(`is refused ${name}, and nothing is sent`, async () => {
      expect(await use(tool, refused)).toMatchObject({
        ok: false,
        name: 'Refused',
        by: 'card',
        code: 'NoGrant',
      })
      expect(seen).toEqual([])
      expect(await use(tool, allowed)).toMatchObject({ ok: true })
    })

  const malformed: [string, string, unknown][] = [
    ['no amount', 'bank.pay', { to: 'DE89' }],
    ['null for what has no default', 'bank.pay', { to: 'DE89', amount: null }],
    ['a text for a number', 'bank.pay', { to: 'DE89', amount: '5' }],
    ['an unknown argument', 'bank.pay', { to: 'DE89', amount: 5, tip: 1 }],
    ['a fraction for a whole number', 'bank.list', { n: 1.5 }],
    ['a path with dots', 'files.read', { file: '/in/../out/a' }],
    ['dots for a segment', 'bank.pay', { to: '..', amount: 1 }],
    ['no object', 'bank.pay', [1]],
    ['a slash that a server might read as one', 'bank.pay', { to: 'DE89/../admin', amount: 1 }],
    ['a backslash', 'bank.pay', { to: 'DE89\\admin', amount: 1 }],
    ['nothing for a segment', 'bank.pay', { to: '', amount: 1 }],
    ['half of a character', 'bank.pay', { to: '\ud800', amount: 1 }],
    ['a path that somebody may decode', 'files.read', { file: '/in/%2e%2e/out' }],
    ['a slash that somebody may decode', 'files.read', { file: '/in%2F..%2fout' }],
  ]
  for (const [name, tool, args] of malformed)
    it(`is not asked with ${name}`, async () => {
      expect(await use(tool, args)).toMatchObject({ ok: false, code: 'BadArguments' })
      expect(seen).toEqual([])
    })

  it('says what became of it: refused there, failed there, unknown, or answered in another language', async () => {
    next = { status: 422, body: 'no' }
    expect(await use('bank.pay', { to: 'DE89', amount: 1 })).toMatchObject({
      name: 'Unavailable',
      code: 'ToolRefused',
    })
    next = { status: 503, body: '' }
    expect(await use('bank.pay', { to: 'DE89', amount: 1 })).toMatchObject({ name: 'Indeterminate' })
    expect(await use('bank.list', {})).toMatchObject({ name: 'Unavailable', code: 'ToolFailed' })
    next = { status: 200, body: '<html>' }
    expect(await use('bank.pay', { to: 'DE89', amount: 1 })).toMatchObject({
      name: 'Withheld',
      code: 'ToolAnswer',
    })
    expect(await use('bank.list', {})).toMatchObject({ name: 'Unavailable', code: 'ToolAnswer' })
    next = { status: 200, body: '\u0000\u0001' }
    expect(await use('bank.list', {})).toMatchObject({ name: 'Unavailable', code: 'ToolAnswer' })
    next = { status: 204, body: '' }
    expect(await use('bank.pay', { to: 'DE89', amount: 1 })).toEqual({ ok: true, value: null })
  })

  it('gives the agent no answer that its `out` does not allow, and says where, but not what it was', async () => {
    const answers: [body: string, at: string][] = [
      ['{}', '$ (required)'],
      ['[]', '$ (type)'],
      ['{"id":"0123456789"}', '$.id (maxLength)'],
      ['{"id":"a","more":[1,"two"]}', '$.more[1] (type)'],
    ]
    for (const [body, at] of answers) {
      next = { status: 200, body }
      const answered = await use('bank.list', {})
      expect(answered).toMatchObject({ name: 'Unavailable', code: 'ToolAnswer' })
      expect(answered.message).toContain(`\`out\` does not allow, at ${at}`)
    }
    // Whatever it is, it holds up nobody and ends nothing.
    const many = `[${'1,'.repeat(600_000)}1]`
    next = { status: 200, body: `{"id":"a","more":${many}}` }
    expect((await use('bank.list', {})).message).toContain('(too large to be checked)')
    next = { status: 200, body: `{"id":"a","more":{"\\ud800":${'['.repeat(3000)}${']'.repeat(3000)}}}` }
    expect((await use('bank.list', {})).message).toContain('$.more (type)')
    next = { status: 200, body: '{"id":"a","more":[1,2],"besides":true}' }
    expect(await use('bank.list', {})).toMatchObject({ ok: true, value: { more: [1, 2] } })
    next = { status: 200, body: '{"done":true}' }
    expect(await use('bank.book', { id: 'b9' })).toMatchObject({ name: 'Withheld', code: 'ToolAnswer' })
    next = { status: 200, body: '{"id":"b9"}' }
    expect(await use('bank.book', { id: 'b9' })).toMatchObject({ ok: true })
  })

  it('carries its arguments to its own host, whatever else it says', () => {
    const [manifest] = parse(declared().replace('effect: once', 'sinks: [log]\n  effect: once'))
    if (manifest?.kind !== 'Tool' || !manifest.declaration.http) throw new Error('a tool')
    const made = declaredTool(manifest.declaration, { perform: () => Promise.reject(new Error('not sent')) })
    expect(made.sinks).toEqual(['127.0.0.1', 'log'])
  })

  it('follows no redirect', async () => {
    next = { status: 302, body: '', headers: { location: `${url}/elsewhere` } }
    expect(await use('bank.list', {})).toMatchObject({ ok: false, code: 'Redirected' })
    expect(seen.length).toBe(1)
  })

  it('carries the kernel’s key where it is idempotent, another for each effect, and repeats by it', async () => {
    expect(await use('bank.book', { id: 'b1' })).toMatchObject({ ok: true })
    next = { status: 503, body: '' }
    expect(await use('bank.book', { id: 'b2' })).toMatchObject({ name: 'Indeterminate' })
    const keys = seen.map((s) => s.headers['idempotency-key'])
    expect(keys.every((key) => /^[0-9a-f]{40}$/.test(String(key)))).toBe(true)
    expect(seen.filter((s) => s.url.endsWith('/b2')).length).toBe(3)
    expect(new Set(keys).size).toBe(2)
  })

  it('is no tool of another tenant', async () => {
    await apply(agent(['{ tool: "*", args: "*" }'], 'other'), 'other')
    expect(await use('bank.list', {}, 'other')).toMatchObject({ ok: false, code: 'NoSuchTool' })
    expect(await use('bank.list', {})).toMatchObject({ ok: true })
  })

  it('is there after a restart, and changes with its next generation', async () => {
    t = await t.reopen()
    expect(await use('bank.list', { n: 7 })).toMatchObject({ ok: true })
    const changed = declared().replace('query: { limit: "{n}"', 'query: { max: "{n}"')
    expect(await apply(changed + agent(GRANTS))).toMatchObject([
      { kind: 'Tool', name: 'acme/bank.pay', changed: false },
      { kind: 'Tool', name: 'acme/bank.list', changed: true, generation: 2 },
      { changed: false },
      { changed: false },
      { kind: 'Agent', changed: false },
    ])
    expect(await use('bank.list', { n: 7 })).toMatchObject({ ok: true })
    expect(seen.map((s) => s.url)).toEqual(['/payments?limit=7', '/payments?max=7'])
  })
})

describe('the declaration of a tool', () => {
  const wrong: [string, (text: string) => string, RegExp][] = [
    [
      'a pattern',
      (s) => s.replace('maxLength: 34', 'pattern: "^D"'),
      /bank\.yaml:10:27 spec\.in\.properties\.to\.pattern: unknown field/,
    ],
    [
      'an argument that is none in the address',
      (s) => s.replace('{to}/pay', '{too}/pay'),
      /spec\.http\.url: there is no argument `too`/,
    ],
    [
      'an argument in the address that may be left out',
      (s) => s.replace('{to}/pay', '{note}/pay'),
      /`note` may be left out/,
    ],
    [
      'an argument for a host',
      (s) => s.replace(/url: "http:\/\/[^/]+\/accounts/, 'url: "http://{to}/accounts'),
      /scheme and host of a URL are fixed/,
    ],
    [
      'an argument for the end of a host',
      (s) => s.replace(/url: "http:\/\/[^/]+\/accounts/, 'url: "http://api.example.{to}/accounts'),
      /scheme and host of a URL are fixed/,
    ],
    [
      'an argument for a port',
      (s) => s.replace(/url: "http:\/\/[^/]+\/accounts/, 'url: "http://api.example:{to}/accounts'),
      /is no URL/,
    ],
    [
      'a pattern in what it answers',
      (s) => s.replace('maxLength: 9', 'pattern: "^D"'),
      /spec\.out\.properties\.id\.pattern: unknown field/,
    ],
    [
      'a name in what it answers that readers would lose',
      (s) => s.replace('id: { type: string, maxLength: 9 }', '"__proto__": { type: string }'),
      /spec\.out\.properties\.__proto__: unknown field/,
    ],
    [
      'an answer without an end',
      (s) => s.replace('items: { type: integer }', `items: ${'{ items: '.repeat(40)}{}${' }'.repeat(40)}`),
      /spec\.out: this is nested more than 32 deep/,
    ],
    [
      'a name that is never reached',
      (s) => s.replace('name: bank.pay', 'name: cards.derive'),
      /the kernel's own/,
    ],
    [
      'a default of another kind',
      (s) => s.replace('default: EUR', 'default: 5'),
      /properties\.currency\.default: the default is no argument/,
    ],
    [
      'bounds that hold nothing',
      (s) => s.replace('minimum: 0 }', 'minimum: 5, maximum: 1 }'),
      /properties\.amount: nothing lies in these bounds/,
    ],
    [
      'a header of two lines',
      (s) => s.replace('X-Client: acme', 'X-Client: "a\\r\\nb: c"'),
      /headers\.X-Client: a header is one line/,
    ],
    [
      'a label that is none',
      (s) => s.replace('effect: once', 'yields: ["*"]\n  effect: once'),
      /spec\.yields: `\*` is no label/,
    ],
    ['a query in the address', (s) => s.replace('{to}/payments', '{to}/payments?a=1'), /stands in `query`/],
    ['a header of the executor', (s) => s.replace('X-Client: acme', 'Host: evil'), /only the executor sets/],
    ['a read that posts', (s) => s.replace('effect: once', 'effect: read'), /a `read` is repeated freely/],
    [
      'no header for its key',
      (s) => s.replace('effect: once', 'effect: idempotent'),
      /needs `idempotencyHeader`/,
    ],
    ['a name of the kernel’s', (s) => s.replace('name: bank.pay', 'name: http.pay'), /the kernel's own/],
    [
      'a required argument that is none',
      (s) => s.replace('required: [to, amount]', 'required: [to, sum]'),
      /there is no argument `sum`/,
    ],
  ]
  for (const [name, change, message] of wrong)
    it(`is refused for ${name}, with its place`, () => {
      expect(() => parse(change(declared().trimStart()))).toThrow(ManifestError)
      expect(() => parse(change(declared().trimStart()))).toThrow(message)
      expect(parse(declared()).length).toBe(4)
    })
  it('makes a grant that could match nothing an error, with the line to paste', () => {
    const text = declared() + agent(['{ tool: bank.pay, args: { to: [DE89] }, ask: [] }'])
    expect(() => parse(text)).toThrow(
      /spec\.card\.now\[0\]\.args: .*for any value write `args: { to: …, amount: "\*", currency: "\*" }`/,
    )
  })
  it('makes a grant of what cannot be undone ask a person, unless it says that it asks nobody', () => {
    const [pay = ''] = GRANTS
    const all = '{ tool: "bank.*", args: "*" }'
    const asks = (text: string) =>
      parse(text).flatMap((m) => (m.kind === 'Agent' ? m.card.now.map((box) => [...box.ask]) : []))
    expect(asks(declared() + agent([pay.replace(', ask: []', '')]))).toEqual([['approver']])
    expect(asks(declared() + agent([pay]))).toEqual([[]])
    expect(asks(declared() + agent([all]))).toEqual([['approver']])
    expect(asks(agent([all]))).toEqual([['approver']])
    expect(asks(agent([all.replace(' }', ', ask: [] }')]))).toEqual([[]])
    expect(asks(agent(['{ tool: "files.*", path: "*", args: "*" }']))).toEqual([[]])
  })
})
