/** Receipts: one effect, provable by itself, by whoever has nothing but the node's public key. */
import fs from 'node:fs'
import path from 'node:path'
import { checkReceipt } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'
import { newSeed, rng } from '../support/seed.ts'

const seed = newSeed()

let t: TestKernel
let paid: string
let asked: string
let refused: string
const key = () => t.kernel.publicKey

beforeAll(async () => {
  const tools = [functionTool('bank.pay', 'once', ({ to }) => ({ id: `p-${to}` }))]
  const teller = {
    name: 'teller',
    file: programFile('teller.ts'),
    now: ['{ tool: bank.pay, args: { to: "*", amount: { max: 100 } } }'],
  }
  t = await openTestKernel([teller], { tools })
  const middleware = `apiVersion: cardinal/v1\nkind: Middleware\nmetadata: { tenant: acme, name: boss }\nspec: { tools: [bank.pay], approval: { roles: [boss], when: { arg: amount, atLeast: "50" } } }\n---\napiVersion: cardinal/v1\nkind: Middleware\nmetadata: { tenant: acme, name: hide }\nspec: { tools: [bank.pay], order: 1, redact: { args: [{ known: email }] } }\n`
  await t.kernel.apply(
    parseManifests(middleware, 'm.yaml', { isRange, defaultsOf: t.kernel.defaultsOf }),
    new Map(),
  )
  const use = (who: string, to: string, amount: number) =>
    t.kernel.invoke({
      address: `acme/teller/${who}`,
      method: 'use',
      args: { name: 'bank.pay', args: { to, amount } },
    })
  // Many at a time, so that commits hold many entries.
  await Promise.all(Array.from({ length: 60 }, async (_, i) => (await use(`k${i}`, `ann ${i}`, 10)).reply))
  const one = await use('a', 'eve@mail.example', 70)
  while ((await t.kernel.approvals.list()).length === 0)
    await new Promise((resolve) => setTimeout(resolve, 5))
  const [ask] = await t.kernel.approvals.list()
  await t.kernel.approvals.approve(ask?.id ?? '', ask?.digest ?? '', 'boss', 'carol')
  await one.reply
  asked = ask?.effect ?? ''
  await (await use('b', 'ann', 1000)).reply
  paid = 'acme/teller/k30@3.0'
  refused = 'acme/teller/b@3.0'
}, 60_000)
afterAll(() => t.close())

const get = async (effect: string, open = false) =>
  JSON.parse(JSON.stringify(await t.kernel.receipts.of(effect, open)))

