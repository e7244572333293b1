/** A home that leaves its agent, and one that another begins with. */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  applyPrograms,
  crashCopy,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
  tempFolder,
} from '../support/kernel.ts'

let release: () => void = () => {}
const tools = [
  { ...functionTool('db.read', 'read', () => ({ secret: 'S3CRET' })), yields: ['private'] },
  { ...functionTool('web.post', 'once', () => 'sent'), sinks: ['out.example'] },
  functionTool('db.slow', 'once', () => {
    const gate = Promise.withResolvers<string>()
    release = () => gate.resolve('late')
    return gate.promise
  }),
]
const NOW = [
  '{ tool: db.slow, args: "*" }',
  '{ tool: db.read, flow: [log, "caller:*"], args: "*" }',
  '{ tool: web.post, args: "*" }',
]
const PROGRAMS = [
  { name: 'carrier', file: programFile('carrier.ts'), now: NOW },
  { name: 'small', file: programFile('carrier.ts'), now: NOW, limits: '{ homeBytes: 32KiB }' },
  { name: 'carrier', tenant: 'other', file: programFile('carrier.ts'), now: NOW },
]
const folder = tempFolder()
let t: TestKernel

beforeAll(async () => {
  fs.mkdirSync(folder, { recursive: true })
  t = await openTestKernel(PROGRAMS, { tools, idleMs: 0 })
})
afterAll(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
  fs.rmSync(folder, { recursive: true, force: true })
})

async function ask(who: string, method: string, args: unknown = {}, node = t): Promise<unknown> {
  const reply = await node.call(`carrier/${who}`, method, args)
  if (!reply.ok) throw Object.assign(new Error(reply.error.message), reply.error)
  return reply.value
}

async function taken(who: string): Promise<string> {
  const { file } = await t.kernel.transfer.export(`acme/carrier/${who}`, 'test')
  const to = path.join(folder, `${who}-${randomBytes(4).toString('hex')}.home`)
  fs.renameSync(file, to)
  return to
}

const give = (address: string, file: string, wish: { nodeKey?: string; replace?: boolean } = {}, node = t) =>
  node.kernel.transfer.import(address, fs.createReadStream(file), wish, 'test')
const post = { name: 'web.post', args: {} }
const KEPT = {
  count: 0,
  notes: [
    { rowid: 1, text: 'one' },
    { rowid: 3, text: 'three two' },
  ],
  found: [{ rowid: 2 }, { rowid: 3 }],
  file: 'one\ntwo\nthree two\n',
  nodes: ['one', 'three two', 'two'],
}

async function fill(who: string): Promise<void> {
  for (const text of ['one', 'two', 'three two']) await ask(who, 'keep', { text })
  await ask(who, 'drop', { text: 'two' })
}

