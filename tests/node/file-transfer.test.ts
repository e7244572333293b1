/** Files that go into an agent's home and come out of it, from outside. */
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  applyPrograms,
  crashCopy,
  openTestKernel,
  programFile,
  type TestKernel,
  tempFolder,
} from '../support/kernel.ts'

const FILES = { name: 'files', file: programFile('files.ts'), now: [], limits: '{ homeBytes: 8MiB }' }
const INITIAL = {
  ...FILES,
  name: 'initial',
  initial: [
    ['/data/rates.csv', Buffer.from('CHF,1.07\n')],
    ['/data/big.bin', Buffer.alloc(200_000, 7)],
  ] as const,
}
type Step = readonly [string, ...unknown[]]
type Said = { ok?: unknown; error?: { message: string; code?: string } }

let t: TestKernel

async function act(agent: string, ...steps: Step[]): Promise<Said[]> {
  const reply = await t.call(`acme/${agent}`, 'do', { steps })
  if (!reply.ok) throw Object.assign(new Error(reply.error.message), reply.error)
  return reply.value as Said[]
}

const put = (who: string, at: string, ...pieces: (string | Uint8Array)[]) =>
  t.kernel.files.put(
    `acme/${who}`,
    at,
    (async function* () {
      for (const piece of pieces) yield typeof piece === 'string' ? Buffer.from(piece) : piece
    })(),
    'test',
  )
const read = (who: string, at: string) => t.kernel.files.read(`acme/${who}`, at, 'test')
const list = (who: string, at: string) => t.kernel.files.list(`acme/${who}`, at, 'test')
const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

beforeAll(async () => {
  t = await openTestKernel([FILES, INITIAL], { idleMs: 0 })
})
afterAll(() => t.close())