describe('a receipt', () => {
  it('says who did what, allowed by what, and what came of it; and nothing of what was said', async () => {
    const receipt = await get(paid)
    expect(checkReceipt(receipt, key())).toMatchObject({
      effect: paid,
      who: { agent: 'acme/teller/k30', principals: ['local'] },
      what: { tool: 'bank.pay', class: 'once' },
      allowed: {
        verdict: 'allow',
        card: expect.stringMatching(/^card_/),
        middleware: [
          ['hide', expect.any(String), 'pass'],
          ['boss', expect.any(String), 'pass'],
        ],
        approvals: [],
      },
      done: { started: [expect.any(String)], outcome: 'done' },
    })
    expect(JSON.stringify(receipt)).not.toContain('ann 30')
    expect(
      Buffer.from(
        JSON.stringify(receipt.entries.map((e: { frames: string }) => e.frames)),
        'utf8',
      ).toString(),
    ).not.toContain('ann 30')
    expect(checkReceipt(receipt, key()).what).not.toHaveProperty('request')
  })

  it('discloses what was said where that is asked for: what went out, and the result', async () => {
    const facts = checkReceipt(await get(asked, true), key())
    expect(facts).toMatchObject({
      what: { request: { to: '[redacted]', amount: 70 } },
      allowed: {
        verdict: 'ask',
        approvals: [{ role: 'boss', by: 'carol' }],
        middleware: [
          ['hide', expect.any(String), 'rewrite'],
          ['boss', expect.any(String), 'ask'],
        ],
      },
      done: { outcome: 'done', result: { id: 'p-[redacted]' } },
    })
  })

  it('is there for what was refused, too', async () => {
    expect(checkReceipt(await get(refused), key())).toMatchObject({
      allowed: { verdict: 'refuse', by: 'card' },
      done: { started: [], outcome: 'refused (NoGrant)' },
    })
    await expect(get('acme/teller/a@999.0')).rejects.toMatchObject({ code: 'NoSuchEffect' })
  })

  it('proves nothing under another key', async () => {
    const other = await openTestKernel([])
    const receipt = await get(paid)
    expect(() => checkReceipt(receipt, other.kernel.publicKey)).toThrow('does not stand in a commit')
    expect(() => checkReceipt({ ...receipt, publicKey: other.kernel.publicKey }, key())).not.toThrow()
    await other.close()
  })

  it(`proves nothing once a byte of it is another (SEED=${seed})`, async () => {
    const random = rng(seed)
    const receipt = await get(asked, true)
    const before = JSON.stringify(checkReceipt(receipt, key()))
    const flip = (text: string, encoding: 'base64' | 'hex') => {
      const bytes = Buffer.from(text, encoding)
      const at = Math.floor(random() * bytes.length)
      bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(random() * 8))
      return bytes.toString(encoding)
    }
    let tried = 0
    for (let round = 0; round < 300; round++) {
      const copy = structuredClone(receipt)
      const entry = copy.entries[Math.floor(random() * copy.entries.length)]
      const what = Math.floor(random() * 4)
      if (what === 0) entry.frames = flip(entry.frames, 'base64')
      else if (what === 1) entry.commit = flip(entry.commit, 'base64')
      else if (what === 2 && entry.path.length > 0) entry.path[0][1] = flip(entry.path[0][1], 'hex')
      else if (what === 3 && entry.disclosed?.length > 0)
        entry.disclosed[0].bytes = flip(entry.disclosed[0].bytes, 'base64')
      else continue
      tried++
      // The end of a commit is not signed: its mark, and what is behind it.
      let after: string | undefined
      try {
        after = JSON.stringify(checkReceipt(copy, key()))
      } catch (error) {
        expect((error as { code?: string }).code).toBe('BadReceipt')
      }
      if (after !== undefined) expect(after).toBe(before)
    }
    expect(tried).toBeGreaterThan(150)
  })

  it('proves nothing with entries of another, of another turn, or in another order', async () => {
    const [one, other] = [await get(paid), await get('acme/teller/k31@3.0')]
    const splice = (entries: unknown[]) => () => checkReceipt({ ...one, entries }, key())
    expect(splice([...one.entries.slice(0, -1), other.entries.at(-1)])).toThrow('more than one agent')
    expect(splice(other.entries)).toThrow('are not those of')
    expect(splice([...one.entries].reverse())).toThrow('another order')
    expect(splice(one.entries.filter((_: unknown, i: number) => i !== 2))).toThrow(
      'the turn that asked for it',
    )
    expect(() => checkReceipt({ ...one, effect: 'acme/teller/k30@3.1' }, key())).toThrow(
      'the turn that asked for it',
    )
    expect(checkReceipt({ ...one, entries: one.entries.slice(0, -1) }, key()).done.outcome).toBe(
      'not ended yet',
    )
    for (const odd of [
      null,
      {},
      { ...one, format: 'x' },
      { ...one, entries: [] },
      { ...one, entries: [{ frames: '', path: [], commit: '' }, one.entries[0]] },
    ])
      expect(() => checkReceipt(odd, key())).toThrow(expect.objectContaining({ code: 'BadReceipt' }))
  })

  it('has a way up of more than one step, in commits of many entries', async () => {
    const lengths = await Promise.all(
      Array.from({ length: 60 }, async (_, i) =>
        (await get(`acme/teller/k${i}@3.0`)).entries.map((e: { path: unknown[] }) => e.path.length),
      ),
    )
    expect(Math.max(...lengths.flat())).toBeGreaterThan(2)
  })

  it('is proven still when the agent is erased, and discloses nothing any more', async () => {
    const open = await get('acme/teller/k5@3.0', true)
    await t.kernel.erase('acme/teller/k5')
    expect(checkReceipt(open, key())).toMatchObject({ done: { outcome: 'done' } })
    await expect(get('acme/teller/k5@3.0', true)).rejects.toMatchObject({ code: 'KeyDestroyed' })
    expect(fs.existsSync(path.join(t.data, 'log'))).toBe(true)
  })
})
