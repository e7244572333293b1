/** The log on a real folder: what is acknowledged is there, and what was tampered with is refused by name and position. */
import { createHash, createHmac } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  KeySlots,
  Log,
  LogError,
  NO_POS,
  openNodeKey,
  type PayloadKey,
  type Tip,
  verifyLog,
  ZERO_HASH,
} from './index.ts'
import { MAX_OPEN_SEGMENTS } from './reader.ts'

const SEGMENT = 1 << 20
let folder: string
let seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const random = () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return seed / 2 ** 32
}

interface Open {
  readonly log: Log
  readonly slots: KeySlots
  readonly publicKey: string
}

function open(options: { acceptLoss?: number } = {}): Open {
  const nodeKey = openNodeKey(path.join(folder, 'keys'))
  const slots = new KeySlots(path.join(folder, 'keys'), nodeKey)
  const log = Log.open({
    folder: path.join(folder, 'log'),
    nodeKey,
    keySlots: slots,
    anchors: [],
    segmentBytes: SEGMENT,
    now: () => 1_800_000_000_000,
    onFatal: (error) => {
      throw error
    },
    ...options,
  })
  return { log, slots, publicKey: nodeKey.publicHex }
}

const FIRST: Tip = { pos: NO_POS, seq: 0 as Tip['seq'], hash: ZERO_HASH }

function agent(n: number): Buffer {
  return createHash('md5').update(String(n)).digest()
}

/** Appends so many entries of three agents and returns their tips. */
async function fill({ log }: Open, key: PayloadKey, count: number): Promise<Tip[]> {
  const tips = [FIRST, FIRST, FIRST]
  for (let i = 0; i < count; i++) {
    const n = i % 3
    const payloads = [Buffer.from(`payload ${i}`)]
    tips[n] = log.append({
      agent: agent(n),
      tip: tips[n] as Tip,
      kind: 'turn',
      timeMs: i,
      meta: `{"i":${i}}`,
      payloads,
      key,
    })
    if (i % 5 === 4) await log.untilDurable((tips[n] as Tip).pos)
  }
  await log.untilDurable((tips[(count - 1) % 3] as Tip).pos)
  return tips
}

async function filled(count = 60): Promise<{ tips: Tip[]; publicKey: string; slot: number }> {
  const opened = open()
  const key = opened.slots.create()
  const tips = await fill(opened, key, count)
  await opened.log.close()
  opened.slots.close()
  return { tips, publicKey: opened.publicKey, slot: key.slot }
}

const segment = (n = 1) => path.join(folder, 'log', `${String(n).padStart(10, '0')}.seg`)

function tamper(change: (bytes: Buffer) => void, n = 1): void {
  const bytes = fs.readFileSync(segment(n))
  change(bytes)
  fs.writeFileSync(segment(n), bytes)
}

function refused(): LogError {
  try {
    open()
  } catch (error) {
    if (error instanceof LogError) return error
    throw error
  }
  throw new Error('the log was opened')
}

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cardinal-log-'))
})
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }))

