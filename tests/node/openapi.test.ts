/** Tools from OpenAPI documents that others wrote: imported, applied, called. */
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { ManifestError, parseFiles } from '@cardinal/manifests'
import { type Imported, toolsOfOpenApi } from '@cardinal/manifests/openapi'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { localKey, newVaultKey } from '@cardinal/secrets'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { applyZone, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const examples = path.dirname(createRequire(import.meta.url).resolve('@readme/oas-examples/package.json'))
const example = (file: string) => path.join(examples, file)
const read = (file: string) => fs.readFileSync(example(file), 'utf8')
const all = ['2.0', '3.0', '3.1'].flatMap((version) =>
  ['json', 'yaml'].flatMap((kind) =>
    fs.existsSync(example(`${version}/${kind}`))
      ? fs
          .readdirSync(example(`${version}/${kind}`))
          .filter((file) => file.endsWith(`.${kind}`))
          .map((file) => `${version}/${kind}/${file}`)
      : [],
  ),
)
const textOf = ({ tools }: Imported) => tools.map((tool) => JSON.stringify(tool)).join('\n---\n')
const parse = (text: string, defaultsOf: TestKernel['kernel']['defaultsOf'] = () => undefined) =>
  parseFiles([{ file: 'tools.yaml', text }], { isRange, defaultsOf })

describe('documents that others wrote', () => {
  it(`become tools that apply takes, or say why not: all ${all.length} of them`, () => {
    let tools = 0
    for (const file of all) {
      const server = 'https://api.example'
      const imported = (() => {
        try {
          return toolsOfOpenApi(read(file), file, {
            tenant: 'acme',
            prefix: 'it',
            server,
            secret: 's',
            answers: 'all',
          })
        } catch (error) {
          // One describes webhooks alone.
          expect(error, file).toBeInstanceOf(ManifestError)
          expect((error as Error).message, file).toMatch(/webhooks\.\w+:1:1 a document without `paths`/)
          return { tools: [], left: [], notes: [], bare: [] }
        }
      })()
      expect(
        imported.left.every(({ why }) => why !== ''),
        file,
      ).toBe(true)
      expect(parse(textOf(imported)), file).toHaveLength(imported.tools.length)
      tools += imported.tools.length
    }
    expect(all.length).toBeGreaterThan(100)
    expect(tools).toBeGreaterThan(500)
  })

  it('name their operations in our words, and say which they leave out', () => {
    const { tools, left } = toolsOfOpenApi(read('3.0/json/petstore.json'), 'petstore.json', {
      tenant: 'acme',
      prefix: 'pets',
    })
    expect(tools.map(({ metadata }) => metadata.name)).toContain('pets.find_pets_by_status')
    expect(left.map(({ operation }) => operation)).toEqual([
      'createUsersWithArrayInput',
      'createUsersWithListInput',
    ])
    const add = tools.find(({ metadata }) => metadata.name === 'pets.add_pet')
    expect(add?.spec).toMatchObject({ effect: 'once', http: { method: 'POST', body: 'json' } })
    const get = tools.find(({ metadata }) => metadata.name === 'pets.get_pet_by_id')
    expect(get?.spec).toMatchObject({ effect: 'read', out: { type: 'object' } })
  })
})

describe('what cannot be imported', () => {
  const options = { tenant: 'acme', server: 'https://api.example' }
  it.each([
    ['is no document', 'hello', /neither `openapi/],
    ['is no YAML', '{', /^api\.yaml:1:1 /],
    [
      'expands without end',
      `openapi: 3.0.0\na0: &a0 [x]\n${Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i}, `.repeat(9)}]\n`).join('')}paths: *a9\n`,
      /alias/i,
    ],
    ['has no paths', 'openapi: 3.1.0\n', /without `paths`/],
  ])('%s', (_what, text, message) => {
    expect(() => toolsOfOpenApi(text, 'api.yaml', options)).toThrow(message)
  })

  it('says nowhere whom to ask', () => {
    const text = 'openapi: 3.1.0\npaths: {}\nservers: [{ url: /v1 }]\n'
    expect(() => toolsOfOpenApi(text, 'api.yaml', { tenant: 'acme' })).toThrow(/where the service is/)
    expect(toolsOfOpenApi(text, 'api.yaml', options).tools).toEqual([])
  })

  it('is at another server than the rest, and would take a secret there', () => {
    const at = (url: string) =>
      `openapi: 3.1.0\nservers: [{ url: "https://api.example" }]\npaths: { /a: { get: { operationId: a, servers: [{ url: "${url}" }] } } }\n`
    const other = toolsOfOpenApi(at('https://other.example/v2'), 'api.yaml', { tenant: 'acme' })
    expect(other).toMatchObject({
      tools: [],
      left: [{ operation: 'a', why: /another server, other\.example/ }],
    })
    const same = toolsOfOpenApi(at('https://api.example/v2'), 'api.yaml', { tenant: 'acme' })
    expect(same.tools[0]?.spec).toMatchObject({ http: { url: 'https://api.example/v2/a' } })
  })

  it('leads to no other host, port or scheme than it was asked of, whatever its paths and servers are', () => {
    const made = (path: string, servers?: string) => {
      const get = { operationId: 'a', ...(servers && { servers: [{ url: servers }] }) }
      const text = JSON.stringify({
        openapi: '3.1.0',
        security: [{ k: [] }],
        components: { securitySchemes: { k: { type: 'http', scheme: 'bearer' } } },
        paths: { [path]: { get } },
      })
      const { tools, left } = toolsOfOpenApi(text, 'api.json', {
        tenant: 'acme',
        server: 'https://api.example',
        secret: 's',
      })
      const made = tools[0]?.spec.http as { url: string } | undefined
      return made ? made.url : left[0]?.why
    }
    for (const path of ['.evil.example/x', ':8443/x', '@evil.example/x', '__proto__', 'x', '//{h}/x', ''])
      expect(made(path), path).not.toMatch(/^https?:/)
    for (const server of [
      'http://api.example',
      'https://api.example:8443',
      'https://a@evil.example',
      '/v2',
      'https://api.example.{h}/',
    ])
      expect(made('/x', server), server).not.toMatch(/^https?:/)
    expect(made('/x')).toBe('https://api.example/x')
    expect(made('/x', 'https://api.example/v2')).toBe('https://api.example/v2/x')
  })

  it('holds itself, or grows without end, or is of another shape: it is left out, or taken as far as it goes', () => {
    const doc = (more: object) => JSON.stringify({ openapi: '3.1.0', ...more })
    const body = (name: string) => ({
      content: { 'application/json': { schema: { $ref: `#/components/schemas/${name}` } } },
    })
    const schemas: Record<string, object> = {
      self: { allOf: [{ $ref: '#/components/schemas/self' }], properties: { a: { type: 'string' } } },
      s0: { type: 'string' },
    }
    for (let i = 1; i <= 30; i++) {
      const next = { $ref: `#/components/schemas/s${i - 1}` }
      schemas[`s${i}`] = { type: 'object', properties: { a: next, b: next } }
    }
    const paths = {
      '/self': { post: { operationId: 'self', requestBody: body('self') } },
      '/wide': { post: { operationId: 'wide', requestBody: body('s30') } },
      '/odd': {
        get: {
          operationId: 'odd',
          parameters: [null, 3],
          requestBody: null,
          responses: { 200: null },
          security: [null],
        },
      },
    }
    const began = Date.now()
    const { tools, left } = toolsOfOpenApi(doc({ components: { schemas }, paths }), 'api.json', options)
    expect(Date.now() - began).toBeLessThan(10_000)
    expect(tools.map(({ spec }) => (spec.in as { properties: object }).properties)).toEqual([
      { a: { type: 'string' } },
      {},
    ])
    expect(left).toEqual([{ operation: 'wide', why: expect.stringContaining('schemas') }])
    expect(() => toolsOfOpenApi(doc({ paths }), 'api.json', { tenant: 'acme', server: 'nonsense' })).toThrow(
      ManifestError,
    )
  })

  it('sends nothing that nobody wrote: a default is told, and what is only ever answered is not asked for', () => {
    const property = {
      private: { type: 'boolean', default: false },
      id: { type: 'string', readOnly: true },
      pin: { type: 'string', writeOnly: true },
    }
    const schema = { type: 'object', required: ['id', 'pin'], properties: property }
    const content = { 'application/json': { schema } }
    const operation = {
      operationId: 'a',
      requestBody: { required: true, content },
      responses: { 200: { content } },
    }
    const text = JSON.stringify({ openapi: '3.1.0', paths: { '/a': { patch: operation } } })
    const [tool] = toolsOfOpenApi(text, 'api.json', { ...options, answers: 'all' }).tools
    expect(tool?.spec.in).toEqual({
      type: 'object',
      properties: { private: { type: 'boolean', description: 'false if left out' }, pin: { type: 'string' } },
      required: ['pin'],
    })
    expect(tool?.spec.out).toMatchObject({ required: ['id'], properties: { id: {}, private: {} } })
    expect(tool?.spec.out).not.toHaveProperty('properties.pin')
  })

  it('is an operation that is not there', () => {
    const petstore = read('3.0/json/petstore.json')
    expect(() => toolsOfOpenApi(petstore, 'p.json', { tenant: 'acme', only: ['addPett'] })).toThrow(
      /no operation `addPett`/,
    )
    expect(toolsOfOpenApi(petstore, 'p.json', { tenant: 'acme', only: ['addPet'] }).tools).toHaveLength(1)
  })
})

