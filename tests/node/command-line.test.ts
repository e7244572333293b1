/** The command line as a new user meets it, mistakes included. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'

const { folder, main, env, run, begin, end, remove } = commandLine()
const cardinal = (args: readonly string[], cwd = path.join(folder, 'hello')) => run(args, cwd)

describe('the command line', () => {
  let node: ChildProcess
  const hello = path.join(folder, 'hello')
  beforeAll(async () => {
    expect(cardinal(['init', 'hello'], folder).status).toBe(0)
    node = (await begin(['dev', '--port', '0'], /applied/, hello)).child
  })
  afterAll(async () => {
    await end(node)
    remove()
  })

  it('runs the first agent that `init` makes', () => {
    expect(cardinal(['invoke', 'hello/world', 'greet', '{"name":"you"}'])).toMatchObject({
      status: 0,
      out: '"Hello, you. I am default/hello/world and have greeted 1 so far."\n',
    })
    expect(cardinal(['--format', 'json', 'agents', 'list']).out).toMatch(
      /^\[\{"address":"default\/hello\/world"/,
    )
  })

  it('explains a refusal', () => {
    cardinal(['invoke', 'hello/world', 'look'])
    const why = cardinal(['why', 'last', '--format', 'json'])
    expect(JSON.parse(why.out)).toMatchObject({
      verdict: 'refuse',
      by: 'card',
      nearest: { misses: ['host'] },
      missing: { host: 'example.org' },
    })
  })

  it('prints an invocation id, and gives its result later', () => {
    const id = cardinal(['invoke', 'hello/world', 'greet', '{"name":"later"}', '--detach']).out.trim()
    expect(id).toMatch(/^inv_[0-9a-f]{24}$/)
    expect(cardinal(['result', id, '--wait', '10']).out).toMatch(/Hello, later/)
  })

  it('verifies under the key that the node names, and says so of another', () => {
    expect(cardinal(['verify']).out).toMatch(/^verified/)
    expect(cardinal(['verify', '--key', '0'.repeat(64)]).status).toBe(1)
  })

  const mistakes: [string, string[], number, RegExp][] = [
    ['a command that is none', ['frobnicate'], 2, /unknown command/],
    ['a missing argument', ['invoke', 'hello/world'], 2, /missing required argument/],
    ['JSON that does not parse', ['invoke', 'hello/world', 'greet', '{name}'], 2, /JSON/],
    ['arguments of the wrong shape', ['invoke', 'hello/world', 'greet', '{}'], 2, /required property "name"/],
    ['a method that is none', ['invoke', 'hello/world', 'bye'], 3, /no method `bye`; it has greet, look/],
    ['a type that is none', ['invoke', 'nobody/x', 'bye'], 3, /no agent type `default\/nobody`/],
    ['an address that is none', ['invoke', 'hello', 'greet'], 2, /no address/],
    ['an invocation that is none', ['result', 'inv_x'], 3, /no invocation/],
    ['an effect that is none', ['why', 'hello/world@1.0'], 3, /no effect/],
    ['a manifest that is none', ['apply', 'missing.yaml'], 3, /does not exist/],
    ['a format that is none', ['agents', 'list', '--format', 'xml'], 2, /text, json/],
    [
      'a wait that is none',
      ['invoke', 'hello/world', 'greet', '{"name":"x"}', '--wait', '-5'],
      2,
      /whole number/,
    ],
    [
      'a key that no header carries',
      ['invoke', 'hello/world', 'greet', '{}', '--key', 'ключ'],
      2,
      /printable ASCII/,
    ],
    ['an empty key', ['invoke', 'hello/world', 'greet', '{}', '--key', ''], 2, /printable ASCII/],
    [
      'a file of arguments that is not there',
      ['invoke', 'hello/world', 'greet', '@no.json'],
      3,
      /cannot be read/,
    ],
    ['a port that is none', ['serve', '--port', '99999'], 2, /from 0 to 65535/],
    ['no connections', ['serve', '--connections', '0'], 2, /from 1 on/],
    [
      'a data folder that is a file',
      ['serve', '--data', 'cardinal.yaml', '--port', '0'],
      1,
      /cannot be used as a data folder/,
    ],
    ['an effect with a percent sign', ['why', '%'], 2, /no effect/],
    ['an outcome that is none', ['effects', 'resolve', 'hello/world@1.0', 'maybe'], 2, /done, failed/],
    [
      'an anchor that is not there',
      ['verify', '--anchor', '/no/such'],
      3,
      /anchor `\/no\/such` does not exist/,
    ],
    ['a public key that is none', ['verify', '--key', '00'], 2, /64 hexadecimal digits/],
    ['a token for no node', ['agents', 'list', '--url', 'http://127.0.0.1:9'], 4, /no token for/],
    ['erasing without a yes', ['agents', 'erase', 'hello/world'], 2, /--yes/],
  ]
  for (const [name, args, status, says] of mistakes) {
    it(`answers ${name} with exit code ${status}`, () => {
      const done = cardinal(args)
      expect(done.err).toMatch(says)
      expect(done.status).toBe(status)
      expect(done.out).toBe('')
    })
  }

  it('reads arguments from a file and from standard input', () => {
    const cwd = path.join(folder, 'hello')
    fs.writeFileSync(path.join(folder, 'args.json'), '{"name":"file"}')
    expect(cardinal(['invoke', 'hello/world', 'greet', `@${path.join(folder, 'args.json')}`]).out).toMatch(
      /Hello, file/,
    )
    const input = '{"name":"stdin"}'
    const piped = spawnSync(process.execPath, [main, 'invoke', 'hello/world', 'greet', '-'], {
      cwd,
      encoding: 'utf8',
      env,
      input,
    })
    expect(piped.stdout).toMatch(/Hello, stdin/)
  })

  it('makes no mistake in an option after the act: nothing is erased, nothing is called', () => {
    const turns = () =>
      JSON.parse(cardinal(['agents', 'get', 'hello/world', '--format', 'json']).out).turns as number
    const before = turns()
    expect(cardinal(['--format', 'csv', 'agents', 'erase', 'hello/world', '--yes']).status).toBe(2)
    expect(
      cardinal(['invoke', 'hello/world', 'greet', '{"name":"x"}', '--wait', '9'.repeat(20)]).status,
    ).toBe(2)
    expect(turns()).toBe(before)
  })

  it('prints an error as JSON where JSON is asked for, and ends with 6 for what is still open, in both', () => {
    const error = cardinal(['--format', 'json', 'invoke', 'hello/world', 'bye'])
    expect(JSON.parse(error.err)).toMatchObject({ class: 'NotFound', code: 'NoSuchMethod' })
    for (const format of ['text', 'json'])
      expect(cardinal(['invoke', 'hello/world', 'look', '--wait', '0', '--format', format]).status).toBe(6)
  })

  it('sends its token to no other node', async () => {
    const heard: (string | undefined)[] = []
    const { default: http } = await import('node:http')
    const other = http.createServer((request, response) => {
      heard.push(request.headers.authorization)
      response.end('{}')
    })
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as net.AddressInfo
    const url = `http://127.0.0.1:${port}`
    const run = (...args: string[]) =>
      new Promise<number | null>((resolve) =>
        spawn(process.execPath, [main, 'agents', 'list', '--url', url, ...args], {
          cwd: path.join(folder, 'hello'),
          env,
        }).once('exit', resolve),
      )
    expect(await run()).toBe(4)
    expect(heard).toEqual([])
    await run('--token', 'for-it')
    expect(heard).toEqual(['Bearer for-it'])
    other.close()
  })

  it('names file, line and column of a mistake in a manifest or a program, and applies nothing', () => {
    const text = fs.readFileSync(path.join(hello, 'cardinal.yaml'), 'utf8')
    const bad = path.join(folder, 'bad')
    fs.mkdirSync(bad)
    fs.writeFileSync(path.join(bad, 'cardinal.yaml'), text.replace('limits:', 'limit:'))
    fs.writeFileSync(path.join(bad, 'hello.ts'), 'export default class extends Nothing {')
    expect(cardinal(['apply', path.join(bad, 'cardinal.yaml')])).toMatchObject({
      status: 2,
      err: expect.stringMatching(/hello\.ts:1:39 /),
    })
    fs.writeFileSync(path.join(bad, 'hello.ts'), 'export default class {}')
    expect(cardinal(['apply', path.join(bad, 'cardinal.yaml')]).err).toMatch(
      /cardinal\.yaml:12:5 spec\.card\.limit: unknown field/,
    )
    fs.writeFileSync(path.join(bad, 'cardinal.yaml'), text)
    expect(cardinal(['apply', bad]).err).toMatch(/must be a class that extends Agent/)
    expect(JSON.parse(cardinal(['agents', 'get', 'hello/world', '--format', 'json']).out)).toMatchObject({
      generation: 1,
    })
  })

  it('names a folder that another kernel owns', async () => {
    const second = await begin(['serve', '--port', '0'], /listening on.*\n/, hello)
    expect(second).toMatchObject({ code: 5, said: expect.stringContaining('is in use by another kernel') })
  })

  it('names a port that is in use', async () => {
    const server = net.createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as net.AddressInfo
    const other = await begin(
      ['serve', '--data', path.join(folder, 'other'), '--port', String(port)],
      /listening on.*\n/,
      folder,
    )
    expect(other).toMatchObject({ code: 5, said: expect.stringMatching(/port \d+ is in use/) })
    server.close()
  })

  it('says where it looked when no node is running', () => {
    expect(cardinal(['agents', 'list'], folder)).toMatchObject({
      status: 3,
      err: expect.stringContaining('no node is running here'),
    })
  })
})

describe('the API', () => {
  it('answers nobody without its token, and problem+json to everybody', async () => {
    const { openTestKernel } = await import('../support/kernel.ts')
    const { serveApi } = await import('@cardinal/kernel')
    const t = await openTestKernel([])
    const api = await serveApi({ kernel: t.kernel, port: 0 })
    const ask = (token: string, route: string, body?: string) =>
      fetch(api.url + route, {
        headers: { authorization: `Bearer ${token}` },
        ...(body !== undefined && { method: 'POST', body }),
      })
    const no = await ask(`${api.token}x`, '/v1/health')
    expect(no.status).toBe(401)
    expect(no.headers.get('content-type')).toBe('application/problem+json')
    expect((await ask(api.token, '/v1/health')).status).toBe(200)
    const bad = await ask(api.token, '/v1/apply', '{"documents":')
    expect([bad.status, ((await bad.json()) as { code: string }).code]).toEqual([400, 'BadJson'])
    expect((await ask(api.token, '/v1/nothing')).status).toBe(404)
    const big = await ask(api.token, '/v1/agents/acme/x/y/invoke/m', `"${'x'.repeat(6 << 20)}"`)
    expect([big.status, ((await big.json()) as { code: string }).code]).toEqual([413, 'TooLarge'])
    const since = await ask(api.token, '/v1/agents/acme/x/y/history?since=abc')
    expect([since.status, ((await since.json()) as { code: string }).code]).toEqual([400, 'BadRequest'])
    expect((await ask(api.token, '/v1/why/%25')).status).toBe(400)
    const document = (await (await ask(api.token, '/v1/openapi.json')).json()) as {
      openapi: string
      paths: object
    }
    expect(document.openapi).toBe('3.1.0')
    expect(Object.keys(document.paths)).toContain('/v1/agents/{tenant}/{type}/{key}/invoke/{method}')
    await api.close()
    await t.close()
  })
})
