/** Files of an agent: what Node does on a disk, in the agent's home. */
import fs from 'node:fs'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Random } from '../rules/random.ts'
import { openTestKernel, programFile, type TestKernel, tempFolder } from '../support/kernel.ts'

const FILES = { name: 'files', file: programFile('files.ts'), now: [], limits: '{ homeBytes: 2MiB }' }
type Step = readonly [string, ...unknown[]]
type Said = { ok?: unknown; error?: { message: string; code?: string } }

let t: TestKernel

async function ask(who: string, method: string, args?: unknown): Promise<unknown> {
  const reply = await t.call(`acme/files/${who}`, method, args)
  if (!reply.ok) throw Object.assign(new Error(reply.error.message), reply.error)
  return reply.value
}

const act = async (who: string, ...steps: Step[]) => (await ask(who, 'do', { steps })) as Said[]

beforeAll(async () => {
  // Everybody sleeps after each turn: what is open is open over that.
  t = await openTestKernel([FILES], { idleMs: 0 })
})
afterAll(() => t.close())

describe('files of an agent', () => {
  it('are there again after a suspension, a restart and a replay', async () => {
    await act('ann', ['mkdirSync', '/a/b', { recursive: true }], ['writeFileSync', 'a/b/c.txt', 'Zürich'])
    await t.kernel.suspend('acme/files/ann')
    expect(await act('ann', ['readFileSync', '/a/b/c.txt', 'utf8'])).toEqual([{ ok: 'Zürich' }])
    t = await t.reopen()
    expect(await act('ann', ['readdirSync', '/', { recursive: true }])).toEqual([
      { ok: ['a', 'a/b', 'a/b/c.txt'] },
    ])
    expect(await t.kernel.replay('acme/files/ann')).toMatchObject({ turns: 3 })
  })

  it('are undone with the turn that fails, and with the call that does', async () => {
    await act('bob', ['writeFileSync', '/x', 'before'])
    const full = await act(
      'bob',
      ['writeFileSync', '/x', { $b: new Array(10).fill(7) }],
      ['truncateSync', '/x', 9_000_000],
    )
    expect(full).toMatchObject([{ ok: null }, { ok: null }])
    const grown = await act(
      'bob',
      ...Array.from({ length: 4 }, (_, i): Step => ['writeFileSync', `/big${i}`, 'y'.repeat(800_000)]),
      ['existsSync', '/big2'],
      ['readdirSync', '/'],
    )
    expect(grown).toMatchObject([
      { ok: null },
      { ok: null },
      { error: { code: 'ENOSPC', message: "ENOSPC: no space left on device, open '/big2'" } },
      { error: { code: 'ENOSPC' } },
      { ok: false },
      { ok: ['big0', 'big1', 'x'] },
    ])
  })

  it('are read and written by promises, callbacks and descriptors that outlive a wait', async () => {
    expect(await ask('cid', 'promises')).toEqual({
      text: 'EINS zwei',
      size: 9,
      failed: 'ENOENT',
      names: ['q', 'q/a.txt'],
    })
    expect(await ask('cid', 'callback')).toBe('x')
    expect(await ask('cid', 'held')).toEqual({
      two: 'cd',
      whole: 'abcdXY',
      there: false,
      closed: { error: { message: 'EBADF: bad file descriptor, fstat', code: 'EBADF', syscall: 'fstat' } },
    })
    expect(await ask('cid', 'paths')).toEqual(['b', '/x', '.gz', 'w'])
    const orphans = await t.kernel.sql(
      'acme/files/cid',
      'select count(*) n from cardinal_files where parent < 0',
      'operator',
    )
    expect(orphans.rows).toEqual([[0]])
  })

  it('50: lead nowhere else, by no name', async () => {
    const data = path.join(t.data, 'token')
    for (const name of [
      '/etc/passwd',
      '../../../../etc/passwd',
      data,
      '/proc/self/fd/3',
      '/dev/zero',
      `..${data}`,
    ])
      expect((await act('eve', ['readFileSync', name]))[0]?.error?.code, name).toBe('ENOENT')
    const nul = await act('eve', ['readFileSync', 'a\0b'], ['writeFileSync', 'a\0b', 'x'])
    expect(nul.map((s) => s.error?.code)).toEqual(['ERR_INVALID_ARG_VALUE', 'ERR_INVALID_ARG_VALUE'])
    for (const call of ['symlinkSync', 'linkSync'])
      expect((await act('eve', [call, '/etc', '/link']))[0]?.error?.code).toBe(
        'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM',
      )
    // The twin: the same names are its own once it has made them.
    expect(
      await act(
        'eve',
        ['mkdirSync', '/etc'],
        ['writeFileSync', '../etc/passwd', 'mine'],
        ['readFileSync', '/etc/../etc/./passwd', 'utf8'],
        ['writeFileSync', '/A', '1'],
        ['existsSync', '/a'],
        ['realpathSync', '/etc/../../etc//passwd'],
      ),
    ).toEqual([
      { ok: null },
      { ok: null },
      { ok: 'mine' },
      { ok: null },
      { ok: false },
      { ok: '/etc/passwd' },
    ])
    const long = await act(
      'eve',
      ['writeFileSync', `/${'n'.repeat(256)}`, ''],
      ['writeFileSync', `/${'n'.repeat(255)}`, ''],
    )
    expect(long.map((s) => s.error?.code)).toEqual(['ENAMETOOLONG', undefined])
  })

  it('are streamed in chunks, through others and over suspensions', async () => {
    expect(await ask('dan', 'streams')).toEqual({
      whole: 180_000,
      pieces: true,
      part: 'BCABC',
      size: 180_004,
      tail: 'BC+1+2',
      failed: 'ENOENT',
      written: 4,
    })
    expect(await ask('dan', 'across')).toEqual({ whole: 150_000, pieces: true })
    expect(await t.kernel.replay('acme/files/dan')).toMatchObject({ turns: 4 })
  })
})

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))

