/** Threats 34, 38, 40 to 43, 45, 68 and 69: a secret reaches its slot, and nothing else of it reaches anybody. */
import fs from 'node:fs'
import path from 'node:path'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { environmentSecrets, localKey, newVaultKey } from '@cardinal/secrets'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { applyZone, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'
import { type Reflecting, startReflecting } from '../support/reflecting.ts'

const VALUE = 'canary-7Qm2/x+Zr91"kd'
const OWN = 'http://127.0.0.1'
const OTHER = 'http://127.0.0.2'
const SHORT = 'pin-4711'

let t: TestKernel
let service: Reflecting
const vaultKey = localKey(newVaultKey())

const handles = () => `  secrets:
    ledger: { ref: ledger-token, tool: http.fetch, host: 127.0.0.1, slot: header.authorization, as: bearer }
    query: { ref: ledger-token, tool: http.fetch, host: 127.0.0.1, slot: query.api_key }
    form: { ref: ledger-token, tool: http.fetch, host: 127.0.0.1, slot: body.client_secret }
    login: { ref: ledger-token, tool: http.fetch, host: 127.0.0.1, slot: header.authorization, as: basic }
    user: { ref: login-token, tool: http.fetch, host: 127.0.0.1, slot: header.authorization, as: basic }
    weak: { ref: weak-login, tool: http.fetch, host: 127.0.0.1, slot: header.authorization, as: basic }
    own: { ref: "users/{key}/token", tool: http.fetch, host: 127.0.0.1, slot: header.authorization }
    lost: { ref: lost-token, tool: http.fetch, host: 127.0.0.1, slot: header.authorization }
    env: { ref: env/mail, tool: http.fetch, host: 127.0.0.1, slot: header.authorization }
    pin: { ref: pin, tool: http.fetch, host: 127.0.0.1, slot: header.x-pin }
    blind: { ref: pin, tool: http.fetch, host: 127.0.0.1, slot: header.x-pin, answer: status }
    broken: { ref: broken, tool: http.fetch, host: 127.0.0.1, slot: header.authorization }
    shown: { ref: shown-token, tool: secret.reveal }
`
const anywhere = (host: string, secret?: string) =>
  `{ tool: http.fetch, scheme: [http], host: ${host}, port: "*", method: "*", path: "*", args: "*"${secret ? `, secret: "${secret}"` : ''} }`
const GRANTS = [
  anywhere('127.0.0.1', 'ledger'),
  anywhere('127.0.0.1', 'users/{key}/*'),
  anywhere('127.0.0.1', 'login-token'),
  anywhere('127.0.0.1', 'weak-login'),
  anywhere('127.0.0.1', 'lost'),
  anywhere('127.0.0.1', 'env/mail'),
  anywhere('127.0.0.1', 'pin'),
  anywhere('127.0.0.1', 'broken'),
  anywhere('127.0.0.1'),
  anywhere('127.0.0.2'),
  '{ tool: oauth.refresh, args: "*" , secret: ledger-token, ask: [] }',
  '{ tool: oauth.use, args: "*", secret: "crm/{key}" }',
]
const NARROW = [
  `{ tool: http.fetch, scheme: [http], host: 127.0.0.1, port: "*", path: /quiet, secret: ledger }`,
  `{ tool: http.fetch, scheme: [http], host: 127.0.0.1, port: "*", path: /plain }`,
  '{ tool: secret.reveal, secret: shown-token, ask: [] }',
]
const tools = (port: number) => `
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: oauth.refresh }
spec:
  effect: once
  in: { type: object, properties: {} }
  http: { method: POST, url: "${OWN}:${port}/token", body: json, secret: { ref: ledger-token, slot: header.authorization, as: bearer } }
  capture: { access_token: "crm/{key}" }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: oauth.use }
spec:
  effect: read
  in: { type: object, properties: {} }
  http: { method: GET, url: "${OWN}:${port}/quiet", secret: { ref: "crm/{key}", slot: header.authorization, as: bearer } }
`
const agentText = (name: string, grants: readonly string[]) =>
  `---\napiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: ${name} }\nspec:\n  program: ${programFile('messenger.ts')}\n${handles()}  card:\n    now:\n${grants.map((g) => `      - ${g}\n`).join('')}`

async function call(agent: string, method: string, args: unknown): Promise<Record<string, unknown>> {
  const reply = await t.call(agent, method, args)
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value as Record<string, unknown>
}
const send = (args: object, agent = 'acme/messenger/a') => call(agent, 'send', args)
const at = (way: string, origin = OWN) => `${origin}:${service.port}/${way}`
const LEDGER = { headerSecrets: { authorization: 'ledger' } }

beforeAll(async () => {
  service = await startReflecting()
  t = await openTestKernel([], {
    vaultKey,
    secretProviders: { env: environmentSecrets(JSON.stringify({ acme: { mail: 'mail-token-of-acme' } })) },
  })
  const bundle = await bundleProgram(programFile('messenger.ts'))
  const text = tools(service.port) + agentText('messenger', GRANTS) + agentText('narrow', NARROW)
  const manifests = parseManifests(text, 'm.yaml', { isRange, defaultsOf: t.kernel.defaultsOf })
  await t.kernel.apply(
    manifests,
    new Map([
      ['acme/messenger', bundle],
      ['acme/narrow', bundle],
    ]),
  )
  await applyZone(t.kernel, '127.0.0.1, 127.0.0.2', '127.0.0.0/8')
  const { secrets } = t.kernel
  await secrets.set('acme', 'ledger-token', Buffer.from(VALUE), 'it')
  await secrets.set('acme', 'shown-token', Buffer.from('shown-to-who-may-see'), 'it')
  await secrets.set('acme', 'users/a/token', Buffer.from('token-of-agent-a'), 'it')
  await secrets.set('acme', 'users/b/token', Buffer.from('token-of-agent-b'), 'it')
  await secrets.set('acme', 'login-token', Buffer.from(`ann:${VALUE}`), 'it')
  await secrets.set('acme', 'weak-login', Buffer.from('somebody.with.a.long.name:4711'), 'it')
  await secrets.set('acme', 'pin', Buffer.from(SHORT), 'it')
  await secrets.set('acme', 'broken', Buffer.from('a token\r\nx-admin: yes'), 'it')
  await secrets.set('other', 'lost-token', Buffer.from('a token of another tenant'), 'it')
}, 60_000)
beforeEach(() => {
  service.seen.length = 0
})
afterAll(async () => {
  await t.close()
  await service.close()
})

describe('a secret in its slot', () => {
  it('arrives as a bearer token, a basic login, a query key, and a field of a form or of JSON', async () => {
    expect(await send({ url: at('quiet'), ...LEDGER })).toMatchObject({ ok: true, text: '{"rows":[1,2,3]}' })
    await send({ url: at('quiet'), headerSecrets: { Authorization: 'login' } })
    await send({ url: at('quiet?a=1'), slots: { 'query.api_key': 'query' } })
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const slots = { 'body.client_secret': 'form' }
    await send({ url: at('quiet'), method: 'POST', headers: form, text: 'a=1', slots })
    const json = { 'content-type': 'application/json' }
    await send({ url: at('quiet'), method: 'POST', headers: json, text: '{"a":1}', slots })
    const [bearer, basic, query, formed, jsoned] = service.seen
    expect(bearer?.headers.authorization).toBe(`Bearer ${VALUE}`)
    expect(basic?.headers.authorization).toBe(`Basic ${Buffer.from(VALUE).toString('base64')}`)
    expect(new URL(query?.url ?? '', OWN).searchParams.get('api_key')).toBe(VALUE)
    expect(new URLSearchParams(formed?.body).get('client_secret')).toBe(VALUE)
    expect(JSON.parse(jsoned?.body ?? '')).toEqual({ a: 1, client_secret: VALUE })
  })

  it('is each agent’s own where its name holds the key, and a provider’s where its name says so', async () => {
    await send({ url: at('quiet'), headerSecrets: { authorization: 'own' } }, 'acme/messenger/a')
    await send({ url: at('quiet'), headerSecrets: { authorization: 'own' } }, 'acme/messenger/b')
    await send({ url: at('quiet'), headerSecrets: { authorization: 'env' } })
    const sent = service.seen.map(({ headers }) => headers.authorization)
    expect(sent).toEqual(['token-of-agent-a', 'token-of-agent-b', 'mail-token-of-acme'])
  })

  it('prints its name, whatever a program makes of it', async () => {
    const shown = await call('acme/messenger/a', 'print', { handle: 'ledger' })
    expect(shown).toEqual(['[secret ledger]', '"[secret ledger]"', '[secret ledger]', '{}', ''])
    const said = await call('acme/messenger/a', 'misuse', { url: at('quiet'), handle: 'ledger' })
    expect(said).toMatch(/plain object of headers/)
    expect(service.seen).toEqual([])
  })
})

describe('a secret out of its slot (40)', () => {
  const refusals: Record<string, object> = {
    'in another header': { headerSecrets: { 'x-other': 'ledger' } },
    'in the query, where it is for a header': { slots: { 'query.api_key': 'ledger' } },
    'in a field of the body, where it is for a header': {
      method: 'POST',
      slots: { 'body.a': 'ledger' },
      text: '{}',
    },
    'in a slot that is none': { slots: { path: 'ledger' } },
    'in the header of a name that only an executor sets': { slots: { 'header.host': 'ledger' } },
    'for another host': { origin: OTHER, ...LEDGER },
    'beside the same header by value': {
      headers: { authorization: 'x' },
      slots: { 'header.authorization': 'ledger' },
    },
    'beside the same query key': { query: '?api_key=1', slots: { 'query.api_key': 'query' } },
  }
  it.each(Object.keys(refusals))('is refused %s', async (what) => {
    const { origin = OWN, query = '', ...given } = refusals[what] as { origin?: string; query?: string }
    const refused = await send({ url: at(`quiet${query}`, origin), ...given })
    expect(refused).toMatchObject({ ok: false, name: 'Refused', code: 'SecretSlot', by: 'card' })
    expect(service.seen).toEqual([])
  })

  it('is refused twice in one request, and sent once', async () => {
    const twice = { slots: { 'header.authorization': 'ledger', 'query.api_key': 'query' } }
    expect(await send({ url: at('quiet'), ...twice })).toMatchObject({ ok: false, code: 'BadArguments' })
    expect(service.seen).toEqual([])
    expect(await send({ url: at('quiet'), slots: { 'query.api_key': 'query' } })).toMatchObject({ ok: true })
  })

  it('is sent as the text that it is where a program writes its name', async () => {
    await send({
      url: at('plain'),
      method: 'POST',
      text: 'secret("ledger") [secret ledger] {"$secret":"ledger"}',
    })
    expect(service.seen[0]?.body).toBe('secret("ledger") [secret ledger] {"$secret":"ledger"}')
    expect(JSON.stringify(service.seen)).not.toContain('canary')
  })

  it('is refused without a handle, without a grant, of another tenant, and where there is none', async () => {
    expect(await send({ url: at('quiet'), headerSecrets: { authorization: 'nobody' } })).toMatchObject({
      ok: false,
      code: 'NoSuchSecret',
      by: 'card',
    })
    const narrow = 'acme/narrow/a'
    expect(await send({ url: at('plain'), ...LEDGER }, narrow)).toMatchObject({ ok: false, code: 'NoGrant' })
    expect(await send({ url: at('quiet'), slots: { 'header.authorization': 'own' } }, narrow)).toMatchObject({
      ok: false,
      code: 'NoGrant',
    })
    expect(await send({ url: at('quiet'), headerSecrets: { authorization: 'lost' } })).toMatchObject({
      ok: false,
      name: 'Refused',
      code: 'NoSuchSecret',
    })
    expect(service.seen).toEqual([])
    // The twins: the same agent with the grant that it has, and the path without a secret.
    expect(await send({ url: at('quiet'), ...LEDGER }, narrow)).toMatchObject({ ok: true })
    expect(await send({ url: at('plain') }, narrow)).toMatchObject({ ok: true })
  })

  it('is refused where its bytes would make another request', async () => {
    const refused = await send({ url: at('quiet'), headerSecrets: { authorization: 'broken' } })
    expect(refused).toMatchObject({ ok: false, code: 'SecretUnusable' })
    expect(service.seen).toEqual([])
  })
})

describe('an answer that holds the secret (41)', () => {
  it.each(['plain', 'base64', 'hex', 'percent', 'json', 'error', 'split'])(
    'is shown without it: %s',
    async (way) => {
      const answer = await send({ url: at(way), ...LEDGER })
      expect(service.seen[0]?.headers.authorization).toBe(`Bearer ${VALUE}`)
      expect(answer.text).toContain('[secret ledger-token]')
      expectClean(JSON.stringify(answer))
    },
  )

  it('is shown without it in headers, and without those that tell how long it is (43)', async () => {
    const answer = await send({ url: at('header'), ...LEDGER })
    expectClean(JSON.stringify(answer))
    const names = (answer.headers as [string, string][]).map(([name]) => name)
    expect(names).toContain('x-echo')
    expect(names).not.toContain('content-length')
    expect(names).not.toContain('etag')
    const twin = await send({ url: at('header') })
    expect((twin.headers as [string, string][]).map(([name]) => name)).toContain('etag')
  })

  it('is shown without the password of a login', async () => {
    const answer = await send({ url: at('password'), headerSecrets: { authorization: 'user' } })
    expect(answer).toMatchObject({ ok: true, text: 'you said [secret login-token]' })
    service.seen.length = 0
    // A password that is too short to be found is not sent where answers are shown.
    expect(await send({ url: at('password'), headerSecrets: { authorization: 'weak' } })).toMatchObject({
      ok: false,
      code: 'SecretTooShort',
    })
    expect(service.seen).toEqual([])
  })

  it('is asked for whole, and not shown where only a part of it came', async () => {
    for (const headers of [{ range: 'bytes=0-9' }, { 'If-Range': '"x"' }])
      expect(await send({ url: at('plain'), headers, ...LEDGER })).toMatchObject({
        ok: false,
        name: 'Refused',
        code: 'SecretSlot',
      })
    expect(service.seen).toEqual([])
    expect(await send({ url: at('partial'), ...LEDGER })).toMatchObject({ ok: false, code: 'SecretScan' })
    expect(await send({ url: at('partial'), headers: { range: 'bytes=0-9' } })).toMatchObject({
      ok: true,
      status: 206,
    })
  })

  it('is not shown at all where it cannot be looked through', async () => {
    expect(await send({ url: at('gzip'), ...LEDGER })).toMatchObject({ ok: false, code: 'SecretScan' })
    expect(await send({ url: at('gzip') })).toMatchObject({ ok: true })
    const paid = await send({ url: at('gzip'), method: 'POST', text: 'x', ...LEDGER })
    expect(paid).toMatchObject({ ok: false, name: 'Withheld', code: 'SecretScan' })
  })

  it('does not lead on to a place that holds it, nor take it to another origin (34)', async () => {
    expect(await send({ url: at('location'), ...LEDGER })).toMatchObject({ ok: false, code: 'SecretEchoed' })
    expect(service.seen).toHaveLength(1)
    service.seen.length = 0
    // Nor does a later answer.
    expect(await send({ url: at('to?url=/location'), ...LEDGER })).toMatchObject({
      ok: false,
      code: 'SecretEchoed',
    })
    expect(service.seen).toHaveLength(2)
    service.seen.length = 0
    const cross = `to?url=${encodeURIComponent(at('plain', OTHER))}`
    const answer = await send({ url: at(cross), ...LEDGER })
    expect(answer).toMatchObject({ ok: true })
    expect(service.seen.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${VALUE}`, undefined])
    service.seen.length = 0
    await send({ url: at('to?url=/quiet'), ...LEDGER })
    expect(service.seen.map(({ headers }) => headers.authorization)).toEqual([
      `Bearer ${VALUE}`,
      `Bearer ${VALUE}`,
    ])
  })

  it('that breaks off is an error without a byte of it', async () => {
    const answer = await send({ url: at('broken'), ...LEDGER })
    expect(answer).toMatchObject({ ok: false, name: 'Unavailable' })
    expectClean(JSON.stringify(answer))
  })

  it('is not looked through for a short secret, which is only sent where nothing is shown (68)', async () => {
    expect(await send({ url: at('plain'), headerSecrets: { 'x-pin': 'pin' } })).toMatchObject({
      ok: false,
      code: 'SecretTooShort',
    })
    expect(service.seen).toEqual([])
    expect(await send({ url: at('plain'), headerSecrets: { 'x-pin': 'blind' } })).toMatchObject({
      ok: true,
      status: 200,
      text: '',
    })
    expect(service.seen[0]?.headers['x-pin']).toBe(SHORT)
  })
})

describe('a secret by value (42, 38)', () => {
  it('is refused in the arguments of the request that carries it', async () => {
    for (const given of [
      { url: at(`quiet?q=${encodeURIComponent(VALUE)}`) },
      { url: at('quiet'), method: 'POST', text: `here: ${Buffer.from(VALUE).toString('base64')}` },
      { url: at('quiet'), headers: { accept: VALUE.replaceAll('"', "'"), 'x-note': VALUE } },
    ])
      expect(await send({ ...given, ...LEDGER })).toMatchObject({ ok: false, code: 'SecretByValue' })
    expect(service.seen).toEqual([])
    expect(await send({ url: at('quiet?q=canary-something-else'), ...LEDGER })).toMatchObject({ ok: true })
  })

  it('of an attacker is no way to use an allowed service: its key needs a grant, too', async () => {
    const narrow = 'acme/narrow/a'
    const own = { url: at('plain'), headers: { authorization: 'Bearer of-the-attacker' } }
    expect(await send(own, narrow)).toMatchObject({ ok: false, name: 'Refused', by: 'card' })
    expect(await send({ url: at('plain?api_key=of-the-attacker') }, narrow)).toMatchObject({ ok: false })
    expect(service.seen).toEqual([])
    expect(await send({ url: at('plain') }, narrow)).toMatchObject({ ok: true })
  })
})

describe('guessing at a secret (68)', () => {
  it('ends after so many answers that held it', async () => {
    const { secrets } = t.kernel
    for (let i = 0; i < 1000; i++) secrets.noteMask('acme', 'env/mail')
    const spent = await send({ url: at('plain'), headerSecrets: { authorization: 'env' } })
    expect(spent).toMatchObject({ ok: false, name: 'Refused', code: 'SecretEchoed', by: 'middleware' })
    expect(service.seen).toEqual([])
    expect(await send({ url: at('plain'), ...LEDGER })).toMatchObject({ ok: true })
  })
})

describe('a token that a service answers with (69)', () => {
  it('goes into the vault before anybody sees it, and is used by its name', async () => {
    const use = (name: string, agent = 'acme/messenger/a') => call(agent, 'use', { name, args: {} })
    expect(await use('oauth.use')).toMatchObject({ ok: false, code: 'NoSuchSecret' })
    const shown = await use('oauth.refresh')
    expect(shown).toEqual({
      ok: true,
      value: {
        access_token: { $secret: 'crm/a' },
        expires_in: 3600,
        hint: 'use [secret crm/a]',
      },
    })
    expect(await use('oauth.use')).toMatchObject({ ok: true })
    expect(service.seen.at(-1)?.headers.authorization).toBe('Bearer minted-by-the-service-8c1f2b')
    expect(await use('oauth.use', 'acme/messenger/b')).toMatchObject({ ok: false, code: 'NoSuchSecret' })
    const listed = await t.kernel.secrets.list('acme')
    expect(listed.find(({ name }) => name === 'crm/a')).toMatchObject({ version: 1 })
  })
})

describe('revealing a secret', () => {
  it('needs a grant and a handle of its own, and labels who has seen it', async () => {
    const reveal = (secret: string, agent = 'acme/narrow/a') =>
      call(agent, 'use', { name: 'secret.reveal', args: { secret } })
    expect(await reveal('shown')).toEqual({ ok: true, value: 'shown-to-who-may-see' })
    expect(await reveal('ledger')).toMatchObject({ ok: false, name: 'Refused', code: 'NoSuchSecret' })
    expect(await reveal('shown', 'acme/messenger/a')).toMatchObject({ ok: false, code: 'NoGrant' })
    expect((await t.kernel.cards.standing('acme/narrow/a')) as object).toMatchObject({
      labels: expect.arrayContaining(['secret']),
    })
  })
})

describe('changing a secret', () => {
  it('holds from the next use on, and is on record without its value', async () => {
    const { secrets } = t.kernel
    await secrets.set('acme', 'lost-token', Buffer.from('the first of two values'), 'it')
    const lost = { url: at('quiet'), headerSecrets: { authorization: 'lost' } }
    await send(lost)
    await secrets.rotate('acme', 'lost-token', Buffer.from('the second of two values'), 'it')
    await send(lost)
    await secrets.remove('acme', 'lost-token', 'it')
    expect(await send(lost)).toMatchObject({ ok: false, code: 'NoSuchSecret' })
    expect(service.seen.map(({ headers }) => headers.authorization)).toEqual([
      'the first of two values',
      'the second of two values',
    ])
  })

  it('cannot be undone by an older vault: what was replaced is refused', async () => {
    const { secrets } = t.kernel
    await secrets.set('acme', 'lost-token', Buffer.from('stolen, to be replaced'), 'it')
    const file = path.join(t.data, 'secrets', 'vault.db')
    const older = fs.readFileSync(file)
    await secrets.rotate('acme', 'lost-token', Buffer.from('the replacement of it'), 'it')
    const lost = { url: at('quiet'), headerSecrets: { authorization: 'lost' } }
    expect(await send(lost)).toMatchObject({ ok: true })
    await t.kernel.close()
    fs.writeFileSync(file, older)
    t = await t.reopen()
    expect(await send(lost)).toMatchObject({ ok: false, name: 'Refused', code: 'SecretBehind' })
    expect(await send({ url: at('quiet'), ...LEDGER })).toMatchObject({ ok: true })
  })

  it('is refused by a node that has no key of the vault, and by one that has another', async () => {
    await t.kernel.close()
    await expect(t.reopen({ vaultKey: localKey(newVaultKey()) })).rejects.toMatchObject({
      code: 'OtherVaultKey',
    })
    const { vaultKey: _key, ...without } = { vaultKey: undefined }
    t = await openTestKernel([], without, t.data)
    expect(await send({ url: at('quiet'), ...LEDGER })).toMatchObject({ ok: false, code: 'NoVault' })
    await expect(t.kernel.secrets.set('acme', 'x', Buffer.from('y'), 'it')).rejects.toMatchObject({
      code: 'NoVault',
    })
    await t.kernel.close()
    t = await openTestKernel([], { vaultKey }, t.data)
    expect(await send({ url: at('quiet'), ...LEDGER })).toMatchObject({ ok: true })
  })
})

describe('after all of this (45)', () => {
  it('no byte of a secret is in the data folder, and the record decides the same again', async () => {
    expect(await t.kernel.suspend('acme/messenger/a')).toBe(true)
    expect((await t.kernel.audit()).mismatches).toEqual([])
    await t.kernel.replay('acme/messenger/a')
    await t.kernel.close()
    for (const file of fs.readdirSync(t.data, { recursive: true, withFileTypes: true })) {
      if (!file.isFile()) continue
      const bytes = fs.readFileSync(path.join(file.parentPath, file.name))
      expectClean(bytes.toString('latin1'))
    }
    t = await openTestKernel([], { vaultKey }, t.data)
  })
})

function expectClean(text: string): void {
  const utf8 = Buffer.from(VALUE)
  for (const form of [
    VALUE,
    encodeURIComponent(VALUE),
    JSON.stringify(VALUE).slice(1, -1),
    utf8.toString('hex'),
  ])
    expect(text.includes(form)).toBe(false)
  expect(text.includes(utf8.toString('base64').slice(0, 24))).toBe(false)
  expect(text.includes('minted-by-the-service')).toBe(false)
}
