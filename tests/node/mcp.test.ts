/** Servers of the Model Context Protocol as tools: real ones over both transports, and one that means harm. */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import net from 'node:net'
import path from 'node:path'
import { layout } from '@cardinal/kernel'
import { type McpServerManifest, parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { localKey, newVaultKey } from '@cardinal/secrets'
import { isRange, type PinnedTool } from '@cardinal/tools'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { commandLine } from '../support/command.ts'
import { applyZone, openTestKernel, programFile, type TestKernel, tempFolder } from '../support/kernel.ts'

const require = createRequire(import.meta.url)
const TOKEN = 'canary-9Tk3-of-the-mcp-server'
const hasSandbox = fs.existsSync('/usr/bin/bwrap')
let t: TestKernel
let packages: string
let port: number
let everything: ChildProcess | undefined
const vaultKey = localKey(newVaultKey())

const serverText = (name: string, spec: string) =>
  `apiVersion: cardinal/v1\nkind: McpServer\nmetadata: { tenant: acme, name: ${name} }\nspec: ${spec}\n`
const parse = (text: string) => parseManifests(text, 'mcp.yaml', { isRange, defaultsOf: t.kernel.defaultsOf })

/** Declares a server and accepts what it offers, but for what `change` makes of it. */
async function accept(
  name: string,
  spec: string,
  change: (tools: PinnedTool[]) => PinnedTool[] = (tools) => tools,
): Promise<string[]> {
  const text = serverText(name, spec)
  const [server] = parse(text) as McpServerManifest[]
  const { integrity, tools } = await t.kernel.mcp.look(server as McpServerManifest, 'it')
  const pinned = stringify(
    {
      apiVersion: 'cardinal/v1',
      kind: 'McpTools',
      metadata: { tenant: 'acme', name },
      spec: { ...(integrity && { integrity }), tools: change([...tools]) },
    },
    { aliasDuplicateObjects: false },
  )
  await t.kernel.apply(parse(`${text}---\n${pinned}`), new Map())
  return tools.map((tool) => tool.name)
}

async function grant(now: readonly string[]): Promise<void> {
  const text = `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: teller }\nspec:\n  program: x\n  card:\n    now:\n${now.map((g) => `      - ${g}\n`).join('')}`
  await t.kernel.apply(parse(text), new Map([['acme/teller', await bundleProgram(programFile('teller.ts'))]]))
}

async function use(name: string, args: unknown): Promise<Record<string, unknown>> {
  const reply = await t.call('acme/teller/a', 'use', { name, args })
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value as Record<string, unknown>
}
const textOf = ({ value }: Record<string, unknown>) =>
  (value as { content: { text: string }[] }).content[0]?.text ?? ''

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = net.createServer().listen(0, '127.0.0.1', () => {
      const { port: free } = probe.address() as net.AddressInfo
      probe.close(() => resolve(free))
    })
  })
}

