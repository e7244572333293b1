/** Programs as tools, in the sandbox: real ones, and what an agent would have them do. */
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { localKey, newVaultKey } from '@cardinal/secrets'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const TOKEN = 'canary-3Wd8-of-a-program'
const has = (program: string) => ['/usr/bin', '/bin'].some((at) => fs.existsSync(path.join(at, program)))
let t: TestKernel

const tool = (name: string, spec: string) =>
  `apiVersion: cardinal/v1\nkind: Tool\nmetadata: { tenant: acme, name: ${name} }\nspec:\n${spec}\n---\n`
const text = (names: string) => `  in: { type: object, properties: { ${names} } }\n`
const TOOLS = [
  tool(
    'jq.run',
    `  effect: read\n${text('filter: { type: string }, input: { type: string }')}  cli: { program: jq, flagsEnd: none, args: [-c, { positional: filter }], stdin: input, answer: json }`,
  ),
  tool(
    'jq.raw',
    `  effect: read\n${text('filter: { type: string }, input: { type: string }')}  cli: { program: jq, flagsEnd: none, args: [-r, { positional: filter }, { file: input, named: in.json }] }`,
  ),
  tool(
    'sql.run',
    `  effect: read\n${text('sql: { type: string }')}  cli: { program: sqlite3, flagsEnd: none, args: [-batch, ":memory:", { positional: sql }] }`,
  ),
  tool(
    'git.hash',
    `  effect: read\n${text('text: { type: string }')}  cli: { program: git, args: [hash-object, --stdin], stdin: text }`,
  ),
  tool(
    'git.remote',
    `  effect: read\n${text('url: { type: string }')}  cli: { program: git, args: [ls-remote, --, { positional: url }], timeout: 5s }`,
  ),
  tool(
    'awk.run',
    `  effect: read\n${text('program: { type: string }')}  cli: { program: awk, args: [--, { positional: program }], timeout: 3s, memory: 256 }`,
  ),
  tool(
    'env.print',
    `  effect: read\n${text('name: { type: string }')}  cli: { program: printenv, args: [--, { positional: name }], env: { PLAIN: seen }, secret: { ref: cli-token, env: TOKEN }, exits: [0, 1] }`,
  ),
  tool(
    'odd.print',
    `  effect: read\n${text('name: { type: string }')}  cli: { program: printenv, args: [--, { positional: name }], env: { LD_PRELOAD: /nowhere.so, PATH: /nowhere, ENV: /nowhere, IFS: x }, exits: [0, 1] }`,
  ),
  tool(
    'file.copy',
    `  effect: read\n${text('doc: { type: string }')}  cli: { program: cp, args: [--, { file: doc, named: in.bin, as: base64 }, { out: copy.bin }] }`,
  ),
  tool(
    'file.none',
    `  effect: read\n${text('text: { type: string }')}  cli: { program: tee, args: [--, { out: a.txt }, { out: b.txt }], stdin: text }`,
  ),
  tool(
    'file.big',
    `  effect: read\n${text('size: { type: string }')}  cli: { program: truncate, args: [{ flag: --size, arg: size }, --, { out: big.bin }] }`,
  ),
  tool(
    'file.fail',
    `  effect: read\n${text('doc: { type: string }')}  cli: { program: cp, args: [--, { positional: doc }, { out: copy.bin }], exits: [0, 1] }`,
  ),
  tool(
    'file.env',
    `  effect: read\n${text('doc: { type: string }')}  cli: { program: cp, args: [--, /proc/self/environ, { out: copy.bin }], secret: { ref: cli-token, env: TOKEN } }`,
  ),
  tool(
    'once.run',
    `  effect: once\n${text('n: { type: integer }')}  cli: { program: sleep, args: [--, { positional: n }], timeout: 500ms }`,
  ),
].join('')

