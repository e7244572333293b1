/** `docs/globals.md` says what a guest finds; this asks a guest. */
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const table = fs.readFileSync(path.join(import.meta.dirname, '../../docs/globals.md'), 'utf8')
const rows = [...table.matchAll(/^\| (`[^|]+)\| (yes|no) +\|/gm)].flatMap(([, names = '', there]) =>
  [...names.matchAll(/`([^`]+)`/g)].map(([, name = '']) => ({ name, there: there === 'yes' })),
)

describe('the table of globals', () => {
  let t: TestKernel
  beforeAll(async () => {
    t = await openTestKernel([{ name: 'globals', file: programFile('globals.ts'), now: [] }])
  })
  afterAll(() => t.close())

  it('says of every name what a guest sees', async () => {
    expect(rows.length).toBeGreaterThan(30)
    const found = await t.call('globals/g', 'has', { names: rows.map((r) => r.name) })
    if (!found.ok) throw new Error(found.error.message)
    const seen = rows.map((row, i) => ({ name: row.name, there: (found.value as boolean[])[i] }))
    expect(seen).toEqual(rows)
  })

  it('names things that work', async () => {
    expect(await t.call('globals/g', 'works')).toEqual({
      ok: true,
      value: {
        href: 'https://a.example/c/b?x=1&y=%20',
        y: ' ',
        text: 'häßlich 😀',
        cloned: 5,
        aborted: [true, 1],
        header: '1',
        locale: 'RangeError',
        bytes: 4,
      },
    })
  })
})