describe('a file that is put', () => {
  it('is read by the program and by operators, over suspensions, restarts and in a replay', async () => {
    const sizes = [0, 1, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 3_000_000]
    const files = sizes.map((size) => ({ at: `/in/${size}.bin`, bytes: randomBytes(size) }))
    for (const { at, bytes } of files) {
      const middle = bytes.length >> 1
      expect(await put('files/ann', at, bytes.subarray(0, middle), bytes.subarray(middle))).toEqual({
        path: at,
        size: bytes.length,
      })
    }
    t = await t.reopen()
    for (const { at, bytes } of files) expect(hash(await read('files/ann', at)), at).toBe(hash(bytes))
    const said = await act('files/ann', ...files.map(({ at }): Step => ['statSync', at]), [
      'readFileSync',
      '/in/65537.bin',
      'latin1',
    ])
    expect(said.slice(0, -1).map(({ ok }) => (ok as { size: number }).size)).toEqual(sizes)
    expect(said.at(-1)).toEqual({ ok: files[3]?.bytes.toString('latin1') })
    expect(await list('files/ann', '/in')).toMatchObject({
      path: '/in',
      kind: 'dir',
      entries: files
        .map(({ bytes }) => ({ name: `${bytes.length}.bin`, kind: 'file', size: bytes.length }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    })
    expect(await t.kernel.replay('acme/files/ann')).toMatchObject({ entries: expect.any(Number) })
    expect((await t.kernel.audit()).mismatches).toEqual([])
  })

  it('is on record, and so is every look at it', async () => {
    await put('files/bob', '/x.txt', 'secret')
    await read('files/bob', '/x.txt')
    await list('files/bob', '/')
    await put('files/bob', '/long.bin', randomBytes((1 << 20) + 5))
    const history = await t.kernel.view.history('acme/files/bob')
    const told = history.map(({ text, detail }) => [text.replace(/, inv_\w+/, ''), detail])
    expect(told.filter(([text]) => /^test/.test(String(text)))).toEqual([
      ['test put `/x.txt` (6 bytes)', undefined],
      ['test read its home', 'files read /x.txt'],
      ['test read its home', 'files list /'],
      ['test put `/long.bin`, part 1 (1048576 bytes)', undefined],
      ['test put `/long.bin`, its last part (5 bytes)', undefined],
    ])
  })

  it('takes the place of another, also under whoever has that one open', async () => {
    await act('files/cid', ['writeFileSync', '/a.txt', 'before, and longer'], ['openSync', '/a.txt', 'r'])
    await put('files/cid', '/a.txt', 'after')
    expect(
      await act(
        'files/cid',
        ['readFileSync', 3, 'utf8'],
        ['readFileSync', '/a.txt', 'utf8'],
        ['closeSync', 3],
      ),
    ).toEqual([{ ok: 'after' }, { ok: 'after' }, { ok: null }])
    expect(await orphans('files/cid')).toBe(0)
  })

  it('stands where its path says, and nowhere else', async () => {
    // Others' folders come and go beside it.
    const outside = () =>
      fs.readdirSync(path.join(t.data, '..')).filter((name) => !name.startsWith('cardinal-'))
    const before = outside()
    const names: Record<string, string> = {
      '../../../etc/passwd': '/etc/passwd',
      '/a/./b//c.txt': '/a/b/c.txt',
      'q.txt': '/q.txt',
      '/it\'s "_cardinal"; drop table cardinal_files.txt':
        '/it\'s "_cardinal"; drop table cardinal_files.txt',
      '/Zürich/ü': '/Zürich/ü',
      '/proc/self/fd/0': '/proc/self/fd/0',
    }
    for (const [given, at] of Object.entries(names)) {
      expect((await put('files/dot', given, given)).path).toBe(at)
      expect((await read('files/dot', given)).toString()).toBe(given)
    }
    expect((await list('files/dot', '/../..')).entries?.map(({ name }) => name)).toEqual(
      ['Zürich', 'a', 'etc', 'it\'s "_cardinal"; drop table cardinal_files.txt', 'proc', 'q.txt'].sort(),
    )
    expect(outside().filter((name) => !before.includes(name))).toEqual([])
    const refused: Record<string, string> = {
      '/a/b': 'BadPath',
      '/a/b/c.txt/d': 'BadPath',
      '/a/new/': 'BadPath',
      '/': 'BadPath',
      '/nul\0': 'BadPath',
      [`/${'n'.repeat(256)}`]: 'BadPath',
      [`/${'n/'.repeat(3000)}x`]: 'BadPath',
    }
    for (const [given, code] of Object.entries(refused))
      await expect(put('files/dot', given, 'x'), given).rejects.toMatchObject({ code })
    for (const [given, code] of Object.entries({
      '/none': 'NoSuchFile',
      '/a': 'BadPath',
      '/q.txt/x': 'NoSuchFile',
    }))
      await expect(read('files/dot', given)).rejects.toMatchObject({ code })
    await expect(list('files/dot', '/none')).rejects.toMatchObject({ class: 'NotFound', code: 'NoSuchFile' })
    await expect(read('files/nobody', '/x')).rejects.toMatchObject({ code: 'NoSuchAgent' })
  })

  it('is refused where the home is full, and leaves nothing behind', async () => {
    await put('files/eve', '/kept.bin', randomBytes(2_000_000))
    await expect(put('files/eve', '/big.bin', randomBytes(9_000_000))).rejects.toMatchObject({
      class: 'Refused',
      code: 'NoSpace',
    })
    await expect(put('files/eve', '/kept.bin', randomBytes(9_000_000))).rejects.toMatchObject({
      code: 'NoSpace',
    })
    expect((await list('files/eve', '/')).entries).toMatchObject([{ name: 'kept.bin', size: 2_000_000 }])
    expect(await orphans('files/eve')).toBe(0)
    expect(await put('files/eve', '/small.bin', randomBytes(3_000_000))).toMatchObject({ size: 3_000_000 })
  })

  it('is not there before all of it is, and is gone if its sender is', async () => {
    async function* breaks() {
      yield randomBytes(2_000_000)
      const seen = await list('files/fay', '/')
      expect(seen.entries).toEqual([])
      throw new Error('the sender is gone')
    }
    await act('files/fay', ['existsSync', '/'])
    await expect(t.kernel.files.put('acme/files/fay', '/x', breaks(), 'test')).rejects.toThrow(
      'the sender is gone',
    )
    expect((await list('files/fay', '/')).entries).toEqual([])
    expect(await orphans('files/fay')).toBe(0)
  })

  it('loses to one that somebody begins to put later', async () => {
    const first = Promise.withResolvers<void>()
    async function* slow() {
      yield randomBytes(1_200_000)
      await first.promise
      yield randomBytes(1_200_000)
    }
    const lost = t.kernel.files.put('acme/files/gus', '/x', slow(), 'test')
    lost.catch(() => {})
    await expect.poll(() => orphans('files/gus')).toBe(1)
    await put('files/gus', '/x', 'mine')
    first.resolve()
    await expect(lost).rejects.toMatchObject({ class: 'Conflict', code: 'PutTwice' })
    expect((await read('files/gus', '/x')).toString()).toBe('mine')
    expect(await orphans('files/gus')).toBe(0)
  })

  it('gives back what a kill has cut off, with the next file that comes', async () => {
    const gate = Promise.withResolvers<void>()
    async function* slow() {
      yield randomBytes(5 << 20)
      await gate.promise
    }
    const cut = t.kernel.files.put('acme/files/ian', '/big.bin', slow(), 'test')
    await expect.poll(() => orphans('files/ian').catch(() => 0)).toBe(1)
    await expect
      .poll(
        async () =>
          (await t.kernel.sql('acme/files/ian', 'select max(size) from cardinal_files', 'test')).rows[0]?.[0],
      )
      .toBe(4 << 20)
    const killed = await crashCopy(t, {})
    expect((await killed.kernel.files.list('acme/files/ian', '/', 'test')).entries).toEqual([])
    // One that is refused frees them as well.
    const odd = [randomBytes(10)] as never
    await expect(killed.kernel.files.put('acme/files/ian', '/', odd, 'test')).rejects.toMatchObject({
      code: 'BadPath',
    })
    await expect(
      killed.kernel.files.put('acme/files/ian', `/${'n'.repeat(300)}`, odd, 'test'),
    ).rejects.toMatchObject({ code: 'BadPath' })
    const left = await killed.kernel.sql(
      'acme/files/ian',
      'select count(*) from cardinal_files where parent < 0',
      'test',
    )
    expect(left.rows).toEqual([[0]])
    const three = [randomBytes(3 << 20)] as never
    expect(await killed.kernel.files.put('acme/files/ian', '/other.bin', three, 'test')).toMatchObject({
      size: 3 << 20,
    })
    await killed.close()
    gate.resolve()
    expect(await cut).toMatchObject({ size: 5 << 20 })
  })

  it('is not read out of tables that a program has written to past `node:fs`', async () => {
    expect(await act('files/jan', ['writeFileSync', '/x', 'x'])).toEqual([{ ok: null }])
    const odd = [
      'update cardinal_files set size = -5 where id > 1',
      "update cardinal_files set size = 'x' where id > 1",
      'update cardinal_files set size = 9; update cardinal_chunks set bytes = 5',
    ]
    for (const sql of odd) {
      await t.call('acme/files/jan', 'sql', { sql })
      await expect(read('files/jan', '/x'), sql).rejects.toMatchObject({
        class: 'Malformed',
        code: 'BadPath',
      })
    }
  })

  it('is refused by an agent that is held, and taken once it is released', async () => {
    await act('files/hal', ['existsSync', '/'])
    await t.kernel.hold('acme/files/hal', true, 'test')
    await expect(put('files/hal', '/x', 'x')).rejects.toMatchObject({ code: 'Held' })
    await t.kernel.hold('acme/files/hal', false, 'test')
    expect(await put('files/hal', '/x', 'x')).toMatchObject({ size: 1 })
  })

  it('is nothing that a program or a caller can bring about by that name', async () => {
    const call = {
      address: 'acme/files/ann',
      tenant: 'acme',
      args: { path: '/x', put: 'x', part: 0, chunks: ['00'], last: true },
    }
    await expect(t.kernel.invoke({ ...call, method: 'cardinal.put' })).rejects.toMatchObject({
      code: 'NoSuchMethod',
    })
    const file = path.join(tempFolder(), 'odd.ts')
    fs.writeFileSync(
      file,
      `import { Agent } from '@cardinal/sdk'
export default class Odd extends Agent { static methods = { 'cardinal.put': {} }; 'cardinal.put'() {} }`,
    )
    await expect(applyPrograms(t.kernel, [{ name: 'odd', file, now: [] }])).rejects.toThrow(
      /runtime's own method/,
    )
  })
})

describe('initial files', () => {
  it('are there when an agent is born, and when it begins anew', async () => {
    expect(
      await act(
        'initial/ann',
        ['readFileSync', '/data/rates.csv', 'utf8'],
        ['unlinkSync', '/data/rates.csv'],
        ['statSync', '/data/big.bin'],
      ),
    ).toMatchObject([{ ok: 'CHF,1.07\n' }, { ok: null }, { ok: { size: 200_000 } }])
    t = await t.reopen()
    expect((await list('initial/ann', '/data')).entries).toMatchObject([{ name: 'big.bin' }])
    expect(await t.kernel.replay('acme/initial/ann')).toMatchObject({ turns: 1 })
    await t.kernel.wipe('acme/initial/ann', 'test')
    expect(await act('initial/ann', ['readFileSync', '/data/rates.csv', 'utf8'])).toEqual([
      { ok: 'CHF,1.07\n' },
    ])
  })

  it('are bounded where they are bundled', async () => {
    const file = programFile('files.ts')
    await expect(bundleProgram(file, [['/x', Buffer.alloc((4 << 20) + 1)]])).rejects.toThrow(
      /initial files of more than/,
    )
    expect((await bundleProgram(file, [['/x', Buffer.alloc(4 << 20)]])).code.length).toBeGreaterThan(8 << 20)
  })
})

/** Files without a name: what a put has brought so far. */
async function orphans(who: string): Promise<unknown> {
  const found = await t.kernel.sql(
    `acme/${who}`,
    'select count(*) from cardinal_files where parent < 0',
    'test',
  )
  return found.rows[0]?.[0]
}
