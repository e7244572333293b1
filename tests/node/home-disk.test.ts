/** Homes on a disk without room, and under few descriptors. */
import { spawnSync } from 'node:child_process'
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
  const open = () => fs.readdirSync('/proc/self/fd').filter((fd) => homeOf(fd) !== undefined).length
  const homeOf = (fd: string) => {
    try {
      const target = fs.readlinkSync(`/proc/self/fd/${fd}`)
      return target.startsWith(path.join(t.data, 'homes')) ? target : undefined
    } catch {
      return undefined
    }
  }
  const agents = Array.from({ length: 20 }, (_, i) => `keeper/a${i}`)
  for (let round = 1; round <= 3; round++) {
    const said = await Promise.all(agents.map((agent) => t.call(agent, 'do', fill(1000))))
    expect(said.filter(({ ok }) => !ok)).toEqual([])
    await expect.poll(open).toBeLessThanOrEqual(2 * 4)
    expect(open()).toBeGreaterThan(0)
  }
  expect(t.kernel.stats().live).toBe(20)
  for (const agent of agents)
    expect(await t.call(agent, 'do', count)).toMatchObject({ value: [{ ok: [{ n: 3, bytes: 3000 }] }] })
  expect(await t.kernel.replay('acme/keeper/a7')).toMatchObject({ turns: 4 })
  await t.close()
})
