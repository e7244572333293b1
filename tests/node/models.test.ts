/** `llm.chat`: the wire formats of all providers against a local stub, budgets, sinks, secrets. */

import { serveApi } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { localKey, newVaultKey } from '@cardinal/secrets'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { applyZone, functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'
import { type ModelStub, startModelStub } from '../support/model-stub.ts'

const KEY = 'canary-5Lm8-key-of-a-provider'
let t: TestKernel
let stub: ModelStub
const progress: [string, string][] = []

const PROVIDERS: Record<string, { url: string; key?: (headers: Record<string, unknown>) => unknown }> = {
  openai: { url: '/v1', key: ({ authorization }) => authorization },
  anthropic: { url: '/v1', key: (headers) => headers['x-api-key'] },
  google: { url: '/v1beta', key: (headers) => headers['x-goog-api-key'] },
  vertex: { url: '/v1/publishers/google', key: (headers) => headers['x-goog-api-key'] },
  bedrock: { url: '', key: ({ authorization }) => authorization },
  openrouter: { url: '/api/v1', key: ({ authorization }) => authorization },
  compatible: { url: '/v1', key: ({ authorization }) => authorization },
  ollama: { url: '/api' },
}
const MODELS = () =>
  Object.entries(PROVIDERS).map(
    ([name, { url, key }]) => `apiVersion: cardinal/v1
kind: Model
metadata: { tenant: acme, name: ${name} }
spec: { provider: ${name}, model: m, url: "http://127.0.0.1:${stub.port}${url}", maxTokens: 100${key ? ', secret: { ref: model-key }' : ''}, price: { EUR: { input: "1000", output: "2000" } } }
---
`,
  )
const agent = (name: string, now: readonly string[], limits = '{ tokens: 100000 }') =>
  `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: ${name} }\nspec:\n  program: x\n  card:\n    limits: ${limits}\n    now:\n${now.map((g) => `      - ${g}\n`).join('')}---\n`
const ALL = [
  '{ tool: llm.chat, resource: "*", secret: model-key }',
  '{ tool: llm.chat, resource: "*" , secret: "*" }',
]
const CHAT = {
  messages: [
    { role: 'system', content: 'be brief' },
    { role: 'user', content: 'pay ann' },
  ],
}
const TOOLS = [
  {
    name: 'bank_pay',
    description: 'pays',
    parameters: { type: 'object', properties: { to: { type: 'string' } } },
  },
]

/** What the model that is a function says that it used. */
let usage: { input: number; output: number } | undefined

async function use(args: unknown, type = 'all', name = 'llm.chat'): Promise<Record<string, unknown>> {
  const reply = await t.call(`acme/${type}/a`, 'use', { name, args })
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value as Record<string, unknown>
}

beforeAll(async () => {
  stub = await startModelStub()
  t = await openTestKernel([], {
    vaultKey: localKey(newVaultKey()),
    models: new Map([
      ['echo', (chat) => ({ text: `you said ${chat.messages.at(-1)?.content}`, ...(usage && { usage }) })],
    ]),
    onProgress: (effect, text) => progress.push([effect, text]),
    tools: [{ ...functionTool('db.read', 'read', () => 'rows'), yields: ['private'] }],
  })
  const scripted = `apiVersion: cardinal/v1\nkind: Model\nmetadata: { tenant: acme, name: script }\nspec: { provider: scripted, model: echo }\n---\n`
  const text = [
    ...MODELS(),
    scripted,
    agent('all', ALL),
    agent('lied', ALL, '{ tokens: 1000 }'),
    agent('poor', ALL, '{ tokens: 400, spend: { EUR: "0.40" } }'),
    agent('bounded', [
      '{ tool: llm.chat, resource: openai, secret: model-key, args: { maxTokens: { max: 50 } } }',
    ]),
    agent('private', [...ALL, '{ tool: db.read, args: "*", flow: ["model:openai", log, "caller:*"] }']),
  ].join('')
  const manifests = parseManifests(text.replace(/---\n$/, ''), 'm.yaml', {
    isRange,
    defaultsOf: t.kernel.defaultsOf,
  })
  const program = await bundleProgram(programFile('teller.ts'))
  await t.kernel.apply(
    manifests,
    new Map(['all', 'lied', 'poor', 'bounded', 'private'].map((name) => [`acme/${name}`, program])),
  )
  await applyZone(t.kernel, '127.0.0.1', '127.0.0.0/8')
  await t.kernel.secrets.set('acme', 'model-key', Buffer.from(KEY), 'it')
}, 60_000)
beforeEach(() => {
  stub.asked.length = 0
  stub.status = 200
  stub.text = 'I would pay ann.'
  progress.length = 0
})
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  for (const { address } of t.kernel.view.agents({}) as { address: string }[]) await t.kernel.replay(address)
  await t.close()
  await stub.close()
})

