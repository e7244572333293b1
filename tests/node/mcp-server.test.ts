/** Agents as tools of the Model Context Protocol: a token and a card for each client, in both eras. */
import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import { type Api, serveApi } from '@cardinal/kernel'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { crashCopy, functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const require = createRequire(import.meta.url)
const run = promisify(execFile)
const written: unknown[] = []
const tools = [
  functionTool('db.read', 'read', () => 'read'),
  functionTool('db.write', 'once', (args) => {
    written.push(args)
    return 'written'
  }),
]
const DESK = {
  name: 'desk',
  file: programFile('desk.ts'),
  now: ['{ tool: db.*, args: "*", ask: [] }'],
}
const METHODS = ['read', 'write', 'own', 'upper', 'later', 'picture', 'closed']
const offered = (methods: readonly string[], key = 'ann') =>
  methods.map((method) => ({ name: method, agent: `desk/${key}`, method }))

let t: TestKernel
let api: Api
let wide: { token: string }
let narrow: { token: string }
let narrowCard: string

async function mint(now?: readonly object[]): Promise<string> {
  const like = await t.call('desk/ann', 'held', null)
  if (!like.ok) throw new Error(like.error.message)
  const minted = await t.kernel.cards.mint(
    { like: like.value as string, ...(now && { narrow: { now, ever: now } }) },
    'it',
  )
  return (minted as { id: string }).id
}

async function connect(token: string, url = `${api.url}/mcp`): Promise<Client> {
  const client = new Client({ name: 'it', version: '1' })
  const headers = { authorization: `Bearer ${token}` }
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }))
  return client
}

/** One call of one client, over a connection of its own. */
async function ask(
  token: string,
  name: string,
  args: Record<string, unknown> = {},
  meta?: Record<string, unknown>,
) {
  const client = await connect(token)
  try {
    return await client.callTool({ name, arguments: args, ...(meta && { _meta: meta }) })
  } finally {
    await client.close()
  }
}

const textOf = (answer: { content?: unknown }) => (answer.content as { text: string }[])[0]?.text
const post = (headers: Record<string, string>, body: object = { jsonrpc: '2.0', id: 1, method: 'ping' }) =>
  fetch(`${api.url}/mcp`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...headers,
    },
    body: JSON.stringify(body),
  })

beforeAll(async () => {
  t = await openTestKernel([DESK], { tools })
  api = await serveApi({ kernel: t.kernel, port: 0 })
  narrowCard = await mint([{ tool: 'db.read', args: '*' }])
  wide = await t.kernel.mcpClients.add(
    { tenant: 'acme', name: 'wide', card: await mint(), tools: offered(METHODS) },
    'it',
  )
  narrow = await t.kernel.mcpClients.add(
    { tenant: 'acme', name: 'narrow', card: narrowCard, tools: offered(['read', 'write', 'own', 'later']) },
    'it',
  )
})
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await api.close()
  await t.close()
})