async function use(name: string, args: unknown): Promise<Record<string, unknown>> {
  const reply = await t.call('acme/teller/a', 'use', { name, args })
  if (!reply.ok) throw new Error(JSON.stringify(reply.error))
  return reply.value as Record<string, unknown>
}
const out = async (name: string, args: unknown) => {
  const { value } = (await use(name, args)) as { value?: { code: number; stdout: string; stderr: string } }
  return value
}

beforeAll(async () => {
  t = await openTestKernel([], { vaultKey: localKey(newVaultKey()) })
  const grants = [
    'file.copy',
    'file.none',
    'file.big',
    'file.fail',
    'jq.*',
    'sql.*',
    'git.*',
    'awk.*',
    'odd.*',
    'once.*',
  ].map((name) => `{ tool: ${name}, args: "*", ask: [] }`)
  const now = [
    ...grants,
    '{ tool: env.print, args: "*", secret: cli-token }',
    '{ tool: file.env, args: "*", secret: cli-token }',
  ]
    .map((g) => `      - ${g}\n`)
    .join('')
  const agent = `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: teller }\nspec:\n  program: x\n  card:\n    now:\n${now}`
  const manifests = parseManifests(`${TOOLS}${agent}`, 'cli.yaml', {
    isRange,
    defaultsOf: t.kernel.defaultsOf,
  })
  await t.kernel.apply(manifests, new Map([['acme/teller', await bundleProgram(programFile('teller.ts'))]]))
  await t.kernel.secrets.set('acme', 'cli-token', Buffer.from(TOKEN), 'it')
}, 60_000)
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.kernel.replay('acme/teller/a')
  await t.close()
})

describe('files', () => {
  // Every byte there is, so that nothing is taken for text.
  const bytes = Buffer.from(Array.from({ length: 4096 }, (_, i) => i % 256))
  const base64 = bytes.toString('base64')

  it('go in and come out byte for byte', async () => {
    expect(await out('file.copy', { doc: base64 })).toEqual({
      code: 0,
      stdout: '',
      stderr: '',
      files: { 'copy.bin': base64 },
    })
    expect(await out('file.copy', { doc: '' })).toMatchObject({ files: { 'copy.bin': '' } })
    expect(await use('file.copy', { doc: 'no base 64' })).toMatchObject({ ok: false, code: 'BadArguments' })
  })

  it('come out as far as they are there, each by its name', async () => {
    const both = Buffer.from('both').toString('base64')
    expect(await out('file.none', { text: 'both' })).toMatchObject({
      stdout: 'both',
      files: { 'a.txt': both, 'b.txt': both },
    })
    expect(await out('file.fail', { doc: '/nowhere' })).toMatchObject({ code: 1, files: {} })
  })

  it('are bounded together', async () => {
    expect(await out('file.big', { size: '1M' })).toMatchObject({ code: 0 })
    expect(await use('file.big', { size: '4M' })).toMatchObject({ ok: false, code: 'ToolFailed' })
    expect(await use('file.big', { size: '300M' })).toMatchObject({ ok: false, code: 'ToolFailed' })
  })

  it('never show a secret', async () => {
    const { files } = (await out('file.env', {})) as unknown as { files: Record<string, string> }
    const text = Buffer.from(files['copy.bin'] ?? '', 'base64').toString()
    expect(text).toContain('TOKEN=')
    expect(text).not.toContain(TOKEN)
  })

  it('are of the home of an agent, which reads and writes them itself', async () => {
    const manifest = `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: converter }\nspec:\n  program: x\n  card: { now: [{ tool: file.copy, args: "*" }] }\n`
    const bundle = await bundleProgram(programFile('converter.ts'))
    await t.kernel.apply(
      parseManifests(manifest, 'c.yaml', { isRange, defaultsOf: t.kernel.defaultsOf }),
      new Map([['acme/converter', bundle]]),
    )
    await t.call('acme/converter/a', 'make', { path: '/in.bin', base64 })
    expect(await t.call('acme/converter/a', 'copy', { from: '/in.bin', to: '/out.bin' })).toEqual({
      ok: true,
      value: 0,
    })
    expect(await t.call('acme/converter/a', 'read', { path: '/out.bin' })).toEqual({
      ok: true,
      value: base64,
    })
    expect((await t.kernel.files.read('acme/converter/a', '/out.bin', 'it')).equals(bytes)).toBe(true)
  })
})