describe('a service by its document', () => {
  const KEY = 'canary-7Hq2-key-of-the-petstore'
  const seen: { method: string | undefined; url: string | undefined; key: unknown; body: string }[] = []
  let answer = '{"id":7,"name":"Rex","photoUrls":[]}'
  const service = http.createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    seen.push({ method: request.method, url: request.url, key: request.headers.api_key, body })
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(answer)
  })
  let t: TestKernel

  beforeAll(async () => {
    service.listen(0, '127.0.0.1')
    await once(service, 'listening')
    const { port } = service.address() as AddressInfo
    t = await openTestKernel([], { vaultKey: localKey(newVaultKey()) })
    await t.kernel.secrets.set('acme', 'petstore', Buffer.from(KEY), 'it')
    await applyZone(t.kernel, '127.0.0.1', '127.0.0.0/8')
    const imported = toolsOfOpenApi(read('3.0/json/petstore.json'), 'petstore.json', {
      tenant: 'acme',
      prefix: 'pets',
      server: `http://127.0.0.1:${port}/v2`,
      secret: 'petstore',
    })
    const grants = [
      '{ tool: pets.add_pet, args: { name: [Rex], photoUrls: "*", tags: "*", category: { optional: true } }, secret: petstore, ask: [] }',
      '{ tool: pets.find_pets_by_status, args: { status: "*" }, secret: petstore }',
      '{ tool: pets.get_pet_by_id, args: { petId: [7] }, secret: petstore }',
    ]
    const agent = `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: teller }\nspec:\n  program: x\n  card:\n    now:\n${grants.map((g) => `      - ${g}\n`).join('')}`
    await t.kernel.apply(
      parse(`${textOf(imported)}\n---\n${agent}`, t.kernel.defaultsOf),
      new Map([['acme/teller', await bundleProgram(programFile('teller.ts'))]]),
    )
  })
  afterAll(async () => {
    expect((await t.kernel.audit()).mismatches).toEqual([])
    await t.close()
    service.close()
  })
  beforeEach(() => {
    seen.length = 0
  })

  async function use(name: string, args: unknown): Promise<Record<string, unknown>> {
    const reply = await t.call('acme/teller/a', 'use', { name, args })
    if (!reply.ok) throw new Error(JSON.stringify(reply.error))
    return reply.value as Record<string, unknown>
  }

  it('takes nested arguments as they are, within what a card says of each', async () => {
    const pet = { name: 'Rex', photoUrls: ['https://a.example/1'], tags: [{ id: 1, name: 'good' }] }
    expect(await use('pets.add_pet', pet)).toMatchObject({ ok: true })
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual(pet)
    expect(await use('pets.add_pet', { ...pet, name: 'Tom' })).toMatchObject({ ok: false, by: 'card' })
    expect(seen).toHaveLength(1)
  })

  it('is not asked with arguments that are not as it describes them', async () => {
    const wrong = await use('pets.add_pet', { name: 'Rex', photoUrls: [1] })
    expect(wrong).toMatchObject({ ok: false, message: expect.stringContaining('photoUrls') })
    expect(await use('pets.find_pets_by_status', { status: ['gone'] })).toMatchObject({ ok: false })
    expect(seen).toHaveLength(0)
  })

  it('has a list in the query once for each value', async () => {
    answer = '[]'
    expect(await use('pets.find_pets_by_status', { status: ['sold', 'pending'] })).toMatchObject({
      ok: true,
      value: [],
    })
    expect(seen[0]?.url).toBe('/v2/pet/findByStatus?status=sold&status=pending')
    // Without it, it would be another request; and no longer than any other.
    expect(await use('pets.find_pets_by_status', { status: [] })).toMatchObject({ code: 'BadArguments' })
    const many = Array.from({ length: 2000 }, () => 'sold')
    expect(await use('pets.find_pets_by_status', { status: many })).toMatchObject({ code: 'BadArguments' })
    expect(seen).toHaveLength(1)
  })

  it('gets its secret where the document says', async () => {
    answer = '{"id":7,"name":"Rex","photoUrls":[]}'
    expect(await use('pets.get_pet_by_id', { petId: 7 })).toMatchObject({ ok: true, value: { id: 7 } })
    expect(seen[0]).toMatchObject({ method: 'GET', url: '/v2/pet/7', key: KEY })
  })

  it('is held to how it describes its answers, where it is read', async () => {
    answer = '{"id":"seven","name":"Rex","photoUrls":[]}'
    expect(await use('pets.get_pet_by_id', { petId: 7 })).toMatchObject({ ok: false, code: 'ToolAnswer' })
  })
})

