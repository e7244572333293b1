/** Homes on a disk without room, and under few descriptors. */
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { openTestKernel, programFile, tempFolder } from '../support/kernel.ts'

const KEEPER = { name: 'keeper', file: programFile('keeper.ts'), now: [] }
const fill = (bytes: number) => ({
  steps: [{ sql: `create table if not exists t(a); insert into t values (randomblob(${bytes}))` }],
})
const count = { steps: [{ sql: 'select count(*) n, sum(length(a)) bytes from t', how: 'all' }] }
const mount = (...args: string[]) => spawnSync('mount', args).status === 0

it('wait where the disk has no room for them, fail nothing, and go on once it has', async (context) => {
  const data = tempFolder()
  const homes = path.join(data, 'homes')
  fs.mkdirSync(homes, { recursive: true })
  if (!mount('-t', 'tmpfs', '-o', 'size=12m', 'none', homes)) return context.skip('no right to mount a tmpfs')
  try {
    const t = await openTestKernel([KEEPER], { idleMs: 0 }, data)
    expect(await t.call('keeper/ann', 'do', fill(3_000_000))).toMatchObject({
      ok: true,
      value: [{ ok: null }],
    })
    // Ann's next one has no room, whether it is written at once or when she is saved.
    const waiting = t.call('keeper/ann', 'do', fill(7_500_000))
    const more = t.call('keeper/ann', 'do', fill(7_500_000))
    await expect
      .poll(
        () =>
          t.call('keeper/bob', 'do', count).then(
            (r) => r.ok,
            (e) => e.code,
          ),
        { timeout: 20_000 },
      )
      .toBe('DiskFull')
    await expect(t.kernel.files.put('acme/keeper/cid', '/x', [] as never, 'test')).rejects.toMatchObject({
      code: 'DiskFull',
    })
    expect(mount('-o', 'remount,size=80m', homes)).toBe(true)
    expect([await waiting, await more]).toMatchObject([
      { ok: true, value: [{ ok: null }] },
      { ok: true, value: [{ ok: null }] },
    ])
    await expect
      .poll(() => t.call('keeper/ann', 'do', count).catch((e) => e.code), { timeout: 20_000 })
      .toEqual({
        ok: true,
        value: [{ ok: [{ n: 3, bytes: 18_000_000 }] }],
      })
    const history = await t.kernel.view.history('acme/keeper/ann')
    expect(history.filter(({ text }) => /failed/.test(text))).toEqual([])
    expect(await t.kernel.replay('acme/keeper/ann')).toMatchObject({ turns: 4 })
    await t.kernel.close()
  } finally {
    spawnSync('umount', ['-l', homes])
    fs.rmSync(data, { recursive: true, force: true })
  }
})

it('are closed and opened again where they are more than may be open, and nobody notices', async () => {
  const t = await openTestKernel([KEEPER], { maxOpenHomes: 4, idleMs: 60_000 })
  const open = () =>
    fs.readdirSync('/proc/self/fd').filter((fd) => linkOf(fd).startsWith(path.join(t.data, 'homes'))).length
  const agents = Array.from({ length: 20 }, (_, i) => `keeper/a${i}`)
  for (let round = 1; round <= 3; round++) {
    const said = await Promise.all(agents.map((agent) => t.call(agent, 'do', fill(1000))))
    expect(said.filter(({ ok }) => !ok)).toEqual([])
    await expect.poll(open).toBeLessThanOrEqual(2 * 4)
    expect(open()).toBeGreaterThan(0)
  }
  expect(t.kernel.stats().live).toBe(20)
  // Operators' reads open them too.
  for (const agent of agents) await t.kernel.sql(`acme/${agent}`, 'select 1', 'test')
  await expect.poll(open).toBeLessThanOrEqual(2 * 4)
  for (const agent of agents)
    expect(await t.call(agent, 'do', count)).toMatchObject({ value: [{ ok: [{ n: 3, bytes: 3000 }] }] })
  expect(await t.kernel.replay('acme/keeper/a7')).toMatchObject({ turns: 4 })
  await t.close()
})

it('wait while somebody else has one open that was closed, and the node goes on', async () => {
  const t = await openTestKernel([KEEPER], { maxOpenHomes: 1, idleMs: 60_000 })
  await t.call('keeper/ann', 'do', fill(10))
  await t.call('keeper/bob', 'do', fill(10))
  await expect
    .poll(
      () =>
        fs.readdirSync('/proc/self/fd').filter((fd) => linkOf(fd).startsWith(path.join(t.data, 'homes')))
          .length,
    )
    .toBe(2)
  const open = new Set(fs.readdirSync('/proc/self/fd').map(linkOf))
  const closed = fs
    .readdirSync(path.join(t.data, 'homes'), { recursive: true, encoding: 'utf8' })
    .map((name) => path.join(t.data, 'homes', name))
    .find((file) => file.endsWith('.db') && !open.has(file)) as string
  const holder = spawn(process.execPath, [
    '-e',
    `const d = new (require('node:sqlite').DatabaseSync)(process.argv[1]); d.exec('begin immediate'); console.log('held'); setInterval(() => {}, 1000)`,
    closed,
  ])
  await new Promise((resolve) => holder.stdout.once('data', resolve))
  await expect(t.kernel.sql('acme/keeper/ann', 'select 1', 'test')).rejects.toMatchObject({
    code: 'HomeUnavailable',
  })
  const waiting = t.call('keeper/ann', 'do', fill(10))
  expect(await t.call('keeper/bob', 'do', fill(10))).toMatchObject({ ok: true })
  holder.kill()
  expect(await waiting).toMatchObject({ ok: true, value: [{ ok: null }] })
  expect(await t.call('keeper/ann', 'do', count)).toMatchObject({ value: [{ ok: [{ n: 2 }] }] })
  await t.close()
})

it('do not come back after an erasure, whoever waited for a look at them', async () => {
  const t = await openTestKernel([KEEPER], { idleMs: 60_000 })
  await t.call('keeper/ann', 'do', fill(1_000_000))
  const long =
    'with recursive n(i) as (select 1 union all select i + 1 from n limit 1000000) select count(*) from n'
  const looks = Promise.allSettled([1, 2, 3].map(() => t.kernel.sql('acme/keeper/ann', long, 'test')))
  await new Promise((resolve) => setImmediate(resolve))
  await t.kernel.erase('acme/keeper/ann')
  for (const look of await looks)
    if (look.status === 'rejected')
      expect(look.reason).toMatchObject({
        class: expect.stringMatching(/Unavailable|NotFound|Stopped|Erased/),
      })
  await new Promise((resolve) => setTimeout(resolve, 500))
  const left = fs
    .readdirSync(path.join(t.data, 'homes'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.includes('.db'))
  expect(left).toEqual([])
  await t.close()
})

function linkOf(fd: string): string {
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}