describe('a program', () => {
  it.runIf(has('jq'))('answers what it prints, as JSON or as it is, with its exit code', async () => {
    expect(await use('jq.run', { filter: '.a + 1', input: '{"a":41}' })).toEqual({ ok: true, value: 42 })
    expect(await out('jq.raw', { filter: '.a', input: '{"a":{"b":1}}' })).toEqual({
      code: 0,
      stdout: '{\n  "b": 1\n}\n',
      stderr: '',
    })
    expect(await out('jq.raw', { filter: '.a', input: 'no JSON' })).toMatchObject({
      code: expect.any(Number),
      stderr: expect.stringMatching(/parse error|Invalid/),
    })
    expect(await use('jq.run', { filter: '.a', input: 'no JSON' })).toMatchObject({
      ok: false,
      code: 'ToolFailed',
    })
  })

  it.runIf(has('jq'))('takes no argument for a flag', async () => {
    for (const filter of ['-h', '--argfile', '--from-file=/etc/passwd'])
      expect(await use('jq.run', { filter, input: '1' })).toMatchObject({ ok: false, code: 'BadArguments' })
    expect(await use('jq.run', { filter: '.\0', input: '1' })).toMatchObject({
      ok: false,
      code: 'BadArguments',
    })
    expect(await use('jq.run', { filter: '. - 1', input: '1' })).toEqual({ ok: true, value: 0 })
  })

  it.runIf(has('jq'))('sees no environment, no file and no other process than its own', async () => {
    expect(await use('jq.run', { filter: 'env | keys', input: '1' })).toMatchObject({
      ok: true,
      value: ['HOME', 'LANG', 'PATH', 'PWD', 'TMPDIR'],
    })
    const seen = await use('jq.run', { filter: 'input_filename', input: '1' })
    expect(seen).toMatchObject({ ok: true, value: '<stdin>' })
  })

  it.runIf(has('sqlite3'))(
    'runs what its own language lets it, and that finds nothing (sqlite3, `.shell`)',
    async () => {
      expect(await out('sql.run', { sql: 'select 40 + 2' })).toMatchObject({ code: 0, stdout: '42\n' })
      const token = path.join(t.data, 'token')
      const vault = path.join(t.data, 'secrets', 'vault.db')
      for (const sql of [
        `.shell cat ${token} ${vault} /etc/shadow`,
        `select readfile('${token}')`,
        `.import ${token} t`,
        `attach '${vault}' as v; select * from v.secrets`,
      ]) {
        const found = await out('sql.run', { sql })
        expect(found?.stdout ?? '').not.toMatch(/\S{20}/)
      }
      expect(
        (await out('sql.run', { sql: `.shell ls ${t.data} /root /home; id -u; ls /work /tmp` }))?.stdout ??
          '',
      ).toBe('65534\n/tmp:\n\n/work:\n')
      expect((await out('sql.run', { sql: '.shell ls /proc | grep -c "^[0-9]"' }))?.stdout).toMatch(
        /^[1-9]\n$/,
      )
    },
  )

  it.runIf(has('git'))('reaches nobody, whatever it is told to reach (git, `core.sshCommand`)', async () => {
    expect(await out('git.hash', { text: 'hello' })).toMatchObject({
      code: 0,
      stdout: 'b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0\n',
    })
    let reached = 0
    const listener = net.createServer(() => reached++).listen(0, '127.0.0.1')
    await new Promise((resolve) => listener.once('listening', resolve))
    const { port } = listener.address() as net.AddressInfo
    for (const url of [
      `http://127.0.0.1:${port}/x`,
      `git://127.0.0.1:${port}/x`,
      'http://169.254.169.254/latest',
      'ext::sh -c "cat /etc/shadow >&2"',
      `file://${t.data}`,
    ])
      expect(await out('git.remote', { url })).toMatchObject({
        code: 128,
        stdout: '',
      })
    expect(await use('git.remote', { url: '-c core.sshCommand=id' })).toMatchObject({
      ok: false,
      code: 'BadArguments',
    })
    expect(await use('git.remote', { url: '--upload-pack=id' })).toMatchObject({
      ok: false,
      code: 'BadArguments',
    })
    expect(reached).toBe(0)
    listener.close()
  })

  it.runIf(has('awk'))('is bounded in time, memory and what it prints', { timeout: 30_000 }, async () => {
    expect(await use('awk.run', { program: 'BEGIN { print 1 }' })).toMatchObject({
      ok: true,
      value: { stdout: '1\n' },
    })
    expect(await use('awk.run', { program: 'BEGIN { for (;;) ; }' })).toMatchObject({
      ok: false,
      name: 'Unavailable',
      code: 'ToolFailed',
    })
    expect(
      await use('awk.run', { program: 'BEGIN { for (;;) print "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" }' }),
    ).toMatchObject({ ok: false, code: 'ToolFailed' })
    expect(
      await use('awk.run', {
        program: 'BEGIN { s = "x"; for (i = 0; i < 40; i++) s = s s; print length(s) }',
      }),
    ).not.toMatchObject({ ok: true, value: { code: 0 } })
    expect(
      await out('awk.run', {
        program:
          'BEGIN { while ((getline line < "/etc/passwd") > 0) print line; print "x" > "/usr/planted" }',
      }),
    ).toMatchObject({ code: 2, stdout: '' })
  })

  it('has its secret in a variable, and prints it to nobody', async () => {
    expect(await out('env.print', { name: 'PLAIN' })).toMatchObject({ stdout: 'seen\n' })
    expect(await out('env.print', { name: 'TOKEN' })).toMatchObject({ stdout: '[secret cli-token]\n' })
    expect(await use('env.print', { name: TOKEN })).toMatchObject({ ok: false, code: 'SecretByValue' })
  })

  it('has variables that mean nothing to the programs around it', async () => {
    for (const [name, value] of [
      ['PATH', '/nowhere'],
      ['IFS', 'x'],
      ['LD_PRELOAD', '/nowhere.so'],
    ]) {
      const printed = await out('odd.print', { name })
      expect(printed).toMatchObject({ code: 0, stdout: `${value}\n` })
      // Its own loader says so, and nobody else's: those that make the sandbox never had it.
      expect(printed?.stderr.match(/cannot be preloaded/g)).toHaveLength(1)
    }
    expect(await out('odd.print', { name: 'CARDINAL_ENV_0' })).toMatchObject({ code: 1, stdout: '' })
  })

  it('has no secret that a variable cannot hold', async () => {
    const { secrets } = t.kernel
    for (const bytes of [
      Buffer.from('a-long-secret\0with-an-end'),
      Buffer.from('ff00fe80ff00fe80c1', 'hex'),
    ]) {
      await secrets.rotate('acme', 'cli-token', bytes, 'it')
      expect(await use('env.print', { name: 'PLAIN' })).toMatchObject({ ok: false, code: 'SecretUnusable' })
    }
    await secrets.rotate('acme', 'cli-token', Buffer.from(TOKEN), 'it')
    expect(await out('env.print', { name: 'PLAIN' })).toMatchObject({ stdout: 'seen\n' })
  })

  it('is given no more words than a command line holds, and the node lives', async () => {
    const ask = (bytes: number) => use('sql.run', { sql: `select length('${'x'.repeat(bytes)}')` })
    expect(await ask(60_000)).toMatchObject({ ok: true, value: { code: 0, stdout: '60000\n' } })
    expect(await ask(70_000)).toMatchObject({ ok: false, code: 'BadArguments' })
    expect(await ask(200_000)).toMatchObject({ ok: false, code: 'BadArguments' })
    expect(await ask(10)).toMatchObject({ ok: true })
  })

  it('that must happen once and does not end is in doubt', async () => {
    expect(await use('once.run', { n: 0 })).toMatchObject({ ok: true, value: { code: 0 } })
    expect(await use('once.run', { n: 9 })).toMatchObject({ ok: false, name: 'Indeterminate' })
  })

  it('reads its files, of any size, and none of them is ever on a disk of the host', async () => {
    const before = fs.readdirSync(os.tmpdir()).sort()
    const input = JSON.stringify({ rows: 'y'.repeat(1 << 20) })
    const asked = use('jq.raw', { filter: '.rows | length', input })
    const during: string[][] = []
    const timer = setInterval(() => during.push(fs.readdirSync(os.tmpdir()).sort()), 1)
    expect(await asked).toMatchObject({ ok: true, value: { code: 0, stdout: `${1 << 20}\n` } })
    clearInterval(timer)
    expect(during.length).toBeGreaterThan(0)
    expect(during.flat().filter((name) => !before.includes(name) && !/^cardinal-test-/.test(name))).toEqual(
      [],
    )
  })

  it('writes nowhere but into its own memory', async () => {
    const write = (to: string) =>
      out('awk.run', {
        program: `BEGIN { print "x" > "${to}"; close("${to}"); getline line < "${to}"; print line }`,
      })
    expect(await write('/tmp/mine')).toMatchObject({ code: 0, stdout: 'x\n' })
    for (const to of ['/mine', '/work/mine', '/usr/mine'])
      expect(await write(to)).toMatchObject({ code: 2, stdout: '' })
    expect(
      await out('awk.run', { program: 'BEGIN { getline line < "/tmp/mine"; print line }' }),
    ).toMatchObject({
      stdout: '\n',
    })
  })

  it('is declared with typed words, and is no shell', () => {
    const wrong: [spec: string, says: string][] = [
      [
        `${text('a: { type: string }')}  cli: { program: bash, args: [-c] }`,
        'spec.cli.program: `bash` runs whatever it is told to',
      ],
      [`${text('a: { type: string }')}  cli: { program: env, args: [] }`, 'runs whatever it is told to'],
      [
        `${text('a: { type: string }')}  cli: { program: cp, args: [{ out: a }, { out: a }] }`,
        'spec.cli.args: a file comes out twice',
      ],
      [
        `${text('a: { type: string }')}  cli: { program: cp, args: [{ out: a }], answer: json }`,
        'spec.cli.answer: files come out beside code and output',
      ],
      [`${text('a: { type: string }')}  cli: { program: cp, args: [{ out: ../a }] }`, 'spec.cli.args[0]'],
      [
        `${text('a: { type: string }')}  cli: { program: cp, args: [${Array.from({ length: 7 }, (_, i) => `{ out: f${i} }`).join(', ')}] }`,
        'more than 6 files that come out',
      ],
      [`${text('a: { type: string }')}  cli: { program: ../jq, args: [] }`, 'the name of a program'],
      [
        `${text('a: { type: string }')}  cli: { program: jq, args: [{ positional: a }] }`,
        'behind a word `--`',
      ],
      [
        `${text('a: { type: string }')}  cli: { program: jq, args: [--, { positional: b }] }`,
        'there is no argument `b`',
      ],
      [
        `${text('a: { type: string }')}  cli: { program: jq, args: [{ file: a, named: ../x }] }`,
        'a file name',
      ],
      [
        `${text('a: { type: string }')}  cli: { program: jq, args: [] }\n  http: { method: GET, url: "https://a.example/" }`,
        'one of `http`, `cli`, `wasm` and `host`',
      ],
      [text('a: { type: string }'), 'one of `http`, `cli`, `wasm` and `host`'],
    ]
    for (const [spec, says] of wrong)
      expect(() =>
        parseManifests(tool('x.y', `  effect: read\n${spec}`).replace(/---\n$/, ''), 'cli.yaml', {
          isRange,
          defaultsOf: t.kernel.defaultsOf,
        }),
      ).toThrow(says)
  })
})