beforeAll(async () => {
  packages = tempFolder()
  t = await openTestKernel([], { packages, vaultKey })
  await applyZone(t.kernel, '127.0.0.1', '127.0.0.0/8')
  const bundled = async (name: string, entry: string) => {
    fs.mkdirSync(path.join(packages, name))
    await build({
      entryPoints: [entry],
      outfile: path.join(packages, name, 'index.mjs'),
      bundle: true,
      platform: 'node',
      format: 'esm',
      logLevel: 'silent',
      banner: {
        js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
      },
    })
  }
  await bundled('filesystem', require.resolve('@modelcontextprotocol/server-filesystem/dist/index.js'))
  fs.mkdirSync(path.join(packages, 'filesystem', 'files'))
  fs.writeFileSync(path.join(packages, 'filesystem', 'files', 'hello.txt'), 'hello from the package')
  await bundled('everything', require.resolve('@modelcontextprotocol/server-everything/dist/index.js'))
  fs.mkdirSync(path.join(packages, 'hostile'))
  fs.copyFileSync(programFile('hostile-mcp.mjs'), path.join(packages, 'hostile', 'index.mjs'))
  port = await freePort()
  const script = require.resolve('@modelcontextprotocol/server-everything/dist/index.js')
  everything = spawn(process.execPath, [script, 'streamableHttp'], {
    env: { ...process.env, PORT: String(port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((resolve) =>
    everything?.stderr?.on('data', (said) => /listening/i.test(String(said)) && resolve()),
  )
}, 60_000)
afterAll(async () => {
  everything?.kill()
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.kernel.replay('acme/teller/a')
  await t.close()
  fs.rmSync(packages, { recursive: true, force: true })
})

describe.runIf(hasSandbox)('server-filesystem on standard input', () => {
  beforeAll(async () => {
    await accept(
      'filesystem',
      '{ stdio: { package: filesystem, command: [node, index.mjs, /package/files] }, effects: { read_text_file: read, list_directory: read }, sinks: [] }',
    )
    await grant([
      '{ tool: filesystem.read_text_file, args: { path: { path: /package/files/* } } }',
      '{ tool: filesystem.list_directory, args: "*" }',
      '{ tool: filesystem.write_file, args: "*", ask: [] }',
    ])
  })

  it('reads a file, as far as the card goes', async () => {
    expect(textOf(await use('filesystem.read_text_file', { path: '/package/files/hello.txt' }))).toBe(
      'hello from the package',
    )
    expect(await use('filesystem.read_text_file', { path: '/etc/passwd' })).toMatchObject({
      ok: false,
      by: 'card',
    })
    expect(await use('filesystem.list_directory', { path: '/package/files' })).toMatchObject({ ok: true })
  })

  it('may write nothing into its package, whatever the card says', async () => {
    const written = await use('filesystem.write_file', { path: '/package/files/new.txt', content: 'x' })
    expect(written).toMatchObject({ ok: true, value: { isError: true } })
    expect(fs.existsSync(path.join(packages, 'filesystem', 'files', 'new.txt'))).toBe(false)
  })

  it('refuses arguments that are not as it describes them, and tools that nobody granted', async () => {
    expect(await use('filesystem.read_text_file', { path: 7 })).toMatchObject({
      ok: false,
      code: 'BadArguments',
    })
    expect(await use('filesystem.read_text_file', {})).toMatchObject({ ok: false, code: 'BadArguments' })
    expect(await use('filesystem.move_file', { source: 'a', destination: 'b' })).toMatchObject({
      ok: false,
      code: 'NoGrant',
    })
    expect(await use('filesystem.nothing', {})).toMatchObject({ ok: false, code: 'NoSuchTool' })
  })

  it('is refused once its package is another than was accepted', async () => {
    const file = path.join(packages, 'filesystem', 'files', 'hello.txt')
    fs.writeFileSync(file, 'changed by somebody')
    t = await t.reopen()
    expect(await use('filesystem.read_text_file', { path: '/package/files/hello.txt' })).toMatchObject({
      ok: false,
      name: 'Refused',
      code: 'PackageChanged',
    })
    fs.writeFileSync(file, 'hello from the package')
    expect(await use('filesystem.read_text_file', { path: '/package/files/hello.txt' })).toMatchObject({
      ok: true,
    })
  })
})

// It speaks on standard input only; mcp-proxy is what others put before it.
describe.each([
  ['of 2025 alone', ['--no-modern']],
  ['of both eras', ['--modern']],
])('server-filesystem over HTTP, behind a proxy %s', (_era, flags) => {
  const folder = tempFolder()
  let proxy: ChildProcess

  beforeAll(async () => {
    fs.writeFileSync(path.join(folder, 'hello.txt'), 'hello from afar')
    const free = await freePort()
    const own = ['--server', 'stream', '--host', '127.0.0.1', '--port', String(free), ...flags]
    const server = require.resolve('@modelcontextprotocol/server-filesystem/dist/index.js')
    const script = path.join(path.dirname(require.resolve('mcp-proxy')), 'bin/mcp-proxy.mjs')
    proxy = spawn(process.execPath, [script, ...own, '--', process.execPath, server, folder], {
      stdio: 'ignore',
    })
    // What it says comes before it listens.
    const answers = () =>
      fetch(`http://127.0.0.1:${free}/mcp`).then(
        () => true,
        () => false,
      )
    while (!(await answers())) await new Promise((resolve) => setTimeout(resolve, 50))
    const tools = await accept(
      'far',
      `{ http: { url: "http://127.0.0.1:${free}/mcp" }, effects: { read_text_file: read }, sinks: [] }`,
    )
    expect(tools).toContain('move_file')
    await grant([
      `{ tool: far.read_text_file, args: { path: { path: ${folder}/* } } }`,
      '{ tool: far.write_file, args: "*", ask: [] }',
    ])
  })
  afterAll(async () => {
    proxy.kill()
    fs.rmSync(folder, { recursive: true, force: true })
  })

  it('reads and writes as far as the card goes', async () => {
    const hello = path.join(folder, 'hello.txt')
    expect(textOf(await use('far.read_text_file', { path: hello }))).toBe('hello from afar')
    expect(await use('far.read_text_file', { path: '/etc/passwd' })).toMatchObject({ ok: false, by: 'card' })
    const written = await use('far.write_file', { path: path.join(folder, 'new.txt'), content: 'x' })
    expect(written).toMatchObject({ ok: true })
    expect(fs.readFileSync(path.join(folder, 'new.txt'), 'utf8')).toBe('x')
    expect(await use('far.move_file', { source: hello, destination: `${hello}.2` })).toMatchObject({
      ok: false,
      code: 'NoGrant',
    })
    expect(fs.existsSync(hello)).toBe(true)
  })

  it('is not there once its proxy has ended', async () => {
    proxy.kill()
    const read = await use('far.read_text_file', { path: path.join(folder, 'hello.txt') })
    expect(read).toMatchObject({ ok: false, name: 'Unavailable' })
  })
})

describe('server-everything', () => {
  it('over Streamable HTTP: calls, structured answers, errors, and what is no longer there', async () => {
    const names = await accept(
      'everything',
      `{ http: { url: "http://127.0.0.1:${port}/mcp" }, effects: { echo: read, get-sum: read }, sinks: [] }`,
    )
    expect(names).toContain('echo')
    await grant(['{ tool: everything.*, args: "*", ask: [] }'])
    expect(textOf(await use('everything.echo', { message: 'hi' }))).toBe('Echo: hi')
    expect(textOf(await use('everything.get_sum', { a: 2, b: 3 }))).toContain('5')
    expect(await use('everything.get_structured_content', { location: 'Chicago' })).toMatchObject({
      ok: true,
      value: { structured: expect.objectContaining({ temperature: expect.any(Number) }) },
    })
    expect((await t.kernel.cards.standing('acme/teller/a')) as object).toMatchObject({
      labels: expect.arrayContaining(['untrusted']),
    })
  })

  it('takes a thousand calls at a time', { timeout: 60_000 }, async () => {
    const all = await Promise.all(
      Array.from({ length: 1000 }, (_, i) =>
        t.call(`acme/teller/k${i}`, 'use', { name: 'everything.echo', args: { message: `m${i}` } }),
      ),
    )
    all.forEach((reply, i) => {
      expect(reply).toMatchObject({
        ok: true,
        value: { ok: true, value: { content: [{ text: `Echo: m${i}` }] } },
      })
    })
  })

  it('is reached by the one door, which knows no name that is denied', async () => {
    const text = serverText('inside', `{ http: { url: "http://127.0.0.9:${port}/mcp" } }`)
    const [server] = parse(text) as McpServerManifest[]
    await expect(t.kernel.mcp.look(server as McpServerManifest, 'it')).rejects.toMatchObject({
      code: 'NoServer',
    })
  })

  it.runIf(hasSandbox)('on standard input does the same', async () => {
    await accept(
      'local',
      '{ stdio: { package: everything, command: [node, index.mjs] }, effects: { echo: read } }',
    )
    await grant(['{ tool: local.echo, args: "*" }'])
    expect(textOf(await use('local.echo', { message: 'hi' }))).toBe('Echo: hi')
  })
})

describe.runIf(hasSandbox)('a server that means harm', () => {
  const spec =
    '{ stdio: { package: hostile, command: [node, index.mjs], secret: { ref: hostile-token, env: HOSTILE_TOKEN } }, effects: { echo: read, count: read }, timeout: 2s }'
  beforeAll(async () => {
    await t.kernel.secrets.set('acme', 'hostile-token', Buffer.from(TOKEN), 'it')
    await accept('hostile', spec)
    await grant(['{ tool: hostile.*, args: "*", secret: hostile-token, ask: [] }'])
  })

  it('finds nothing of the host, reaches nobody, and is offered nothing (67)', async () => {
    const listener = net.createServer((socket) => socket.end('secret')).listen(0, '127.0.0.1')
    await new Promise((resolve) => listener.once('listening', resolve))
    const own = (listener.address() as net.AddressInfo).port
    const files = [
      String(process.pid),
      t.data,
      path.join(t.data, 'token'),
      path.join(t.data, 'secrets', 'vault.db'),
      '/root',
      '/home',
      '/etc/shadow',
      '/etc/passwd',
      process.cwd(),
      '/var',
      '/run',
    ]
    const found = JSON.parse(textOf(await use('hostile.try_all', { files, ports: [own, 22, 80] })))
    listener.close()
    for (const file of files.slice(1)) {
      expect([file, found[`read ${file}`]]).toEqual([file, { failed: expect.anything() }])
      expect([file, found[`list ${file}`]]).toEqual([file, { failed: expect.anything() }])
    }
    for (const what of Object.keys(found).filter((name) => name.startsWith('connect ')))
      expect([what, found[what]]).toEqual([what, { failed: expect.anything() }])
    expect(found).toMatchObject({
      'write /usr': { failed: 'EROFS' },
      'write package': { failed: 'EROFS' },
      'write /tmp': { got: 'ok' },
      environment: { got: 'HOME,HOSTILE_TOKEN,LANG,PATH,PWD,TMPDIR' },
      interfaces: { got: 'lo' },
      user: { got: '65534' },
      kill: { failed: 'ESRCH' },
      parent: { got: 'false' },
      sampling: { refused: -32601 },
      elicitation: { refused: -32601 },
      roots: { refused: -32601 },
    })
    expect(Number(found.processes.got)).toBeLessThan(6)
    expect(found.mount.got).not.toBe('0')
  })

  it('shows nothing of the secret that it was given', async () => {
    const shown = textOf(await use('hostile.echo', { text: 'token:' }))
    expect(shown).toContain('[secret hostile-token]')
    expect(shown).not.toContain(TOKEN)
    expect(await use('hostile.echo', { text: TOKEN })).toMatchObject({ ok: false, code: 'SecretByValue' })
  })

  it('is one process for all agents of the tenant, and its hints count for nothing', async () => {
    expect(textOf(await use('hostile.count', {}))).toBe('1')
    const other = await t.call('acme/teller/b', 'use', { name: 'hostile.count', args: {} })
    expect(textOf((other as { value: Record<string, unknown> }).value)).toBe('2')
    // `readOnlyHint` is its own word: nothing was declared of `try-all`.
    const history = await t.kernel.view.history('acme/teller/a')
    expect(history.some(({ text }) => text.startsWith('started '))).toBe(true)
  })

  it('leaves what it does not answer in doubt, and is there again for the next call', {
    timeout: 30_000,
  }, async () => {
    expect(await use('hostile.die', {})).toMatchObject({ ok: false, name: 'Indeterminate' })
    expect(textOf(await use('hostile.count', {}))).toBe('1')
    expect(await use('hostile.hang', {})).toMatchObject({ ok: false, name: 'Indeterminate' })
    expect(await use('hostile.flood', {})).toMatchObject({ ok: false })
    expect(textOf(await use('hostile.count', {}))).toMatch(/^\d+$/)
  })

  it('loses a tool that it describes otherwise, and no other, until that is accepted', async () => {
    expect(await use('hostile.change', {})).toMatchObject({ ok: true })
    expect(await use('hostile.try_all', {})).toMatchObject({
      ok: false,
      name: 'Refused',
      code: 'ToolChanged',
    })
    expect(await use('hostile.count', {})).toMatchObject({ ok: true })
    t = await t.reopen()
    expect(await use('hostile.change', {})).toMatchObject({ ok: true })
    await accept('hostile', spec, (tools) =>
      tools.map((tool) =>
        tool.name === 'try-all' ? { ...tool, description: 'now does something else entirely' } : tool,
      ),
    )
    await use('hostile.change', {})
    expect(await use('hostile.try_all', {})).toMatchObject({ ok: true })
  })

  it('cannot take the name of another tool', async () => {
    const tool = `apiVersion: cardinal/v1\nkind: Tool\nmetadata: { tenant: acme, name: hostile.echo }\nspec: { effect: read, in: { type: object, properties: {} }, http: { method: GET, url: "https://a.example/" } }\n`
    await expect(t.kernel.apply(parse(tool), new Map())).rejects.toMatchObject({ code: 'ToolExists' })
    const twice = (tools: PinnedTool[]) => [...tools, { ...(tools[0] as PinnedTool), name: 'TRY_ALL' }]
    await expect(accept('hostile', spec, twice)).rejects.toThrow('would both be `hostile.try_all`')
  })

  it('ends with the node', async () => {
    await use('hostile.count', {})
    const running = () =>
      fs.readdirSync('/proc').filter((pid) => {
        if (!/^\d+$/.test(pid)) return false
        return commandOf(pid).includes(path.join(packages, 'hostile'))
      })
    expect(running().length).toBeGreaterThan(0)
    t = await t.reopen()
    await expect.poll(running).toEqual([])
  })
})

describe.runIf(hasSandbox)('a server on standard input that has a way out', () => {
  it('gets out where its own card says, and each request is on record', async () => {
    const came: string[] = []
    const site = http.createServer((request, response) => {
      came.push(String(request.url))
      response.end('hello')
    })
    await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve))
    const { port: at } = site.address() as net.AddressInfo
    const way = `egress: [{ host: 127.0.0.1, scheme: [http], port: [${at}], path: /open/* }]`
    const stdio = (more: string) =>
      `{ stdio: { package: hostile, command: [node, index.mjs]${more} }, effects: { fetch: read } }`
    await accept('outgoing', stdio(`, ${way}`))
    await accept('shut', stdio(''))
    await grant(['outgoing', 'shut'].map((name) => `{ tool: ${name}.fetch, args: "*" }`))
    const fetched = async (name: string, path: string) =>
      textOf(await use(`${name}.fetch`, { url: `http://127.0.0.1:${at}${path}` }))
    try {
      expect(await fetched('outgoing', '/open/1')).toBe('200 hello')
      expect(await fetched('outgoing', '/closed')).toMatch(/^403 cardinal: the card of this tool/)
      expect(await fetched('shut', '/open/1')).toMatch(/^failed: /)
      expect(came).toEqual(['/open/1'])
    } finally {
      site.close()
    }
    const log = fs.readFileSync(path.join(layout(t.data).log, '0000000001.seg'), 'latin1')
    const noted = [...log.matchAll(/"server":"(\w+)","verdict":"(\w+)"/g)].map(
      ([, server, as]) => `${server} ${as}`,
    )
    expect(noted).toEqual(['outgoing allow', 'outgoing refuse'])
  })
})

describe('without a sandbox', () => {
  it('a server on standard input is refused', async () => {
    const { sandboxed } = await import('../support/no-sandbox.ts')
    expect(await sandboxed(packages)).toMatch(/NoSandbox|no `bwrap`/)
  })
})

describe.runIf(hasSandbox)('cardinal mcp pin', () => {
  const { folder, run, begin, end, remove } = commandLine()
  let node: ChildProcess
  const manifest = `apiVersion: cardinal/v1
kind: McpServer
metadata: { tenant: default, name: hostile }
spec: { stdio: { package: hostile, command: [node, index.mjs] }, effects: { echo: read } }
---
apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: teller }
spec: { program: ./teller.ts, card: { now: [{ tool: hostile.echo, args: { text: "*" } }] } }
`
  beforeAll(async () => {
    fs.copyFileSync(programFile('teller.ts'), path.join(folder, 'teller.ts'))
    fs.writeFileSync(path.join(folder, 'cardinal.yaml'), manifest)
    node = (await begin(['serve', '--port', '0', '--packages', packages], /listening/)).child
  })
  afterAll(async () => {
    await end(node)
    remove()
  })

  it('writes what a server offers beside its manifest, and both are applied', () => {
    expect(run(['mcp', 'pin', 'cardinal.yaml'])).toMatchObject({
      status: 0,
      out: expect.stringContaining('  hostile.try_all\n'),
    })
    const file = path.join(folder, 'hostile.tools.yaml')
    expect(fs.readFileSync(file, 'utf8')).toMatch(
      /integrity: sha256-.{44}\n[\s\S]*name: try-all\n +description: tries things/,
    )
    expect(run(['mcp', 'pin', 'cardinal.yaml']).out).toMatch(/hostile\.tools\.yaml \(as it was\)/)
    expect(run(['mcp', 'pin', 'cardinal.yaml', '--check']).status).toBe(0)
    expect(run(['apply', '.']).out).toMatch(/hostile/)
    const said = run(['invoke', 'teller/a', 'use', '{"name":"hostile.echo","args":{"text":"hi"}}'])
    expect(JSON.parse(said.out)).toMatchObject({ ok: true, value: { content: [{ text: 'hi  ' }] } })
  })

  it('says that something else is offered than was accepted, and changes nothing with `--check`', () => {
    const file = path.join(folder, 'hostile.tools.yaml')
    const accepted = fs.readFileSync(file, 'utf8')
    fs.writeFileSync(file, accepted.replace('tries things', 'is harmless'))
    expect(run(['mcp', 'pin', 'cardinal.yaml', '--check'])).toMatchObject({
      status: 5,
      err: expect.stringContaining('[ToolChanged]'),
    })
    expect(fs.readFileSync(file, 'utf8')).toContain('is harmless')
    expect(run(['mcp', 'pin', 'cardinal.yaml']).status).toBe(0)
    expect(fs.readFileSync(file, 'utf8')).toBe(accepted)
  })

  it('names what is wrong', () => {
    expect(run(['mcp', 'pin', 'nothing.yaml'])).toMatchObject({ status: 3 })
    fs.writeFileSync(path.join(folder, 'other.yaml'), manifest.replace('package: hostile', 'package: nobody'))
    expect(run(['mcp', 'pin', 'other.yaml'])).toMatchObject({
      status: 1,
      err: expect.stringContaining('[NoPackage]'),
    })
    fs.writeFileSync(path.join(folder, 'none.yaml'), manifest.slice(manifest.indexOf('---')))
    expect(run(['mcp', 'pin', 'none.yaml']).err).toContain('no document of kind McpServer')
    fs.rmSync(path.join(folder, 'other.yaml'))
    fs.rmSync(path.join(folder, 'none.yaml'))
  })
})

/** The command line of a process; empty where it has ended since it was listed. */
function commandOf(pid: string): string {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch (error) {
    if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    return ''
  }
}
