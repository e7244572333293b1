/** `cardinal secrets` as an operator types it, on nodes that are started in every way. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { programFile } from '../support/kernel.ts'
import { type Reflecting, startReflecting } from '../support/reflecting.ts'

const VALUE = 'canary-8Hq1-of-the-command-line'

const manifest = (port: number) => `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: messenger }
spec:
  program: ./messenger.ts
  secrets:
    ledger: { ref: ledger-token, tool: http.fetch, host: 127.0.0.1, slot: header.authorization, as: bearer }
    file: { ref: file/ledger, tool: http.fetch, host: 127.0.0.1, slot: header.authorization }
    env: { ref: env/ledger, tool: http.fetch, host: 127.0.0.1, slot: header.authorization }
    kv: { ref: kv/team/ledger, tool: http.fetch, host: 127.0.0.1, slot: header.authorization }
  card:
    now:
      - { tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [${port}], path: "*", secret: ledger }
      - { tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [${port}], path: "*", secret: file/* }
      - { tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [${port}], path: "*", secret: env/ledger }
      - { tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [${port}], path: "*", secret: kv/team/* }
---
apiVersion: cardinal/v1
kind: Zone
metadata: { name: here }
spec: { hosts: [127.0.0.1], ranges: [127.0.0.0/8] }
`

describe('cardinal secrets', () => {
  const { folder, run, runBeside, begin, end, remove } = commandLine()
  let service: Reflecting
  let node: ChildProcess
  const send = (handle: string) =>
    runBeside([
      'invoke',
      'messenger/a',
      'send',
      JSON.stringify({
        url: `http://127.0.0.1:${service.port}/plain`,
        headerSecrets: { authorization: handle },
      }),
    ])
  const sent = () => service.seen.at(-1)?.headers.authorization

  beforeAll(async () => {
    service = await startReflecting()
    fs.copyFileSync(programFile('messenger.ts'), path.join(folder, 'messenger.ts'))
    fs.writeFileSync(path.join(folder, 'cardinal.yaml'), manifest(service.port))
    node = (await begin(['dev', '--port', '0'], /applied default\/messenger/)).child
  }, 60_000)
  afterAll(async () => {
    await end(node)
    await service.close()
    remove()
  })

  it('keeps what comes from standard input, without its line break, and never prints it', async () => {
    expect(run(['secrets', 'set', 'ledger-token'], folder, `${VALUE}\n`)).toEqual({
      status: 0,
      out: 'default ledger-token  version 1\n',
      err: '',
    })
    const listed = run(['secrets', 'list'])
    expect(listed.out).toMatch(/^default {2}ledger-token {2}version 1 {2}\d{4}-/)
    expect((await send('ledger')).out).toContain('[secret ledger-token]')
    expect(sent()).toBe(`Bearer ${VALUE}`)
    expect(JSON.parse(run(['secrets', 'list', '--tenant', 'acme', '--format', 'json']).out)).toEqual([])
  })

  it('says what is wrong, and changes nothing then', () => {
    const wrong: [args: string[], input: string, status: number, says: RegExp][] = [
      [['set', 'ledger-token'], 'another', 5, /rotate.*\[SecretExists\]/],
      [['rotate', 'ledger-tokn'], 'another', 3, /no secret `ledger-tokn` \[NoSuchSecret\]/],
      [['rm', 'ledger-tokn'], '', 3, /NoSuchSecret/],
      [['set', '../x'], 'another', 2, /no name of a secret \[BadSecret\]/],
      [['set', 'file/x'], 'another', 2, /not the vault's \[BadSecret\]/],
      [['set', 'empty'], '\n', 2, /no value on standard input/],
      [['set', 'long'], 'x'.repeat(9000), 2, /at most 8192 bytes/],
      [['set'], '', 2, /missing required argument 'name'/],
      [['set', 'a', 'value'], '', 2, /too many arguments/],
    ]
    for (const [args, input, status, says] of wrong) {
      const ran = run(['secrets', ...args], folder, input)
      expect([args, ran.status, ran.err]).toEqual([args, status, expect.stringMatching(says)])
    }
    expect(run(['secrets', 'list']).out.split('\n')).toHaveLength(2)
  })

  it('gives a secret its next value without a restart, and forgets one', async () => {
    expect(run(['secrets', 'rotate', 'ledger-token'], folder, 'the next value of it').out).toMatch(
      /version 2/,
    )
    await send('ledger')
    expect(sent()).toBe('Bearer the next value of it')
    expect(run(['secrets', 'rm', 'ledger-token']).out).toBe('removed ledger-token\n')
    expect((await send('ledger')).out).toContain('NoSuchSecret')
    expect(run(['secrets', 'set', 'ledger-token'], folder, VALUE).out).toMatch(/version 4/)
  })

  it('keeps the key of a vault beside the data, for nobody else to read', () => {
    const key = path.join(folder, '.cardinal', 'vault.key')
    expect(fs.statSync(key).mode & 0o777).toBe(0o600)
    expect(run(['secrets', 'key']).out).toMatch(/^[A-Za-z0-9+/]{43}=\n$/)
    expect(run(['secrets', 'key']).out).not.toBe(run(['secrets', 'key']).out)
  })

  it.runIf(fs.existsSync('/proc/self/coredump_filter'))('holds its memory out of core dumps', () => {
    const filter = fs.readFileSync(`/proc/${node.pid}/coredump_filter`, 'utf8').trim()
    expect(Number.parseInt(filter, 16)).toBe(0)
    expect(Number.parseInt(fs.readFileSync('/proc/self/coredump_filter', 'utf8'), 16)).not.toBe(0)
  })

  describe('on a node that is served', () => {
    const served = async (args: string[], env: Record<string, string> = {}) => {
      await end(node)
      const begun = await begin(['serve', '--port', '0', ...args], /listening|\[/, folder, env)
      node = begun.child
      return begun
    }

    it('is refused without a key, and with one that is weak or another', async () => {
      await served([])
      expect(run(['secrets', 'set', 'x'], folder, 'a value of some length')).toMatchObject({
        status: 1,
        err: expect.stringContaining('[NoVault]'),
      })
      expect((await send('ledger')).out).toContain('NoVault')
      const other = path.join(folder, 'other.key')
      fs.writeFileSync(other, run(['secrets', 'key']).out, { mode: 0o600 })
      expect((await served(['--vault-key', `file:${other}`])).said).toContain('[OtherVaultKey]')
      fs.writeFileSync(other, 'correct horse battery staple 123')
      expect((await served(['--vault-key', `file:${other}`])).said).toContain('[WeakVaultKey]')
      expect((await served(['--vault-key', 'correct horse'])).said).toContain('[VaultKey]')
      await served(['--vault-key', 'file:.cardinal/vault.key'])
      expect((await send('ledger')).out).toContain('[secret ledger-token]')
    })

    it('goes on with another key once its vault was wrapped by it, and that is on record', async () => {
      const [first, second] = ['first', 'second'].map((name) => {
        const file = path.join(folder, `${name}.key`)
        fs.writeFileSync(file, run(['secrets', 'key']).out, { mode: 0o600 })
        return `file:${file}`
      }) as [string, string]
      const rekey = (from: string, to: string) => run(['secrets', 'rekey', '--vault-key', from, '--to', to])
      const dev = 'file:.cardinal/vault.key'
      await served(['--vault-key', dev])
      expect(rekey(dev, first)).toMatchObject({ status: 5, err: expect.stringContaining('FolderInUse') })
      await end(node)
      expect(rekey(second, first)).toMatchObject({ status: 1, err: expect.stringContaining('OtherVaultKey') })
      expect(rekey(dev, dev)).toMatchObject({ status: 2, err: expect.stringContaining('the same key') })
      expect(rekey(dev, 'nothing')).toMatchObject({ status: 2, err: expect.stringContaining('VaultKey') })
      expect(run(['secrets', 'rekey', 'nowhere', '--vault-key', dev, '--to', first]).err).toContain('NoVault')
      expect(rekey(dev, first).out).toMatch(/^\d+ secrets; the vault opens with [0-9a-f]{16} from now on/)
      expect((await begin(['serve', '--port', '0', '--vault-key', dev], /listening|\[/)).said).toContain(
        '[OtherVaultKey]',
      )
      node = (await begin(['serve', '--port', '0', '--vault-key', first], /listening/)).child
      expect((await send('ledger')).out).toContain('[secret ledger-token]')
      const log = fs.readFileSync(path.join(folder, '.cardinal/data/log/0000000001.seg'), 'latin1')
      expect(log.match(/"id":"[0-9a-f]{16}","before":"[0-9a-f]{16}"/g)).toHaveLength(1)
      await end(node)
      expect(rekey(first, dev).status).toBe(0)
      node = (await begin(['serve', '--port', '0', '--vault-key', dev], /listening/)).child
    })

    it('takes secrets from files, from the environment, and from a service of the KV protocol', async () => {
      const asked: string[] = []
      const kv = http.createServer((request, response) => {
        asked.push(`${request.headers['x-vault-token']} ${request.url}`)
        const found = request.url === '/v1/secret/data/cardinal/default/team/ledger'
        response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' })
        response.end(
          JSON.stringify(
            found
              ? { data: { data: { value: 'kept-in-a-kv-service' }, metadata: { version: 3 } } }
              : { errors: [] },
          ),
        )
      })
      await new Promise<void>((resolve) => kv.listen(0, '127.0.0.1', resolve))
      const files = path.join(folder, 'run-secrets')
      fs.mkdirSync(path.join(files, 'default'), { recursive: true })
      fs.mkdirSync(path.join(files, 'other'))
      fs.writeFileSync(path.join(files, 'default', 'ledger'), 'kept-in-a-file\n')
      fs.writeFileSync(path.join(folder, 'kv-token'), 'token-of-the-node\n')
      const url = `http://127.0.0.1:${(kv.address() as AddressInfo).port}/v1/secret/data/cardinal`
      const variable = JSON.stringify({ default: { ledger: 'kept-in-the-environment' } })
      const token = `file:${path.join(folder, 'kv-token')}`
      await served(['--secret-files', files, '--kv', url, '--kv-token', token], {
        CARDINAL_SECRETS: variable,
      })
      for (const [handle, value] of [
        ['file', 'kept-in-a-file'],
        ['env', 'kept-in-the-environment'],
        ['kv', 'kept-in-a-kv-service'],
      ] as const) {
        const answer = (await send(handle)).out
        expect(sent()).toBe(value)
        expect(answer).toMatch(new RegExp(`\\[secret ${handle}/`))
        expect(answer).not.toContain(value)
      }
      expect(asked).toEqual(['token-of-the-node /v1/secret/data/cardinal/default/team/ledger'])
      fs.writeFileSync(path.join(files, 'default', 'ledger'), 'rotated-in-its-file')
      await send('file')
      expect(sent()).toBe('rotated-in-its-file')
      // A link out of the tenant's own folder is no secret of the tenant.
      fs.writeFileSync(path.join(files, 'other', 'theirs'), 'of-another-tenant')
      fs.rmSync(path.join(files, 'default', 'ledger'))
      fs.symlinkSync('../other/theirs', path.join(files, 'default', 'ledger'))
      expect((await send('file')).out).toContain('NoSuchSecret')
      kv.close()
      kv.closeAllConnections()
      expect((await send('kv')).out).toContain('SecretSource')
    })
  })
})

const dumpsBeside = () => /^core/.test(fs.readFileSync('/proc/sys/kernel/core_pattern', 'utf8'))

describe.runIf(process.platform === 'linux' && dumpsBeside())('45: a core dump', () => {
  const { folder, run, runBeside, begin, end, remove } = commandLine()
  const dumpOf = async (child: ChildProcess, cwd: string): Promise<Buffer> => {
    spawnSync('prlimit', ['--pid', String(child.pid), '--core=unlimited'], { stdio: 'inherit' })
    const ended = once(child, 'exit')
    child.kill('SIGABRT')
    await ended
    const name = fs.readdirSync(cwd).find((file) => /^core(\.\d+)?$/.test(file))
    const bytes = name === undefined ? Buffer.alloc(0) : fs.readFileSync(path.join(cwd, name))
    if (name !== undefined) fs.rmSync(path.join(cwd, name))
    return bytes
  }
  afterAll(remove)

  it('of a node that has used a secret holds none of it; one of another process that has it does', async () => {
    const service = await startReflecting()
    fs.copyFileSync(programFile('messenger.ts'), path.join(folder, 'messenger.ts'))
    fs.writeFileSync(path.join(folder, 'cardinal.yaml'), manifest(service.port))
    const { child } = await begin(['dev', '--port', '0'], /applied default\/messenger/)
    try {
      expect(run(['secrets', 'set', 'ledger-token'], folder, VALUE).status).toBe(0)
      const asked = {
        url: `http://127.0.0.1:${service.port}/plain`,
        headerSecrets: { authorization: 'ledger' },
      }
      await runBeside(['invoke', 'messenger/a', 'send', JSON.stringify(asked)])
      expect(service.seen.at(-1)?.headers.authorization).toBe(`Bearer ${VALUE}`)
      expect((await dumpOf(child, folder)).includes(VALUE)).toBe(false)
    } finally {
      if (child.exitCode === null && child.signalCode === null) await end(child)
      await service.close()
    }
    const other = spawn(
      process.execPath,
      ['-e', `const it = Buffer.from('${VALUE}'); console.log('up'); setInterval(() => it, 1000)`],
      { cwd: folder },
    )
    await once(other.stdout, 'data')
    expect((await dumpOf(other, folder)).includes(VALUE)).toBe(true)
  }, 60_000)
})