describe('a home that is taken elsewhere', () => {
  it.each([
    { read: true, posts: { refused: 'flow' } },
    { read: false, posts: { ok: 'sent' } },
  ])('72: is no way out for what its agent has read (read: $read)', async ({ read, posts }) => {
    const [from, to] = [`from-${read}`, `to-${read}`]
    await fill(from)
    if (read) await ask(from, 'tool', { name: 'db.read', args: {} })
    expect(await ask(from, 'tool', post)).toEqual(posts)
    const header = await give(`acme/carrier/${to}`, await taken(from))
    expect(header).toMatchObject({ address: `acme/carrier/${from}`, tenant: 'acme' })
    expect(header.influence.labels ?? []).toEqual(read ? ['private', 'untrusted'] : ['untrusted'])
    expect(await ask(to, 'tool', post)).toEqual(posts)
    expect(await ask(to, 'kept')).toEqual(KEPT)
    // And it is so after a suspension, a crash, a restart, and in a replay from its birth.
    const copy = await crashCopy(t, { tools })
    try {
      expect(await ask(to, 'tool', post, copy)).toEqual(posts)
      expect(await ask(to, 'kept', {}, copy)).toEqual(KEPT)
      expect((await copy.kernel.audit()).mismatches).toEqual([])
    } finally {
      await copy.close()
    }
    t = await t.reopen()
    expect(await ask(to, 'keep', { text: 'four' })).toBe(1)
    expect(await t.kernel.replay(`acme/carrier/${to}`)).toMatchObject({ turns: expect.any(Number) })
    // A home that goes on from there carries what it brought.
    await give(`acme/carrier/${to}-next`, await taken(to))
    expect(await ask(`${to}-next`, 'tool', post)).toEqual(posts)
  })

  it('is taken by another node from one that it is told to trust, and from no other', async () => {
    await fill('eve')
    const file = await taken('eve')
    const other = await openTestKernel(PROGRAMS, { tools })
    try {
      const address = 'acme/carrier/eve'
      await expect(give(address, file, {}, other)).rejects.toMatchObject({
        class: 'Refused',
        code: 'WrongKey',
      })
      await expect(give(address, file, { nodeKey: other.kernel.publicKey }, other)).rejects.toMatchObject({
        code: 'WrongKey',
      })
      await give(address, file, { nodeKey: t.kernel.publicKey }, other)
      expect(await ask('eve', 'kept', {}, other)).toEqual(KEPT)
      const { influence } = (await other.kernel.cards.standing(address)) as {
        influence?: { labels?: string[] }
      }
      expect(JSON.stringify(influence ?? (await other.kernel.cards.standing(address)))).toContain('untrusted')
      expect((await other.kernel.audit()).mismatches).toEqual([])
    } finally {
      await other.close()
    }
  })

  it('is refused where anything of it was changed, and changes nothing', async () => {
    await fill('fay')
    const file = await taken('fay')
    const whole = fs.readFileSync(file)
    const headerEnd = 12 + whole.readUInt32LE(8)
    const changed = (at: number) => {
      const bytes = Buffer.from(whole)
      bytes[at] = (bytes[at] as number) ^ 1
      return bytes
    }
    const labels = whole.indexOf('"untrusted"')
    const bad: [string, Buffer, string][] = [
      ['magic', changed(0), 'BadHomeFile'],
      ['length', changed(11), 'BadHomeFile'],
      ['labels', changed(labels + 2), 'BadSignature'],
      ['signature', changed(headerEnd + 5), 'BadSignature'],
      ['database', changed(headerEnd + 64 + 5000), 'BadSignature'],
      ['last byte', changed(whole.length - 1), 'BadSignature'],
      ['cut off', whole.subarray(0, whole.length - 1), 'BadSignature'],
      ['longer', Buffer.concat([whole, Buffer.of(0)]), 'BadHomeFile'],
      ['a header alone', whole.subarray(0, headerEnd), 'BadHomeFile'],
      ['empty', Buffer.alloc(0), 'BadHomeFile'],
    ]
    for (const [what, bytes, code] of bad) {
      fs.writeFileSync(`${file}.bad`, bytes)
      await expect(give('acme/carrier/fay-2', `${file}.bad`), what).rejects.toMatchObject({ code })
    }
    await expect(t.kernel.view.agent('acme/carrier/fay-2')).rejects.toMatchObject({ code: 'NoSuchAgent' })
    await give('acme/carrier/fay-2', file)
    expect(await ask('fay-2', 'kept')).toEqual(KEPT)
    expect(fs.readdirSync(path.join(t.data, 'homes', 'scratch'))).toEqual([])
  })

  it('does not come over what an agent has, unless somebody says so, and never into another tenant', async () => {
    await fill('gus')
    const file = await taken('gus')
    await ask('hal', 'keep', { text: 'mine' })
    await expect(give('acme/carrier/hal', file)).rejects.toMatchObject({ class: 'Conflict', code: 'InUse' })
    expect(await ask('hal', 'kept')).toMatchObject({ count: 1, notes: [{ text: 'mine' }] })
    await give('acme/carrier/hal', file, { replace: true })
    expect(await ask('hal', 'kept')).toEqual(KEPT)
    expect(await t.kernel.replay('acme/carrier/hal')).toMatchObject({ turns: expect.any(Number) })
    await expect(give('other/carrier/gus', file)).rejects.toMatchObject({
      class: 'Refused',
      code: 'OtherTenant',
    })
    await expect(give('acme/small/gus', file)).rejects.toMatchObject({ class: 'Refused', code: 'NoSpace' })
    await t.kernel.hold('acme/carrier/hal', true, 'test')
    await expect(give('acme/carrier/hal', file, { replace: true })).rejects.toMatchObject({ code: 'Held' })
    await t.kernel.hold('acme/carrier/hal', false, 'test')
    await ask('ida', 'tool', post)
    await expect(t.kernel.transfer.export('acme/carrier/ida', 'test')).rejects.toMatchObject({
      code: 'NoHome',
    })
    await expect(t.kernel.transfer.export('acme/carrier/nobody', 'test')).rejects.toMatchObject({
      code: 'NoSuchAgent',
    })
  })

  it('comes in parts where it is large, and is read back out of the log by whoever has lost it', async () => {
    await ask('lea', 'keep', { text: 'y'.repeat(2_500_000) })
    await give('acme/carrier/lea-2', await taken('lea'))
    const history = await t.kernel.view.history('acme/carrier/lea-2')
    expect(history.filter(({ kind }) => kind === 'part').length).toBeGreaterThan(3)
    const birth = (await t.kernel.view.agent('acme/carrier/lea-2')) as { home: { bytes: number } }
    expect(birth.home.bytes).toBeGreaterThan(2_500_000)
    await t.kernel.close()
    fs.rmSync(path.join(t.data, 'homes'), { recursive: true })
    t = await openTestKernel([], { tools, idleMs: 0 }, t.data)
    const kept = await t.kernel.sql('acme/carrier/lea-2', 'select length(text) from notes', 'test')
    expect(kept.rows).toEqual([[2_500_000]])
  })

  it('does not mix with a wipe that is under way: the later one comes again', async () => {
    await fill('max')
    const file = await taken('max')
    await ask('mia', 'keep', { text: 'mine' })
    const both = await Promise.allSettled([
      give('acme/carrier/mia', file, { replace: true }),
      ...Array.from({ length: 20 }, () => t.kernel.wipe('acme/carrier/mia', 'test')),
      give('acme/carrier/mia', file, { replace: true }),
    ])
    for (const one of both)
      if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'Wiping' })
    const { notes } = (await ask('mia', 'kept')) as { notes: { text: string }[] }
    const last = (await t.kernel.view.history('acme/carrier/mia'))
      .filter(({ kind }) => kind === 'wiped')
      .at(-1)
    expect(notes.map(({ text }) => text)).toEqual(
      /home of/.test(last?.text ?? '') ? ['one', 'three two'] : [],
    )
    expect((await t.kernel.audit()).mismatches).toEqual([])
  })

  it('is on record where it leaves and where it comes in', async () => {
    await fill('jan')
    await give('acme/carrier/jan-2', await taken('jan'))
    const last = (who: string) => t.kernel.view.history(`acme/carrier/${who}`)
    expect((await last('jan')).at(-1)).toMatchObject({ kind: 'looked', detail: 'home export' })
    expect((await last('jan-2')).map(({ kind, text }) => [kind, text]).slice(1)).toEqual([
      ['part', expect.stringMatching(/^a part of a home that comes in \(\d+ bytes\)$/)],
      ['wiping', 'is wiped by test: what is out comes to its end'],
      ['wiped', 'begins anew, with a home of acme/carrier/jan'],
    ])
  })

  const copyAt = async (point: string, act: () => Promise<unknown>): Promise<TestKernel> => {
    let data: string | undefined
    let under = false
    t = await t.reopen({
      crashPoint: (name) => {
        under ||= name === 'import.parts'
        if (name !== point || data || !under) return
        data = tempFolder()
        fs.cpSync(t.data, data, { recursive: true })
      },
    })
    await act()
    t = await t.reopen({ crashPoint: () => {} })
    return openTestKernel([], { tools }, data as string)
  }
  const notesOf = async (who: string, node: TestKernel) =>
    ((await ask(who, 'kept', {}, node)) as { notes: { text: string }[] }).notes.map(({ text }) => text)
  const sound = async (who: string, node: TestKernel) => {
    expect(await node.kernel.replay(`acme/carrier/${who}`)).toMatchObject({ turns: expect.any(Number) })
    expect((await node.kernel.audit()).mismatches).toEqual([])
    await node.close()
  }

  it('is not there after a crash before the log has it', async () => {
    await fill('kim')
    await ask('kit', 'keep', { text: 'mine' })
    const file = await taken('kim')
    const node = await copyAt('import.parts', () => give('acme/carrier/kit', file, { replace: true }))
    expect(await notesOf('kit', node)).toEqual(['mine'])
    await sound('kit', node)
    expect(await notesOf('kit', t)).toEqual(['one', 'three two'])
  })

  it('is there whole after a crash once the log has it, before anything of it is saved', async () => {
    await fill('kai')
    await ask('koa', 'keep', { text: 'mine' })
    const file = await taken('kai')
    const node = await copyAt('snapshot.before', () => give('acme/carrier/koa', file, { replace: true }))
    expect((await node.kernel.view.history('acme/carrier/koa')).map(({ kind }) => kind)).toContain('wiped')
    expect(await notesOf('koa', node)).toEqual(['one', 'three two'])
    await sound('koa', node)
  })

  it('is lost with what it was to replace after a crash in between, and no wipe comes in its place', async () => {
    await fill('kia')
    await ask('kip', 'keep', { text: 'mine' })
    const file = await taken('kia')
    void t.call('carrier/kip', 'tool', { name: 'db.slow', args: {} })
    await expect
      .poll(async () =>
        (await t.kernel.view.history('acme/carrier/kip')).some(({ kind }) => kind === 'started'),
      )
      .toBe(true)
    const given = give('acme/carrier/kip', file, { replace: true })
    await expect
      .poll(async () =>
        (await t.kernel.view.history('acme/carrier/kip')).some(({ kind }) => kind === 'wiping'),
      )
      .toBe(true)
    const node = await crashCopy(t, { tools })
    await expect(t.kernel.wipe('acme/carrier/kip', 'test')).rejects.toMatchObject({ code: 'Wiping' })
    release()
    await given
    expect(await notesOf('kip', t)).toEqual(['one', 'three two'])
    expect(await notesOf('kip', node)).toEqual([])
    await sound('kip', node)
  })

  it('takes nothing away that was acknowledged while it came in, unless it may replace that', async () => {
    await put('big', '/big.bin', 20)
    const file = await taken('big')
    let kept: Promise<unknown> | undefined
    t = await t.reopen({
      crashPoint: (name) => {
        if (name === 'import.part') kept ??= ask('busy', 'keep', { text: 'acknowledged' })
      },
    })
    const given = give('acme/carrier/busy', file)
    await expect(given).rejects.toMatchObject({ code: 'InUse' })
    expect(await kept).toBe(1)
    expect(await notesOf('busy', t)).toEqual(['acknowledged'])
    expect((await t.kernel.audit()).mismatches).toEqual([])
    t = await t.reopen({ crashPoint: () => {} })
  })

  it('hears the first words of a program that did not set it up, however often it is passed on', async () => {
    const program = (table: string) => {
      const file = path.join(folder, `${table}.ts`)
      fs.writeFileSync(
        file,
        `import { Agent } from '@cardinal/sdk'
import { DatabaseSync } from 'node:sqlite'
const db = new DatabaseSync('x')
db.exec('create table ${table}(a)')
export default class P extends Agent {
  static methods = { add: {} }
  add() { return db.prepare('insert into ${table} values (1)').run().lastInsertRowid }
}`,
      )
      return { name: table, file, now: [] }
    }
    await applyPrograms(t.kernel, [program('tx'), program('ty')])
    const pass = async (from: string, to: string) => {
      const { file } = await t.kernel.transfer.export(`acme/${from}`, 'test')
      await give(`acme/${to}`, file)
      fs.rmSync(file)
    }
    const add = async (who: string) => (await t.call(who, 'add')) as unknown
    expect(await add('tx/a')).toEqual({ ok: true, value: 1 })
    await pass('tx/a', 'tx/b')
    expect(await add('tx/b')).toEqual({ ok: true, value: 2 })
    await pass('tx/a', 'ty/c')
    await pass('ty/c', 'ty/d')
    for (const who of ['ty/c', 'ty/d']) expect(await add(who), who).toEqual({ ok: true, value: 1 })
    await pass('ty/d', 'ty/e')
    expect(await add('ty/e')).toEqual({ ok: true, value: 2 })
  })

  it('waits for room on a disk that has none for it, and leaves nothing half made', async (context) => {
    const data = tempFolder()
    const homes = path.join(data, 'homes')
    fs.mkdirSync(homes, { recursive: true })
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=34m', 'none', homes]).status !== 0)
      return context.skip('no right to mount a tmpfs')
    try {
      await put('wide', '/wide.bin', 6)
      const file = await taken('wide')
      const fatal: Error[] = []
      const node = await openTestKernel(PROGRAMS, { tools, onFatal: (error) => void fatal.push(error) }, data)
      const nodeKey = t.kernel.publicKey
      const said: string[] = []
      const many = [1, 2, 3, 4].map((i) =>
        give(`acme/carrier/w${i}`, file, { nodeKey }, node).then(
          () => said.push('ok'),
          (error) => said.push(error.code),
        ),
      )
      await new Promise((resolve) => setTimeout(resolve, 3000))
      expect(fatal).toEqual([])
      spawnSync('mount', ['-o', 'remount,size=200m', homes])
      await Promise.all(many)
      expect(said).toHaveLength(4)
      for (const code of said) expect(['ok', 'DiskFull', 'HomeUnavailable']).toContain(code)
      for (const i of [1, 2, 3, 4])
        await expect
          .poll(
            () =>
              give(`acme/carrier/w${i}`, file, { nodeKey, replace: true }, node).then(
                () => 'ok',
                (e) => e.code,
              ),
            { timeout: 15_000 },
          )
          .toBe('ok')
      expect(fs.readdirSync(path.join(homes, 'scratch'))).toEqual([])
      await node.kernel.close()
    } finally {
      spawnSync('umount', ['-l', homes])
      fs.rmSync(data, { recursive: true, force: true })
    }
  }, 60_000)
})

/** So many MiB. */
function put(who: string, at: string, megabytes: number) {
  const pieces = Array.from({ length: megabytes }, () => randomBytes(1 << 20))
  return t.kernel.files.put(`acme/carrier/${who}`, at, pieces as never, 'test')
}