describe('a log', () => {
  it('gives back payloads of entries that were read before those of many other segments', async () => {
    const { log, slots } = open()
    const key = slots.create()
    let tip = FIRST
    const found: { pos: Tip['pos']; text: string }[] = []
    for (let i = 0; !fs.existsSync(segment(MAX_OPEN_SEGMENTS + 4)); i++) {
      const text = `payload ${i} `.repeat(40_000)
      const payloads = [Buffer.from(text)]
      tip = log.append({ agent: agent(1), tip, kind: 'turn', timeMs: i, meta: '{}', payloads, key })
      found.push({ pos: tip.pos, text })
      await log.untilDurable(tip.pos)
    }
    const entries = found.map(({ pos, text }) => ({ entry: log.read(pos), text }))
    for (const { entry, text } of entries)
      expect(entry.payloads(() => slots.open(key.slot))[0]?.toString() === text).toBe(true)
    await log.close()
    slots.close()
  })

  it('gives back what was appended, after it was closed and opened again', async () => {
    const { tips, slot } = await filled()
    const { log, slots } = open()
    const entry = log.read((tips[2] as Tip).pos)
    expect(entry.hash).toEqual((tips[2] as Tip).hash)
    expect(entry.header.meta).toBe('{"i":59}')
    expect(entry.payloads(() => slots.open(slot)).map(String)).toEqual(['payload 59'])
    await log.close()
  })

  it('goes on where it ended, over many segments', async () => {
    const first = open()
    const key = first.slots.create()
    const big = Buffer.alloc(200_000, 1)
    let tip = FIRST
    for (let i = 0; i < 12; i++)
      tip = first.log.append({
        agent: agent(1),
        tip,
        kind: 'turn',
        timeMs: 0,
        meta: '{}',
        payloads: [big],
        key,
      })
    await first.log.close()
    const second = open()
    tip = second.log.append({ agent: agent(1), tip, kind: 'turn', timeMs: 0, meta: '{}', payloads: [], key })
    await second.log.close()
    const report = verifyLog(folder, { publicKey: first.publicKey })
    expect(report).toMatchObject({ ok: true, entries: 13, agents: 1, pinned: true })
    expect(report.segments).toBeGreaterThan(2)
  })

  it('refuses an entry that fits no segment, and takes the next', async () => {
    const { log, slots } = open()
    const key = slots.create()
    const entry = { agent: agent(1), tip: FIRST, kind: 'turn', timeMs: 0, meta: '{}', key }
    expect(() => log.append({ ...entry, payloads: [Buffer.alloc(SEGMENT)] })).toThrow(/does not fit/)
    const tip = log.append({ ...entry, payloads: [Buffer.alloc(10)] })
    await log.untilDurable(tip.pos)
    await log.close()
  })

  it('cuts an end that a power cut tore, and keeps everything before it', async () => {
    const { tips } = await filled()
    const before = verifyLog(folder)
    const more = open()
    const key = more.slots.create()
    const tip = more.log.append({
      agent: agent(0),
      tip: tips[0] as Tip,
      kind: 'turn',
      timeMs: 0,
      meta: '{}',
      payloads: [Buffer.alloc(4000, 7)],
      key,
    })
    await more.log.untilDurable(tip.pos)
    const head = fs.readFileSync(path.join(folder, 'head'))
    await more.log.close()
    // Two sectors of the last batch never arrived, and the head that names it neither.
    tamper((bytes) =>
      bytes.fill(
        0,
        (before.end % 2 ** 32) + 1024 - ((before.end % 2 ** 32) % 512),
        (before.end % 2 ** 32) + 2048 - ((before.end % 2 ** 32) % 512),
      ),
    )
    fs.writeFileSync(path.join(folder, 'head'), head)
    const again = open()
    expect(again.log.end).toBe(before.end)
    await again.log.close()
    expect(verifyLog(folder)).toMatchObject({ ok: true, entries: 60, tornBytes: 0 })
  })
})

describe('a segment that was just begun', () => {
  it('may hold its page and nothing else, as after a power cut, and is gone on with', async () => {
    const first = open()
    const key = first.slots.create()
    const entry = {
      agent: agent(1),
      kind: 'turn',
      timeMs: 0,
      meta: '{}',
      payloads: [Buffer.alloc(200_000)],
      key,
    }
    let tip = FIRST
    for (let i = 0; i < 4; i++) tip = first.log.append({ ...entry, tip })
    await first.log.close()
    const head = fs.readFileSync(path.join(folder, 'head'))
    const second = open()
    const lost = second.log.append({ ...entry, tip, payloads: [Buffer.alloc(400_000)] })
    await second.log.close()
    expect(Math.floor(lost.pos / 2 ** 32)).toBe(2)
    // The batch never arrived: behind the page there is only room, and the head does not know of it.
    tamper((bytes) => bytes.fill(0, 4096), 2)
    fs.writeFileSync(path.join(folder, 'head'), head)
    const third = open()
    expect(third.log.read(tip.pos).hash).toEqual(tip.hash)
    const next = third.log.append({ ...entry, tip })
    await third.log.close()
    expect(Math.floor(next.pos / 2 ** 32)).toBe(2)
    expect(verifyLog(folder)).toMatchObject({ ok: true, entries: 5, segments: 2 })
  })
})

