/** Images: the same program gives the same bytes, and an image that was altered is refused. */
import fs from 'node:fs'
import path from 'node:path'
import { layout } from '@cardinal/kernel'
import { expect, it } from 'vitest'
import { openTestKernel, programFile } from '../support/kernel.ts'

const worker = { name: 'worker', file: programFile('worker.ts'), now: ['{ tool: test.echo, args: "*" }'] }

it('the same program gives the same image, in any folder and under every compiler', async () => {
  const names: string[][] = []
  for (const compiler of ['optimized', 'quick', 'pulley'] as const) {
    const t = await openTestKernel([worker], { compiler })
    names.push(fs.readdirSync(layout(t.data).images).sort())
    await t.close()
  }
  // Three layers, the map of the program's lines, its first turn, and what says whose these are.
  const endings = ['', '', '', '.first', '.img', '.img', '.img', '.map']
  expect(names[0]?.map((name) => path.extname(name)).sort()).toEqual(endings)
  expect(names[1]).toEqual(names[0])
  expect(names[2]).toEqual(names[0])
})

it('an image with one bit flipped is refused by name, and loads once the bit is back', async () => {
  let t = await openTestKernel([worker])
  await t.call('worker/a', 'status')
  const folder = layout(t.data).images
  const name =
    fs
      .readdirSync(folder)
      .find((file) => file.endsWith('.map'))
      ?.replace('.map', '.img') ?? ''
  const file = path.join(folder, name)
  const clean = fs.readFileSync(file)
  const altered = Buffer.from(clean)
  altered[altered.length >> 1] = (altered[altered.length >> 1] as number) ^ 1
  await t.kernel.close()
  fs.writeFileSync(file, altered)
  t = await openTestKernel([], {}, t.data)
  await expect(t.call('worker/a', 'status')).rejects.toMatchObject({ class: 'Corrupt', code: 'NoImage' })
  fs.writeFileSync(file, clean)
  expect(await t.call('worker/a', 'status')).toMatchObject({ ok: true })
  await t.close()
})