describe('a client', () => {
  it('sees the methods that it is offered, as they describe themselves, and no others', async () => {
    const client = await connect(narrow.token)
    const { tools: seen } = await client.listTools()
    await client.close()
    expect(seen.map(({ name }) => name)).toEqual(['read', 'write', 'own', 'later', 'cardinal_result'])
    expect(seen[0]).toMatchObject({
      description: 'reads what is filed under a text',
      inputSchema: { type: 'object', required: ['text'] },
      outputSchema: { type: 'object', required: ['done'] },
    })
  })

  it('calls what it is offered, and nothing else', async () => {
    expect(await ask(narrow.token, 'read', { text: 'a' })).toMatchObject({
      structuredContent: { done: 'read' },
      content: [{ type: 'text', text: '{"done":"read"}' }],
    })
    await expect(ask(narrow.token, 'upper', { value: 'a' })).rejects.toThrow(/no tool `upper` is offered/)
    expect(await ask(wide.token, 'upper', { value: 'a' })).toMatchObject({ content: [{ text: 'A' }] })
  })

  it('has nothing done beyond its card, by an agent that may do it for another client', async () => {
    const before = written.length
    const refused = await ask(narrow.token, 'write', { text: 'n' })
    expect(refused).toMatchObject({ isError: true, _meta: { 'cardinal/error': { class: 'Refused' } } })
    expect(textOf(refused)).toMatch(/^Refused \(\w+\): .*; see acme\/desk\/ann@/)
    expect(written).toHaveLength(before)
    expect(await ask(wide.token, 'write', { text: 'w' })).toMatchObject({
      structuredContent: { done: 'written' },
    })
    expect(written).toHaveLength(before + 1)
  })

  it('has a method of its own authority done as that one may', async () => {
    expect(await ask(narrow.token, 'own', { text: 'o' })).toMatchObject({
      structuredContent: { done: 'written' },
    })
  })

  it('is told of arguments that the schema refuses, and of errors of the program', async () => {
    expect(await ask(wide.token, 'read', { text: 3 })).toMatchObject({ isError: true })
    const closed = await ask(wide.token, 'closed')
    expect(closed.isError).toBe(true)
    expect(textOf(closed)).toMatch(/the desk is closed/)
  })

  it('gets content of the protocol as the method made it', async () => {
    expect(await ask(wide.token, 'picture')).toMatchObject({
      content: [{ type: 'image', mimeType: 'image/png' }],
    })
  })

  it('calls once with one key, however often it asks', async () => {
    const before = written.length
    const meta = { 'cardinal/idempotency-key': 'k1' }
    const first = await ask(wide.token, 'write', { text: 'k' }, meta)
    const second = await ask(wide.token, 'write', { text: 'k' }, meta)
    expect(second).toMatchObject({ structuredContent: { done: 'written' } })
    expect(second._meta?.['cardinal/invocation']).toBe(first._meta?.['cardinal/invocation'])
    expect(written).toHaveLength(before + 1)
    await ask(wide.token, 'write', { text: 'k' }, { 'cardinal/idempotency-key': 'k2' })
    expect(written).toHaveLength(before + 2)
  })

  it('is on record as who it is', async () => {
    const answer = await ask(narrow.token, 'read', { text: 'b' })
    const invocation = String(answer._meta?.['cardinal/invocation'])
    expect(t.kernel.view.callerOf(invocation)).toEqual({
      tenant: 'acme',
      principal: expect.stringMatching(/^mcp\.narrow\.[0-9a-f]{12}$/),
    })
  })

  it('asks for the result of its own calls, and of nobody else’s', async () => {
    const answer = await ask(wide.token, 'write', { text: 'mine' })
    const invocation = String(answer._meta?.['cardinal/invocation'])
    expect(await ask(wide.token, 'cardinal_result', { invocation })).toMatchObject({
      structuredContent: { done: 'written' },
    })
    const other = await ask(narrow.token, 'cardinal_result', { invocation })
    expect(textOf(other)).toMatch(/NoSuchInvocation/)
  })

  it('hears of progress while a call waits, and the answer once there is one', async () => {
    const client = await connect(wide.token)
    const steps: number[] = []
    const asked = client.callTool(
      { name: 'later', arguments: {} },
      {
        onprogress: ({ progress }) => {
          steps.push(progress)
          if (steps.length === 1) void t.kernel.emit('acme/desk/ann', 'said', 'now')
        },
      },
    )
    expect(await asked).toMatchObject({ structuredContent: { said: 'now' } })
    expect(steps.length).toBeGreaterThan(0)
    await client.close()
  }, 30_000)
})