describe('a model', () => {
  it.each(Object.keys(PROVIDERS))(
    'of %s answers with a text and the calls that it proposes',
    async (provider) => {
      const answer = await use({ model: provider, ...CHAT, tools: TOOLS })
      expect(answer).toMatchObject({
        ok: true,
        value: {
          text: 'I would pay ann.',
          calls: [{ name: 'bank_pay', args: { to: 'ann', amount: 5 } }],
          usage: { input: 11, output: 7 },
        },
      })
      const [asked] = stub.asked
      const key = PROVIDERS[provider]?.key
      if (key) expect(key(asked?.headers ?? {})).toMatch(new RegExp(`^(Bearer )?${KEY}$`))
      else expect(JSON.stringify(asked?.headers)).not.toContain(KEY)
      expect(JSON.stringify(asked?.body)).toContain('pay ann')
      expect(JSON.stringify(asked?.body)).toContain('bank_pay')
      expect(progress.map(([, text]) => text).join('')).toBe('I would pay ann.')
    },
  )

  it('takes back what it proposed, and what came of it', async () => {
    const messages = [
      ...CHAT.messages,
      { role: 'assistant', content: '', calls: [{ id: 'call_1', name: 'bank_pay', args: { to: 'ann' } }] },
      { role: 'tool', id: 'call_1', name: 'bank_pay', content: '{"id":"p1"}' },
    ]
    for (const provider of ['openai', 'anthropic', 'google', 'bedrock'])
      expect(await use({ model: provider, messages, tools: TOOLS })).toMatchObject({ ok: true })
    for (const { body } of stub.asked) expect(JSON.stringify(body)).toContain('p1')
  })

  it('is refused if it is not declared, not granted, or asked for more than it may write', async () => {
    expect(await use({ model: 'gpt-9', ...CHAT })).toMatchObject({
      ok: false,
      name: 'Refused',
      code: 'NoSuchModel',
    })
    expect(await use({ model: 'anthropic', ...CHAT }, 'bounded')).toMatchObject({
      ok: false,
      code: 'NoGrant',
    })
    expect(await use({ model: 'openai', ...CHAT }, 'bounded')).toMatchObject({ ok: false, code: 'NoGrant' })
    expect(await use({ model: 'openai', ...CHAT, maxTokens: 101 })).toMatchObject({
      ok: false,
      code: 'NoSuchModel',
    })
    expect(stub.asked).toEqual([])
    expect(await use({ model: 'openai', ...CHAT, maxTokens: 50 }, 'bounded')).toMatchObject({ ok: true })
  })

  it.each([
    [{ model: 'openai' }],
    [{ model: 'openai', messages: [] }],
    [{ model: 'openai', messages: [{ role: 'root', content: 'x' }] }],
    [{ model: 'openai', messages: [{ role: 'user', content: 7 }] }],
    [{ ...CHAT, model: 'openai', url: 'http://evil.example' }],
    [{ ...CHAT, model: 'openai', tools: [{ description: 'x' }] }],
  ])('is asked with arguments that are some: %j', async (args) => {
    expect(await use(args)).toMatchObject({ ok: false, code: 'BadArguments' })
    expect(stub.asked).toEqual([])
  })

  it('takes of tokens and money what it used, and holds what it might use while it works', async () => {
    // Reserved: what is sent counts a token a byte, and what may be written; used: 18 tokens, 0.025 EUR.
    const chat = { model: 'openai', messages: [{ role: 'user', content: 'x'.repeat(60) }], maxTokens: 100 }
    expect(await use(chat, 'poor')).toMatchObject({ ok: true })
    const taken = () => (t.kernel.cards.list({ agent: 'acme/poor/a' })[0] as { budgets?: unknown }) ?? {}
    expect(JSON.stringify(t.kernel.cards.get((taken() as { id: string }).id))).toMatch(/tokens/)
    let calls = 1
    while ((await use(chat, 'poor')).ok) calls++
    // 400 tokens and 0.40 EUR: as many as fit with the reserve of the last.
    expect(calls).toBeGreaterThan(3)
    expect(calls).toBeLessThan(20)
    expect(await use(chat, 'poor')).toMatchObject({ ok: false, code: 'BudgetSpent', by: 'limit' })
  })

  it('that says it used less than nothing is held to have used all that it might', async () => {
    const chat = { model: 'script', messages: [{ role: 'user', content: 'x' }], maxTokens: 100 }
    usage = { input: 1, output: 1 }
    for (let i = 0; i < 30; i++) expect(await use(chat, 'lied')).toMatchObject({ ok: true })
    usage = { input: -500, output: 1 }
    let calls = 0
    while (calls < 30 && (await use(chat, 'lied')).ok) calls++
    expect(calls).toBeLessThan(10)
    expect(await use(chat, 'lied')).toMatchObject({ ok: false, code: 'BudgetSpent', by: 'limit' })
    usage = undefined
  })

  it('is a sink: who has read what may go to one model asks no other', async () => {
    expect(await use({}, 'private', 'db.read')).toMatchObject({ ok: true })
    expect(await use({ model: 'anthropic', ...CHAT }, 'private')).toMatchObject({ ok: false, by: 'flow' })
    expect(stub.asked).toEqual([])
    expect(await use({ model: 'openai', ...CHAT }, 'private')).toMatchObject({ ok: true })
  })

  it.each([400, 401, 429, 500])(
    'that answers %i is an error that says so, and nothing of what it said',
    async (status) => {
      stub.status = status
      for (const provider of ['openai', 'anthropic', 'google', 'bedrock', 'openrouter']) {
        const answer = await use({ model: provider, ...CHAT })
        expect(answer).toMatchObject({ ok: false, name: 'Unavailable' })
        expect(answer.code).toBe(status === 400 || status === 401 ? 'ToolRefused' : 'ToolFailed')
        expect(JSON.stringify(answer)).not.toContain(KEY)
        expect(JSON.stringify(answer)).not.toContain('pay ann')
      }
      expect(stub.asked).toHaveLength(5)
    },
  )

  it('says nothing of its key, whatever it answers', async () => {
    stub.text = `your key is ${KEY}, in base64 ${Buffer.from(KEY).toString('base64')}`
    const answer = await use({ model: 'openai', ...CHAT })
    expect(JSON.stringify(answer)).toContain('[secret model-key]')
    expect(JSON.stringify(answer)).not.toContain(KEY)
    expect(await use({ model: 'openai', messages: [{ role: 'user', content: KEY }] })).toMatchObject({
      ok: false,
      code: 'SecretByValue',
    })
  })

  it('may be a function, for tests and examples', async () => {
    const said = { model: 'script', messages: [{ role: 'user', content: 'hello' }] }
    expect(await use(said)).toMatchObject({
      ok: true,
      value: { text: 'you said hello', calls: [], finish: 'stop' },
    })
  })
})

