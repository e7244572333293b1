/**
 * Threats 44 and 75: a log edited, deleted, truncated, reordered, swapped or put back, by somebody
 * who may even hold the node's signing key. Each is refused by name and position and performs
 * nothing; the twin is the same rewriting of the log without the one change, which opens.
 */
import fs from 'node:fs'
import path from 'node:path'
import { layout } from '@cardinal/kernel'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FORMAT_VERSION } from '../../packages/oplog/src/format.ts'
import { type ForgedBatch, type ForgedEntry, forge } from '../support/forge.ts'
import { functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const grants = ['{ tool: test.pay, args: "*" }']
const file = programFile('worker.ts')
const programs = ['acme', 'globex'].map((tenant) => ({ tenant, name: 'worker', file, now: grants }))
const ledger: unknown[] = []
const tools = [functionTool('test.pay', 'once', (args) => ledger.push(args.to))]

const AGENT_AT = 8
const META_MARK = '"usage"'

function entriesOf(batches: readonly ForgedBatch[], agent: string): ForgedEntry[] {
  return batches.flatMap((b) => b.entries).filter((e) => e.agent === agent)
}

/** The two agents of the tests, in the order of their births. */
function agents(batches: readonly ForgedBatch[]): [string, string] {
  const births = batches.flatMap((b) => b.entries).filter((e) => e.kind === 'birth')
  return births.map((e) => e.agent) as [string, string]
}

function without(batches: ForgedBatch[], gone: ForgedEntry): ForgedBatch[] {
  const left = batches.map((b) => ({ ...b, entries: b.entries.filter((e) => e !== gone) }))
  return left.filter((b) => b.entries.length > 0)
}

function swap(batches: ForgedBatch[], a: ForgedEntry, b: ForgedEntry): ForgedBatch[] {
  const other = (e: ForgedEntry) => (e === a ? b : e === b ? a : e)
  return batches.map((batch) => ({ ...batch, entries: batch.entries.map(other) }))
}

function nth(entries: readonly ForgedEntry[], kind: string, n: number): ForgedEntry {
  const found = entries.filter((e) => e.kind === kind)[n]
  if (!found) throw new Error(`the log has no ${kind} number ${n}`)
  return found
}

describe('44: a log rewritten by somebody who holds the signing key', () => {
  let t: TestKernel
  beforeEach(async () => {
    t = await openTestKernel(programs, { tools })
    for (let i = 0; i < 3; i++)
      for (const tenant of ['acme', 'globex']) await t.call(`${tenant}/worker/a`, 'pay', { to: `${i}` })
    await t.kernel.close()
  })
  afterEach(() => {
    fs.rmSync(t.data, { recursive: true, force: true })
    fs.rmSync(t.anchor, { force: true })
  })

  const heads = () => [path.join(t.data, 'head'), t.anchor]

  async function refusal(change: (b: ForgedBatch[]) => ForgedBatch[], files = heads()): Promise<Error> {
    const paid = ledger.length
    forge(t.data, change, files)
    const error = await openTestKernel([], { tools }, t.data).then(
      async (opened) => {
        await opened.kernel.close()
        return undefined
      },
      (e: Error) => e,
    )
    expect(ledger.length).toBe(paid)
    if (!error) throw new Error('the forged log was opened')
    return error
  }

  it('without any change is the same log, and opens', async () => {
    const before = fs.readFileSync(path.join(layout(t.data).log, '0000000001.seg'))
    forge(t.data, (b) => b, heads())
    expect(fs.readFileSync(path.join(layout(t.data).log, '0000000001.seg')).equals(before)).toBe(true)
    const again = await openTestKernel([], { tools }, t.data)
    expect(await again.call('acme/worker/a', 'status')).toMatchObject({ ok: true })
    await again.kernel.close()
  })

  it('is refused with an entry removed', async () => {
    const error = await refusal((b) => without(b, nth(entriesOf(b, agents(b)[0]), 'accepted', 1)))
    expect(error).toMatchObject({ code: 'LogCorrupt', at: { file: '0000000001.seg' } })
    expect(error.message).toMatch(/does not follow its entry \d+/)
  })

  it('is refused with two entries of one agent reordered', async () => {
    const error = await refusal((b) => {
      const turns = entriesOf(b, agents(b)[0])
      return swap(b, nth(turns, 'turn', 1), nth(turns, 'turn', 2))
    })
    expect(error).toMatchObject({ code: 'LogCorrupt', at: { file: '0000000001.seg' } })
  })

  it('is refused with an entry taken from another tenant’s agent', async () => {
    const error = await refusal((b) => {
      const [one, two] = agents(b)
      return swap(b, nth(entriesOf(b, one), 'receipt', 1), nth(entriesOf(b, two), 'receipt', 1))
    })
    expect(error).toMatchObject({ code: 'LogCorrupt', at: { file: '0000000001.seg' } })
  })

  it('is refused with an entry relabelled as another agent’s', async () => {
    const error = await refusal((b) => {
      const [one, two] = agents(b)
      Buffer.from(two, 'hex').copy(nth(entriesOf(b, one), 'accepted', 2).bytes, AGENT_AT)
      return b
    })
    expect(error.message).toMatch(/of agent `[0-9a-f]{32}` does not follow/)
  })

  it('is refused with an entry edited, at the entry after it', async () => {
    const error = await refusal((b) => {
      const turn = nth(entriesOf(b, agents(b)[0]), 'turn', 1)
      const at = turn.bytes.indexOf(META_MARK)
      expect(at).toBeGreaterThan(0)
      turn.bytes[at + 1] = 'v'.charCodeAt(0)
      return b
    })
    expect(error.message).toMatch(/does not follow/)
  })

  it('is refused with payloads exchanged between two tenants', async () => {
    const error = await refusal((b) => {
      // The first also says what was read by it, which is longer for one of them.
      const [one, two] = agents(b).map((agent) => nth(entriesOf(b, agent), 'receipt', 1).bytes)
      const [a, c] = [one, two].map((bytes) =>
        (bytes as Buffer).indexOf(Buffer.of(0xc1, 2, FORMAT_VERSION, 0)),
      ) as [number, number]
      const tail = Buffer.from((one as Buffer).subarray(a))
      ;(two as Buffer).copy(one as Buffer, a, c)
      tail.copy(two as Buffer, c)
      return b
    })
    expect(error.message).toMatch(/a payload that its entry does not name/)
  })

  it('is refused with its last commit dropped, because an anchor outside the folder names it', async () => {
    const error = await refusal((b) => b.slice(0, -1), [path.join(t.data, 'head')])
    expect(error).toMatchObject({ class: 'Corrupt', code: 'LogShort' })
    expect(error.message).toMatch(/position \d+/)
  })

  it('is refused with its last entry edited, because an anchor outside the folder names its commit', async () => {
    const edit = (b: ForgedBatch[]) => {
      const last = b.at(-1)?.entries.at(-1)?.bytes as Buffer
      const at = last.indexOf('{"')
      last.writeUInt8('k'.charCodeAt(0), at + 2)
      return b
    }
    const error = await refusal(edit, [path.join(t.data, 'head')])
    expect(error).toMatchObject({ class: 'Corrupt' })
  })

  it('does not read one tenant’s payloads under the key record of the other', async () => {
    const slots = path.join(layout(t.data).keys, 'slots')
    const clean = fs.readFileSync(slots)
    const records = clean.length / 96
    const moved = Buffer.from(clean)
    clean.copy(moved, (records - 1) * 96, (records - 2) * 96, (records - 1) * 96)
    clean.copy(moved, (records - 2) * 96, (records - 1) * 96, records * 96)
    fs.writeFileSync(slots, moved)
    const error = await openTestKernel([], { tools }, t.data).then(
      async (opened) => {
        const reply = await opened.call('globex/worker/a', 'status').catch((e: Error) => e)
        await opened.kernel.close()
        return reply
      },
      (e: Error) => e,
    )
    expect(error).toMatchObject({ class: 'Corrupt', code: 'WrongKey' })
    fs.writeFileSync(slots, clean)
    const again = await openTestKernel([], { tools }, t.data)
    expect(await again.call('globex/worker/a', 'status')).toMatchObject({ ok: true })
    await again.kernel.close()
  })

  it('is refused with an older segment put back, and opens with the newest', async () => {
    const segment = path.join(layout(t.data).log, '0000000001.seg')
    const older = fs.readFileSync(segment)
    const later = await openTestKernel([], { tools }, t.data)
    await later.call('acme/worker/a', 'pay', { to: 'later' })
    await later.kernel.close()
    const newest = fs.readFileSync(segment)
    const paid = ledger.length
    fs.writeFileSync(segment, older)
    await expect(openTestKernel([], { tools }, t.data)).rejects.toMatchObject({ code: 'LogShort' })
    expect(ledger.length).toBe(paid)
    fs.writeFileSync(segment, newest)
    const again = await openTestKernel([], { tools }, t.data)
    expect(await again.call('acme/worker/a', 'status')).toMatchObject({ ok: true })
    await again.kernel.close()
  })
})
