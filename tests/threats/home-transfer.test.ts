/** A home that leaves its agent, and one that another begins with. */
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  crashCopy,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
  tempFolder,
} from '../support/kernel.ts'

const tools = [
  { ...functionTool('db.read', 'read', () => ({ secret: 'S3CRET' })), yields: ['private'] },
  { ...functionTool('web.post', 'once', () => 'sent'), sinks: ['out.example'] },
]
const NOW = ['{ tool: db.read, flow: [log, "caller:*"], args: "*" }', '{ tool: web.post, args: "*" }']
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
      ['longer', Buffer.concat([whole, Buffer.of(0)]), 'BadSignature'],
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
    for (const one of both) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'Wiping' })
    const { notes } = (await ask('mia', 'kept')) as { notes: { text: string }[] }
    const last = (await t.kernel.view.history('acme/carrier/mia')).filter(({ kind }) => kind === 'wiped').at(-1)
    expect(notes.map(({ text }) => text)).toEqual(/home of/.test(last?.text ?? '') ? ['one', 'three two'] : [])
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

  it.each(['import.parts', 'wipe.begun', 'wipe.done'])(
    'is there whole or not at all after a crash at %s',
    async (point) => {
      const who = `kim-${point}`
      await fill(`kit-${point}`)
      await ask(who, 'keep', { text: 'mine' })
      const file = await taken(`kit-${point}`)
      let copy: TestKernel | undefined
      t = await t.reopen({
        crashPoint: (name) => {
          if (name !== point || copy) return
          copy = { data: tempFolder() } as TestKernel
          fs.cpSync(t.data, copy.data, { recursive: true })
        },
      })
      await give(`acme/carrier/${who}`, file, { replace: true })
      expect(await ask(who, 'kept')).toEqual(KEPT)
      const after = await openTestKernel([], { tools }, (copy as TestKernel | undefined)?.data as string)
      try {
        const kept = (await ask(who, 'kept', {}, after)) as { notes: { text: string }[] }
        expect([['mine'], [], ['one', 'three two']]).toContainEqual(kept.notes.map(({ text }) => text))
        if (point === 'import.parts') expect(kept.notes).toHaveLength(1)
        expect(await after.kernel.replay(`acme/carrier/${who}`)).toMatchObject({ turns: expect.any(Number) })
        expect((await after.kernel.audit()).mismatches).toEqual([])
      } finally {
        await after.close()
        t = await t.reopen({ crashPoint: () => {} })
      }
    },
  )
})
