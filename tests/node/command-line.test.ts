/** The command line as a new user meets it, mistakes included. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tempFolder } from '../support/kernel.ts'

const main = path.join(import.meta.dirname, '../../packages/cli/src/main.ts')
const folder = tempFolder()
const env = {
  ...process.env,
  XDG_STATE_HOME: path.join(folder, 'state'),
  XDG_CONFIG_HOME: path.join(folder, 'config'),
  CARDINAL_URL: '',
  CARDINAL_TOKEN: '',
}

function cardinal(
  args: readonly string[],
  cwd = path.join(folder, 'hello'),
): { status: number | null; out: string; err: string } {
  const done = spawnSync(process.execPath, [main, ...args], { cwd, encoding: 'utf8', env })
  return { status: done.status, out: done.stdout, err: done.stderr }
}

function serve(
  args: readonly string[],
  cwd: string,
): Promise<{ child: ChildProcess; said: string; code: number | null }> {
  const child = spawn(process.execPath, [main, ...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  return new Promise((resolve) => {
    let said = ''
    child.stderr?.on('data', (chunk) => {
      said += String(chunk)
      if (/applied|listening on.*\n/.test(said) && (!args.includes('dev') || said.includes('applied')))
        resolve({ child, said, code: null })
    })
    child.once('exit', (code) => resolve({ child, said, code }))
  })
}

describe('the command line', () => {
  let node: ChildProcess
  const hello = path.join(folder, 'hello')
  beforeAll(async () => {
    expect(cardinal(['init', 'hello'], folder).status).toBe(0)
    node = (await serve(['dev', '--port', '0'], hello)).child
  })
  afterAll(async () => {
    const ended = new Promise((resolve) => node.once('exit', resolve))
    node.kill('SIGTERM')
    await ended
    fs.rmSync(folder, { recursive: true, force: true })
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
    expect(id).toMatch(/^inv_[0-9a-f]{20}$/)
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
    ['a format that is none', ['agents', 'list', '--format', 'xml'], 2, /text or json/],
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
    const second = await serve(['serve', '--port', '0'], hello)
    expect(second).toMatchObject({ code: 5, said: expect.stringContaining('is in use by another kernel') })
  })

  it('names a port that is in use', async () => {
    const server = net.createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as net.AddressInfo
    const other = await serve(['serve', '--data', path.join(folder, 'other'), '--port', String(port)], folder)
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
    await api.close()
    await t.close()
  })
})
