/** Receipts: one effect, provable by itself, by whoever has nothing but the node's public key. */
import fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { checkReceipt } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  applyPrograms,
  applyZone,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'
import { newSeed, rng } from '../support/seed.ts'

const seed = newSeed()

let t: TestKernel
let paid: string
let asked: string
let refused: string
const key = () => t.kernel.publicKey

beforeAll(async () => {
  const tools = [
    functionTool('bank.pay', 'once', ({ to }) => ({ id: `p-${to}` })),
    functionTool('bank.look', 'read', () => null),
  ]
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
      who: {
        agent: 'acme/teller/k30',
        principals: ['local'],
        generation: 1,
        image: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
      what: { tool: 'bank.pay', class: 'once', digest: expect.stringMatching(/^[0-9a-f]{64}$/) },
      allowed: {
        verdict: 'allow',
        card: expect.stringMatching(/^card_/),
        grant: 0,
        cards: [{ id: expect.stringMatching(/^card_/), owner: 'acme/teller/k30' }],
        middleware: [
          ['hide', expect.any(String), 'pass'],
          ['boss', expect.any(String), 'pass'],
        ],
        approvals: [],
      },
      done: { started: [expect.any(String)], attempts: 1, outcome: 'done' },
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

  it('names the card of a child, and each above it, as the entries that minted them', async () => {
    const boss = {
      name: 'boss',
      file: programFile('boss.ts'),
      limits: '{ depth: 3, calls: 50 }',
      now: [
        '{ tool: bank.look, args: "*" }',
        '{ tool: bank.pay, args: { to: "*", amount: { max: 100 } }, ask: [] }',
        '{ tool: agent.*, resource: "*", method: "*" }',
      ],
    }
    await applyPrograms(t.kernel, [boss])
    const card = {
      now: [{ tool: 'bank.pay', args: { to: ['ann'], amount: { max: 5 } }, ask: [] }],
      limits: { calls: 3 },
    }
    const spawned = await t.call('boss/b', 'spawn', { key: 'kid', card, keep: true })
    expect(spawned).toMatchObject({ ok: true })
    const [{ address }] = (t.kernel.view.agents({}) as { address: string }[]).filter((a) =>
      /kid/.test(a.address),
    ) as [{ address: string }]
    const call = {
      to: 'boss/kid',
      method: 'tool',
      args: { name: 'bank.pay', args: { to: 'ann', amount: 1 } },
    }
    const made = await t.kernel.invoke({
      address: 'acme/boss/b',
      method: 'call',
      args: call,
      principal: 'person.bob',
    })
    expect(await made.reply).toMatchObject({
      ok: true,
      value: { ok: { ok: { id: 'p-ann' } } },
    })
    const lines = (await t.kernel.view.history(address, { limit: 50 })) as { seq: number; text: string }[]
    const seq = lines.find(({ text }) => /1 effect/.test(text))?.seq
    const receipt = await get(`${address}@${seq}.0`)
    const facts = checkReceipt(receipt, key())
    expect(facts.allowed).toMatchObject({ verdict: 'allow', grant: 0 })
    expect(facts.allowed.cards).toHaveLength(2)
    expect(facts.allowed.cards[0]).toMatchObject({ id: facts.allowed.card, owner: address })
    expect(JSON.stringify(facts.allowed.cards[0])).toContain('"calls":"3"')
    expect(facts.allowed.cards[1]).toMatchObject({ owner: 'acme/boss/b' })
    expect(facts.who.principals).toEqual(['person.bob'])
    // Nobody puts another card there, or leaves out who is above.
    const [lowest, root] = receipt.cards
    for (const cards of [[lowest], [root], [root, lowest], [lowest, lowest], [lowest, root, root]])
      expect(() => checkReceipt({ ...receipt, cards }, key())).toThrow(/cards|minted/)
    const { cards: _cards, ...without } = receipt
    expect(() => checkReceipt(without, key())).toThrow('no receipt')
  })

  it('says of which version its tool was, what the other side calls it, and how often it was tried', async () => {
    let failures = 2
    const service = http.createServer((_request, response) => {
      response.setHeader('x-request-id', 'req-7f3/1')
      if (failures-- > 0) response.socket?.destroy()
      else response.end('{"id":"up"}')
    })
    await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve))
    const { port } = service.address() as AddressInfo
    const own = await openTestKernel([])
    try {
      await applyZone(own.kernel, '127.0.0.1', '127.0.0.0/8')
      const text = (about: string) => `apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: acme, name: shop.order }
spec:
  about: ${about}
  effect: idempotent
  in: { type: object, properties: {} }
  http: { method: POST, url: "http://127.0.0.1:${port}/x", body: json, idempotencyHeader: idempotency-key }
`
      const agent = `---\napiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: acme, name: teller }\nspec: { program: x, card: { now: [{ tool: shop.order, args: "*" }] } }\n`
      const bundle = await bundleProgram(programFile('teller.ts'))
      const apply = (about: string) =>
        own.kernel.apply(
          parseManifests(text(about) + agent, 'm.yaml', { isRange, defaultsOf: own.kernel.defaultsOf }),
          new Map([['acme/teller', bundle]]),
        )
      const factsOf = async (seq: number, open = false) =>
        checkReceipt(
          JSON.parse(JSON.stringify(await own.kernel.receipts.of(`acme/teller/a@${seq}.0`, open))),
          own.kernel.publicKey,
        )
      await apply('orders')
      const order = () => own.call('teller/a', 'use', { name: 'shop.order', args: {} })
      expect(await order()).toMatchObject({ ok: true, value: { ok: true } })
      const first = await factsOf(3, true)
      // What others say stands where it can be erased, and is told to nobody who was not shown it.
      expect(JSON.stringify(await factsOf(3))).not.toContain('req-7f3')
      expect(first.done).toMatchObject({ attempts: 3, upstream: 'req-7f3/1', outcome: 'done' })
      await apply('orders, in other words')
      await order()
      const turns = (await own.kernel.view.history('acme/teller/a', { limit: 50 })) as {
        seq: number
        text: string
      }[]
      const second = await factsOf(turns.filter(({ text: said }) => /1 effect/.test(said)).at(-1)?.seq ?? 0)
      expect(second.done.attempts).toBe(1)
      expect([first.who.generation, second.who.generation]).toEqual([1, 1])
      expect([first.what.version, second.what.version]).toEqual([
        expect.stringMatching(/^[0-9a-f]{16}$/),
        expect.stringMatching(/^[0-9a-f]{16}$/),
      ])
      expect(first.what.version).not.toBe(second.what.version)
    } finally {
      await own.close()
      service.close()
    }
  })

  it('is worth nothing with an entry left out that others show to have been there', async () => {
    const receipt = await get(asked, true)
    const kindOf = (entry: { frames: string }) => {
      const frames = Buffer.from(entry.frames, 'base64').toString('latin1')
      return ['"what":"mediated"', '"role":"boss"'].findIndex((mark) => frames.includes(mark))
    }
    const without = (which: number) => ({
      ...receipt,
      entries: receipt.entries.filter((entry: { frames: string }) => kindOf(entry) !== which),
    })
    expect(without(0).entries.length).toBe(receipt.entries.length - 1)
    expect(() => checkReceipt(without(0), key())).toThrow('what middleware did is missing')
    expect(without(1).entries.length).toBe(receipt.entries.length - 1)
    expect(() => checkReceipt(without(1), key())).toThrow('who approved is missing')
    const plain = await get(paid)
    const started = plain.entries.length - 2
    const entries = plain.entries.filter((_: unknown, i: number) => i !== started)
    expect(() => checkReceipt({ ...plain, entries }, key())).toThrow('when it began is missing')
    // The last may be: then it says no more than that it has not ended.
    expect(checkReceipt({ ...plain, entries: plain.entries.slice(0, -1) }, key()).done.outcome).toBe(
      'not ended yet',
    )
  })

  it('says in whose name it was done, whichever inputs its turn had, and nobody else’s', async () => {
    const call = (principal: string) =>
      t.kernel.invoke({
        address: 'acme/teller/names',
        method: 'use',
        args: { name: 'bank.pay', args: { to: 'ann', amount: 1 } },
        principal,
      })
    for (const principal of ['person.bob', 'person.eve']) await (await call(principal)).reply
    const lines = (await t.kernel.view.history('acme/teller/names', { limit: 50 })) as {
      seq: number
      text: string
    }[]
    const seqs = lines.filter(({ text }) => /1 effect/.test(text)).map(({ seq }) => seq)
    const both = await Promise.all(seqs.map((seq) => get(`acme/teller/names@${seq}.0`)))
    expect(both.map((one) => checkReceipt(one, key()).who.principals)).toEqual([
      ['person.bob'],
      ['person.eve'],
    ])
  })

  it('names the grant that let it through, and the version of the manifest that was in force', async () => {
    const now = [
      '{ tool: bank.pay, args: { to: "*", amount: { max: 100 } }, ask: [boss] }',
      '{ tool: bank.pay, args: { to: "*", amount: { max: 10 } }, ask: [] }',
    ]
    const clerk = { name: 'clerk', file: programFile('teller.ts'), now }
    await applyPrograms(t.kernel, [clerk])
    const use = (amount: number) =>
      t.kernel.invoke({
        address: 'acme/clerk/a',
        method: 'use',
        args: { name: 'bank.pay', args: { to: 'ann', amount } },
      })
    await (await use(5)).reply
    await applyPrograms(t.kernel, [{ ...clerk, now: [...now].reverse() }])
    await (await use(5)).reply
    const third = await use(40)
    await expect.poll(async () => (await t.kernel.approvals.list()).length).toBe(1)
    const [ask] = await t.kernel.approvals.list()
    await t.kernel.approvals.approve(ask?.id ?? '', ask?.digest ?? '', 'boss', 'carol')
    await third.reply
    const lines = (await t.kernel.view.history('acme/clerk/a', { limit: 50 })) as {
      seq: number
      text: string
    }[]
    const seqs = lines.filter(({ text }) => /1 effect/.test(text)).map(({ seq }) => seq)
    const facts = await Promise.all(
      seqs.map(async (seq) => checkReceipt(await get(`acme/clerk/a@${seq}.0`), key())),
    )
    expect(
      facts.map(({ who, allowed }) => [who.generation, allowed.grant, allowed.approvals.length]),
    ).toEqual([
      [1, 1, 0],
      [2, 0, 0],
      [2, 1, 1],
    ])
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
    expect(splice(one.entries.filter((_: unknown, i: number) => i !== 1))).toThrow(
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