describe('a log that was tampered with', () => {
  it('is refused for one flipped bit anywhere, with the file named', async () => {
    await filled()
    const { end } = verifyLog(folder)
    const clean = fs.readFileSync(segment())
    const used = end % 2 ** 32
    for (let i = 0; i < 250; i++) {
      const at = i < 200 ? Math.floor(random() * used) : used + Math.floor(random() * (clean.length - used))
      const bit = 1 << Math.floor(random() * 8)
      fs.writeFileSync(segment(), clean)
      tamper((bytes) => {
        bytes[at] = (bytes[at] as number) ^ bit
      })
      const error = refused()
      expect(['LogCorrupt', 'LogVersion'], `bit ${bit} of byte ${at}: ${error.message}`).toContain(error.code)
      expect(error.message).toContain('0000000001.seg')
      expect(verifyLog(folder).ok).toBe(false)
    }
    fs.writeFileSync(segment(), clean)
    await open().log.close()
  })

  it('is refused when a segment is missing, in the middle or at the end', async () => {
    const opened = open()
    const key = opened.slots.create()
    let tip = FIRST
    for (let i = 0; i < 20; i++)
      tip = opened.log.append({
        agent: agent(1),
        tip,
        kind: 'turn',
        timeMs: 0,
        meta: '{}',
        payloads: [Buffer.alloc(200_000)],
        key,
      })
    await opened.log.close()
    const last = fs.readdirSync(path.join(folder, 'log')).filter((n) => n.endsWith('.seg')).length
    const kept = fs.readFileSync(segment(2))
    fs.rmSync(segment(2))
    expect(refused().message).toMatch(/0000000002.seg.*missing/)
    fs.writeFileSync(segment(2), kept)
    fs.rmSync(segment(last))
    expect(refused()).toMatchObject({ code: 'LogShort' })
  })

  it('is refused when an entry is removed, moved or given to another agent, even with a commit made anew by another key', async () => {
    await filled(30)
    const other = fs.mkdtempSync(path.join(os.tmpdir(), 'cardinal-log-'))
    const real = folder
    folder = other
    await filled(30)
    fs.copyFileSync(path.join(other, 'log', '0000000001.seg'), path.join(real, 'log', '0000000001.seg'))
    fs.rmSync(other, { recursive: true })
    folder = real
    expect(refused()).toMatchObject({ code: 'LogCorrupt' })
  })

  it('is refused with the batches of one agent reordered', async () => {
    await filled(30)
    tamper((bytes) => {
      const first = Buffer.from(bytes.subarray(4096, 4096 + 700))
      bytes.copy(bytes, 4096, 4796, 5496)
      first.copy(bytes, 4796)
    })
    expect(refused()).toMatchObject({ code: 'LogCorrupt', at: { file: '0000000001.seg', offset: 4096 } })
  })

  it('is refused when its head is missing, and opens when an operator accepts exactly that end', async () => {
    await filled()
    fs.rmSync(path.join(folder, 'head'))
    const error = refused()
    expect(error.code).toBe('LogShort')
    const end = Number(/--accept-loss (\d+)/.exec(error.message)?.[1])
    expect(() => open({ acceptLoss: end - 1 })).toThrow(/head/)
    await open({ acceptLoss: end }).log.close()
  })

  it('verifies under the key that signed it, and under no other', async () => {
    const { publicKey } = await filled()
    expect(verifyLog(folder, { publicKey })).toMatchObject({ ok: true })
    const wrong = `${publicKey.startsWith('0') ? '1' : '0'}${publicKey.slice(1)}`
    expect(verifyLog(folder, { publicKey: wrong })).toMatchObject({ ok: false })
  })
})

describe('an erased agent', () => {
  it('is unreadable, guessing a small payload from its digest included, and the log still verifies', async () => {
    const { tips, publicKey, slot } = await filled()
    const { log, slots } = open()
    const entry = log.read((tips[0] as Tip).pos)
    const digest = (entry.header.digests[0] as Buffer).toString('hex')
    slots.destroy(slot)
    expect(() => entry.payloads(() => slots.open(slot))).toThrow(/destroyed/)
    await log.close()
    expect(verifyLog(folder, { publicKey }).ok).toBe(true)
    // Whoever has the files but not the key has no salt: no plain or keyed hash of a guess is the digest.
    const nodeKey = openNodeKey(path.join(folder, 'keys'))
    for (let i = 0; i < 2000; i++) {
      const guess = Buffer.from(`payload ${i}`)
      expect(createHash('sha256').update(guess).digest('hex')).not.toBe(digest)
      expect(createHmac('sha256', nodeKey.master).update(guess).digest('hex')).not.toBe(digest)
      expect(createHmac('sha256', Buffer.alloc(16)).update(guess).digest('hex')).not.toBe(digest)
    }
  })
})