describe('cardinal tools import', () => {
  const { folder, run, remove } = commandLine()
  afterAll(remove)

  it('writes a manifest, says what is left out, and notices when it is out of date', () => {
    const from = example('3.0/json/petstore.json')
    const first = run(['tools', 'import', from, '--prefix', 'pets', '--secret', 'petstore'])
    expect(first).toMatchObject({ status: 0, out: 'pets.tools.yaml: 18 tools, 2 operations left out\n' })
    expect(first.err).toContain('left out createUsersWithListInput: ')
    const written = fs.readFileSync(path.join(folder, 'pets.tools.yaml'), 'utf8')
    expect(parse(written)).toHaveLength(18)
    const again = ['tools', 'import', from, '--prefix', 'pets', '--secret', 'petstore', '--check']
    expect(run(again).status).toBe(0)
    fs.appendFileSync(path.join(folder, 'pets.tools.yaml'), '# changed\n')
    expect(run(again)).toMatchObject({ status: 5, err: expect.stringContaining('ToolChanged') })
    // A document does not choose which file is written over.
    fs.writeFileSync(path.join(folder, 'pets.tools.yaml'), '# ours\n')
    expect(run(['tools', 'import', from, '--prefix', 'pets'])).toMatchObject({
      status: 5,
      err: expect.stringContaining('FileExists'),
    })
    expect(fs.readFileSync(path.join(folder, 'pets.tools.yaml'), 'utf8')).toBe('# ours\n')
  })

  it('says what is wrong with a document, a file and an option', () => {
    fs.writeFileSync(path.join(folder, 'no.yaml'), 'a: 1\n')
    expect(run(['tools', 'import', 'no.yaml'])).toMatchObject({
      status: 2,
      err: expect.stringContaining('no.yaml:1:1'),
    })
    expect(run(['tools', 'import', 'none.yaml']).status).toBe(3)
    expect(run(['tools', 'import', 'no.yaml', '--answers', 'some']).status).toBe(2)
  })
})
