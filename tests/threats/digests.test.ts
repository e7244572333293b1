/**
 * Threat 73: somebody with every file of the node, its own keys included, tries a million guesses
 * against all that the log says in clear of an agent whose key was destroyed. The twin is the same
 * attack with that one key at hand, which finds the secret.
 */
import fs from 'node:fs'
import path from 'node:path'
import { layout } from '@cardinal/kernel'
import { hmacSha256, KeySlots, openNodeKey, purposeKey, sha256, ZERO_HASH } from '@cardinal/oplog'
import { afterEach, expect, it } from 'vitest'
import { ENTRY, PAGE_BYTES, readEntry, readFrame } from '../../packages/oplog/src/format.ts'
import { openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const GUESSES = 1_000_000
const PIN = '731904'
const worker = { name: 'worker', file: programFile('worker.ts'), now: [] }
const HEX = /[0-9a-f]{64}/g

let t: TestKernel
afterEach(() => t.close())

/** Every digest that stands readable in the log: of payloads, and in metas. */
function readable(log: string): { digests: Set<string>; metas: string[] } {
  const bytes = fs.readFileSync(path.join(log, '0000000001.seg'))
  const digests = new Set<string>()
  const metas: string[] = []
  for (let at = PAGE_BYTES; ; ) {
    const frame = readFrame(bytes, at)
    if (typeof frame === 'string') return { digests, metas }
    const header = frame.type === ENTRY ? readEntry(bytes.subarray(frame.bodyAt, frame.end)) : undefined
    if (header) {
      metas.push(header.meta)
      for (const digest of header.digests) digests.add(digest.toString('hex'))
      for (const [hex] of header.meta.matchAll(HEX)) digests.add(hex)
    }
    at = frame.end
  }
}

it('a six-digit argument is not found in any digest once its key is gone, and is found with the key', async () => {
  t = await openTestKernel([worker])
  const { folder } = t.kernel
  await t.kernel.invoke({
    address: 'acme/worker/gone',
    method: 'status',
    args: PIN,
    idempotencyKey: 'k',
  })
  await t.call('worker/kept', 'status', 'x')
  await t.kernel.close()
  const nodeKey = openNodeKey(folder.keys)
  const slots = new KeySlots(folder.keys, nodeKey)
  const [node, tenant] = [slots.open(0), slots.open(1)]
  const [gone, kept] = [slots.open(2, tenant), slots.open(3, tenant)]
  slots.close()
  t = await openTestKernel([], {}, t.data)
  await t.kernel.erase('acme/worker/gone')
  await t.kernel.close()

  const { digests, metas } = readable(layout(t.data).log)
  const accepted = metas.find((m) => m.includes('"method":"status"')) ?? ''
  const { invocation } = JSON.parse(accepted) as { invocation: string }
  expect(digests.size).toBeGreaterThan(5)
  /** The three texts that were ever hashed of this argument, each under one key. */
  const eventOf = (pin: string) => `{"t":"invoke","id":"${invocation}","method":"status","args":"${pin}"}`
  const found = (pin: string, key: Buffer) => {
    const event = Buffer.from(eventOf(pin))
    const same = Buffer.from(`samestatus\0"${pin}"`)
    return [event, same].some((text) => digests.has(hmacSha256(key, text).toString('hex')))
  }
  const survivors = [
    ZERO_HASH,
    nodeKey.master,
    purposeKey(nodeKey, 'cardinal.kernel.1'),
    purposeKey(nodeKey, 'cardinal.wrap.1'),
    node.key,
    tenant.key,
    kept.key,
  ]
  // The attack itself works: with the agent's own key the pin stands in the log.
  expect(found(PIN, gone.key)).toBe(true)
  const plain = (text: string) => sha256(Buffer.from(text)).toString('hex')
  const attack = (known: ReadonlySet<string>, from: number, to: number) => {
    const hits = new Set<string>()
    for (let i = from; i < to; i++) {
      const pin = String(i).padStart(6, '0')
      if ([pin, `"${pin}"`, eventOf(pin)].some((text) => known.has(plain(text)))) hits.add(pin)
      if (found(pin, survivors[i % survivors.length] as Buffer)) hits.add(pin)
    }
    return [...hits]
  }
  expect(attack(digests, 0, GUESSES)).toEqual([])
  for (const key of survivors) expect(found(PIN, key)).toBe(false)
  // A payload whose digest were a plain hash would be found.
  const planted = new Set([...digests, plain(eventOf(PIN))])
  expect(attack(planted, Number(PIN) - 100, Number(PIN) + 100)).toEqual([PIN])
})