describe('whoever watches', () => {
  it('is told the words in order, of that agent alone, while the agent has the result', async () => {
    const frames: { effect: string; seq: number; text: string }[] = []
    const others: unknown[] = []
    const stops = [
      t.kernel.progress.watch('acme/all/a', (frame) => frames.push(frame)),
      t.kernel.progress.watch('acme/all/b', (frame) => others.push(frame)),
    ]
    const long = 'word '.repeat(4000)
    const asked = { model: 'script', messages: [{ role: 'user', content: long }] }
    expect(await use(asked)).toMatchObject({ ok: true, value: { text: `you said ${long}` } })
    expect(frames.length).toBeGreaterThan(1)
    expect(frames.map(({ seq }) => seq)).toEqual(frames.map((_, i) => i))
    expect(frames.every(({ text }) => text.length <= 4096)).toBe(true)
    expect(frames.map(({ text }) => text).join('')).toBe(`you said ${long}`)
    expect(others).toEqual([])
    for (const stop of stops) stop()
    await use({ ...asked, messages: CHAT.messages })
    expect(frames.map(({ text }) => text).join('')).toBe(`you said ${long}`)
  })

  it('may do so over HTTP and from the command line, and hinders nobody by going away', async () => {
    const api = await serveApi({ kernel: t.kernel, port: 0 })
    const { begin, end, remove } = commandLine()
    try {
      const env = { CARDINAL_URL: api.url, CARDINAL_TOKEN: api.token }
      const begun = begin(['watch', 'acme/all/w'], /acme\/all\/w@\d+\.\d+: you said hello/, undefined, env)
      const ask = () =>
        t.call('acme/all/w', 'use', {
          name: 'llm.chat',
          args: { model: 'script', messages: [{ role: 'user', content: 'hello' }] },
        })
      let seen = false
      const { child } = await Promise.race([
        begun.then((it) => {
          seen = true
          return it
        }),
        (async () => {
          while (!seen) {
            await ask()
            await new Promise((resolve) => setTimeout(resolve, 100))
          }
          return begun
        })(),
      ])
      await end(child)
      expect(await ask()).toMatchObject({ ok: true })
      const stream = await fetch(`${api.url}/v1/agents/acme/all/w/progress`, {
        headers: { authorization: `Bearer ${api.token}` },
      })
      expect(stream.headers.get('content-type')).toBe('text/event-stream')
      const closed = (async () => {
        let text = ''
        for await (const chunk of (stream.body as ReadableStream<Uint8Array>).pipeThrough(
          new TextDecoderStream(),
        ))
          text += chunk
        return text
      })()
      await ask()
      await api.close()
      expect(await closed).toMatch(
        /event: progress\ndata: {"effect":"acme\/all\/w@\d+\.\d+","seq":0,"text":"you said hello"}/,
      )
    } finally {
      await api.close()
      remove()
    }
  }, 30_000)
})
