/** The log alone makes a home again: what is lost is what was there, row by row. */
import fs from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { agree } from '../sql/agreement.ts'
import { KEEPER } from '../sql/keeper.ts'
import { dumpHome } from '../support/home-dump.ts'
import { openTestKernel, programFile } from '../support/kernel.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const CARRIER = { name: 'carrier', file: programFile('carrier.ts'), now: [] }

it(`is the same, byte for byte, made from the first entry on (SEED=${seed})`, async () => {
  let t = await openTestKernel([KEEPER, CARRIER], { limits: { sql: 200_000 } })
  try {
    await agree(t, seed, 'all', 200)
    const agents = [`acme/keeper/sleeper-${seed}`, `acme/keeper/waker-${seed}`, 'acme/carrier/ann']
    for (const text of ['one', 'two', 'drei\u0000vier'])
      expect(await t.call('carrier/ann', 'keep', { text })).toMatchObject({ ok: true })
    await t.call('carrier/ann', 'drop', { text: 'two' })
    await t.kernel.files.put('acme/carrier/ann', '/in.bin', [Buffer.from([0, 255, 128])] as never, 'test')
    const before = await Promise.all(agents.map((agent) => dumpHome(t, agent)))
    await t.kernel.close()
    fs.rmSync(path.join(t.data, 'homes'), { recursive: true })
    t = await openTestKernel([], { limits: { sql: 200_000 } }, t.data)
    const after = await Promise.all(agents.map((agent) => dumpHome(t, agent)))
    expect(after).toEqual(before)
    expect(before[0]?.length).toBeGreaterThan(1000)
    expect(before[2]).toMatch(/cardinal_files \[.*in\.bin/)
    // One row more is seen.
    await t.call('carrier/ann', 'keep', { text: 'five' })
    expect(await dumpHome(t, 'acme/carrier/ann')).not.toBe(after[2])
  } finally {
    await t.close()
  }
})