describe('nobody', () => {
  it('comes in without a token of a client, with the operator’s, or with that of one that was ended', async () => {
    expect((await post({})).status).toBe(401)
    expect((await post({ authorization: 'Bearer cmcp_x' })).status).toBe(401)
    expect((await post({ authorization: `Bearer ${api.token}` })).status).toBe(401)
    const gone = await t.kernel.mcpClients.add(
      { tenant: 'acme', name: 'gone', card: narrowCard, tools: offered(['read']) },
      'it',
    )
    expect((await post({ authorization: `Bearer ${gone.token}` })).status).toBe(200)
    await t.kernel.mcpClients.remove('acme', 'gone', 'it')
    expect((await post({ authorization: `Bearer ${gone.token}` })).status).toBe(401)
  })

  it('does anything else on the node with a client’s token', async () => {
    for (const route of ['/v1/agents', '/v1/mcp/clients', '/v1/secrets'])
      expect(
        (await fetch(`${api.url}${route}`, { headers: { authorization: `Bearer ${wide.token}` } })).status,
      ).toBe(401)
    expect(
      (await fetch(`${api.url}/v1/agents`, { headers: { authorization: `Bearer ${api.token}` } })).status,
    ).toBe(200)
  })

  it('comes in from a page in a browser, by another name of this machine or from another origin', async () => {
    const authorization = `Bearer ${wide.token}`
    expect((await post({ authorization, origin: 'https://evil.example' })).status).toBe(403)
    expect((await post({ authorization, origin: 'http://localhost:3000' })).status).toBe(200)
  })

  it('is shown a token again', () => {
    expect(JSON.stringify(t.kernel.mcpClients.list())).not.toContain(wide.token)
    expect(t.kernel.mcpClients.authenticate(wide.token)).toMatchObject({ name: 'wide' })
  })

  it('gets what was made for another client of its name, by result or by key', async () => {
    const meta = { 'cardinal/idempotency-key': 'shared' }
    const add = (card: string) =>
      t.kernel.mcpClients.add(
        { tenant: 'acme', name: 'twice', card, tools: offered(['read', 'write']) },
        'it',
      )
    const first = await add(await mint())
    const answer = await ask(first.token, 'write', { text: 'once' }, meta)
    const invocation = String(answer._meta?.['cardinal/invocation'])
    expect(await ask(first.token, 'cardinal_result', { invocation })).toMatchObject({
      structuredContent: { done: 'written' },
    })
    await t.kernel.mcpClients.remove('acme', 'twice', 'it')
    const second = await add(narrowCard)
    expect(textOf(await ask(second.token, 'cardinal_result', { invocation }))).toMatch(/NoSuchInvocation/)
    const again = await ask(second.token, 'write', { text: 'once' }, meta)
    expect(again).toMatchObject({ isError: true, _meta: { 'cardinal/error': { class: 'Refused' } } })
    await t.kernel.mcpClients.remove('acme', 'twice', 'it')
  })

  it.each(['removed', 'revoked'])(
    'is told what came of a call that was at work while it was %s',
    async (how) => {
      const card = await mint()
      const name = `late-${how}`
      const { token } = await t.kernel.mcpClients.add(
        { tenant: 'acme', name, card, tools: offered(['later']) },
        'it',
      )
      const client = await connect(token)
      const asked = client.callTool({ name: 'later', arguments: {} }).catch((error: Error) => error)
      await expect
        .poll(async () => JSON.stringify(await t.kernel.view.history('acme/desk/ann', { limit: 3 })))
        .toContain(name)
      if (how === 'removed') await t.kernel.mcpClients.remove('acme', name, 'it')
      else await t.kernel.cards.revoke(card, 'it')
      await t.kernel.emit('acme/desk/ann', 'said', 'the word').catch(() => {})
      expect(JSON.stringify(await asked)).not.toContain('the word')
      await client.close()
    },
  )
})