describe(`random calls (SEED=${seed})`, () => {
  it('are answered as Node answers them on a disk', async () => {
    const random = new Random(seed)
    const disk = tempFolder()
    const names = ['a', 'b', 'd', 'd/e', 'd/e/f', 'a/x', 'none/y', 'd/../a', './b']
    try {
      for (let turn = 0; turn < 60; turn++) {
        const steps = Array.from({ length: 8 }, () => step(random, names))
        const said = await act('rex', ...steps)
        if (random.chance(40)) await t.kernel.suspend('acme/files/rex')
        const expected = steps.map((s) => JSON.parse(JSON.stringify(onDisk(disk, s) ?? null)))
        const at = steps.findIndex((_, i) => expected[i] !== null && !isDeepStrictEqual(said[i], expected[i]))
        const tree = (await act('rex', ['readdirSync', '/', { recursive: true }]))[0]?.ok as string[]
        const real = onDisk(disk, ['readdirSync', '/', { recursive: true }]) as { ok: string[] }
        if (at < 0)
          expect(`${JSON.stringify(steps)}\n${[...tree].sort()}`).toEqual(
            `${JSON.stringify(steps)}\n${real.ok}`,
          )
        else
          expect({ step: steps[at], ...said[at] }).toEqual({ step: steps[at], ...(expected[at] as object) })
      }
    } finally {
      fs.rmSync(disk, { recursive: true, force: true })
    }
    await t.kernel.replay('acme/files/rex')
  }, 60_000)
})

function step(r: Random, names: readonly string[]): Step {
  const name = () => `/${r.pick(names)}`
  return r.pick<() => Step>([
    () => ['writeFileSync', name(), 'x'.repeat(r.pick([0, 3, 70_000]))],
    () => ['writeFileSync', name(), 'mid', { flag: r.pick(['a', 'wx', 'r+']) }],
    () => ['appendFileSync', name(), 'more'],
    () => ['readFileSync', name(), 'utf8'],
    () => ['readFileSync', name(), 'base64'],
    () => ['statSync', name()],
    () => ['existsSync', name()],
    () => ['readdirSync', name(), { recursive: r.chance(50) }],
    () => ['mkdirSync', name()],
    // Where it fails halfway, what was made before stays on a disk; here a call that fails changes nothing.
    () => ['mkdirSync', `/${r.pick(names.filter((n) => !n.includes('..')))}`, { recursive: true }],
    () => ['unlinkSync', name()],
    () => ['rmdirSync', name()],
    () => ['rmSync', name(), { recursive: r.chance(50), force: r.chance(50) }],
    () => ['renameSync', name(), name()],
    () => ['copyFileSync', name(), name()],
    () => ['truncateSync', name(), r.pick([0, 2, 65_536, 66_000])],
    () => ['accessSync', name()],
  ])()
}

/** The same call by Node on a folder, with the folder taken out of what it says. */
function onDisk(disk: string, [call, ...args]: Step): unknown {
  const two = call === 'renameSync' || call === 'copyFileSync'
  const real = args.map((arg, i) => (i === 0 || (two && i === 1) ? disk + (arg as string) : arg))
  // libuv takes away what was there before when a directory cannot be copied over it; ours keeps it.
  if (call === 'copyFileSync' && fs.statSync(real[0] as string, { throwIfNoEntry: false })?.isDirectory())
    return undefined
  try {
    const value = (fs as unknown as Record<string, (...a: unknown[]) => unknown>)[call]?.(...real)
    if (value instanceof fs.Stats)
      return { ok: { file: value.isFile(), ...(value.isFile() ? { size: value.size } : { size: 0 }) } }
    if (Array.isArray(value)) return { ok: [...value].sort() }
    return {
      ok: typeof value === 'string' ? value.replace(disk, '') : (value ?? null),
    }
  } catch (error) {
    const { message, code, syscall } = error as Error & { code?: string; syscall?: string }
    return {
      error: { message: message.replaceAll(disk, ''), code, ...(syscall !== undefined && { syscall }) },
    }
  }
}