describe('a client that cannot be', () => {
  const wish = { tenant: 'acme', name: 'odd', tools: offered(['read']) }
  it.each([
    ['of no card', { card: 'card_0' }, 'NoSuchCard'],
    ['of a method that is none', { tools: offered(['readd']) }, 'NoSuchMethod'],
    ['of a type that is none', { tools: [{ name: 'a', agent: 'desc/ann', method: 'read' }] }, 'NoSuchType'],
    ['of another tenant', { tools: [{ name: 'a', agent: 'other/desk/ann', method: 'read' }] }, 'BadClient'],
    ['of a tool twice', { tools: offered(['read', 'read']) }, 'BadClient'],
    [
      'of a name of ours',
      { tools: [{ name: 'cardinal_x', agent: 'desk/ann', method: 'read' }] },
      'BadClient',
    ],
    ['without tools', { tools: [] }, 'BadClient'],
    ['of a name that is taken', { name: 'wide' }, 'ClientExists'],
    ['of a name that is none', { name: 'No Name' }, 'BadClient'],
  ])('%s is refused, and nothing changes', async (_what, change, code) => {
    const before = t.kernel.mcpClients.list()
    await expect(
      t.kernel.mcpClients.add({ card: narrowCard, ...wish, ...change }, 'it'),
    ).rejects.toMatchObject({ code })
    expect(t.kernel.mcpClients.list()).toEqual(before)
  })

  it('any more, as its card was revoked: refused from the next request on', async () => {
    const card = await mint([{ tool: 'db.read', args: '*' }])
    const { token } = await t.kernel.mcpClients.add({ ...wish, name: 'short', card }, 'it')
    expect(await ask(token, 'read', { text: 'x' })).toMatchObject({ structuredContent: { done: 'read' } })
    await t.kernel.cards.revoke(card, 'it')
    expect((await post({ authorization: `Bearer ${token}` })).status).toBe(403)
  })
})

it('a client and its token outlive a crash; one that was ended stays so', async () => {
  const after = await crashCopy(t, { tools })
  try {
    expect(after.kernel.mcpClients.list()).toEqual(t.kernel.mcpClients.list())
    expect(after.kernel.mcpClients.authenticate(narrow.token)).toMatchObject({ name: 'narrow' })
    expect(after.kernel.mcpClients.list().map(({ name }) => name)).not.toContain('gone')
  } finally {
    await after.close()
  }
})

it('the official inspector lists the tools and calls one', async () => {
  const inspector = require
    .resolve('@modelcontextprotocol/inspector/package.json')
    .replace('package.json', 'clients/launcher/build/index.js')
  const inspect = (...args: string[]) =>
    run(process.execPath, [
      inspector,
      '--cli',
      `${api.url}/mcp`,
      '--transport',
      'http',
      '--header',
      `authorization: Bearer ${wide.token}`,
      ...args,
    ])
  const listed = JSON.parse((await inspect('--method', 'tools/list')).stdout)
  expect(listed.tools.map(({ name }: { name: string }) => name)).toEqual([...METHODS, 'cardinal_result'])
  const called = JSON.parse(
    (await inspect('--method', 'tools/call', '--tool-name', 'read', '--tool-arg', 'text=a')).stdout,
  )
  expect(called).toMatchObject({ structuredContent: { done: 'read' } })
}, 60_000)

it('has 64 calls at work at a time, and the next once one has ended', async () => {
  const { token } = await t.kernel.mcpClients.add(
    { tenant: 'acme', name: 'many', card: await mint(), tools: offered(['later', 'picture'], 'many') },
    'it',
  )
  const client = await connect(token)
  const asked = Array.from({ length: 64 }, () => client.callTool({ name: 'later', arguments: {} }))
  await expect.poll(async () => textOf(await ask(token, 'picture'))).toMatch(/^Busy/)
  for (let i = 0; i < 64; i++) await t.kernel.emit('acme/desk/many', 'said', i)
  expect(await Promise.all(asked)).toHaveLength(64)
  expect((await ask(token, 'picture')).isError).toBeUndefined()
  await client.close()
})
