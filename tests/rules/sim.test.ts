/** `cards sim` itself: whatever is written to it, it answers a line with a line, and a refusal changes nothing. */
import { spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { Sim } from '@cardinal/cards'
import { describe, expect, it } from 'vitest'
import { generate, type Op } from './history.ts'
import { Random } from './random.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const WISHES = { ops: 60, budgets: true, reroots: true, openMethods: true, forks: true }
const ODD = [
  null,
  true,
  0,
  -1,
  1.5,
  '',
  'x',
  '*',
  '__proto__',
  [],
  [null],
  {},
  { a: 1 },
  '\u0000',
  'x'.repeat(9000),
]
const HISTORIES = 150

type Answer = Record<string, unknown>
const ask = (sim: Sim, op: object): Answer => JSON.parse(sim.run(JSON.stringify(op))) as Answer

/** The operation with one of its values, however deep, made something else. */
function spoiled(r: Random, op: Op): Op {
  const copy = structuredClone(op) as Record<string, unknown>
  let at = copy
  for (;;) {
    const keys = Object.keys(at).filter((key) => key !== 'op')
    if (keys.length === 0) return { ...copy, extra: 1 } as unknown as Op
    const key = r.pick(keys)
    const inner = at[key]
    if (typeof inner !== 'object' || inner === null || r.chance(40)) {
      at[key] = r.pick(ODD)
      return copy as Op
    }
    at = inner as Record<string, unknown>
  }
}

function cardsMade({ op, card, cards }: Op): string[] {
  if (op === 'root' || op === 'offer') return [card as string]
  if (op === 'spawn') return (cards as { card: string }[]).map((birth) => birth.card)
  return op === 'fork' ? Object.values(cards as Record<string, string>) : []
}

describe(`cards sim (SEED=${seed})`, () => {
  it('answers every line with one line of JSON, whatever stands there', () => {
    for (let i = 0; i < HISTORIES; i++) {
      const r = new Random(seed + i)
      const sim = new Sim()
      for (const op of generate(seed + i, WISHES)) {
        const line = JSON.stringify(r.chance(30) ? spoiled(r, op) : op)
        const cut = r.chance(3) ? line.slice(0, r.below(line.length)) : line
        const answer = sim.run(cut)
        expect(answer.includes('\n'), cut).toBe(false)
        const { ok, code } = JSON.parse(answer) as Answer
        expect(ok === true || typeof code === 'string', `${cut} -> ${answer}`).toBe(true)
      }
    }
  })

  it('changes nothing by what it refuses, but what the answer shows the asker', () => {
    const refused = new Map<unknown, number>()
    for (let i = 0; i < HISTORIES; i++) {
      const sim = new Sim()
      const agents = new Set<string>()
      const cards = new Set<string>()
      for (const op of generate(seed + i, WISHES)) {
        const asker = (op.by ?? op.from ?? op.agent) as string | undefined
        const all = () => [...agents].map((agent) => ask(sim, { op: 'show', agent }))
        const before = { shown: all(), got: [...cards].map((card) => ask(sim, { op: 'get', card })) }
        const answer = ask(sim, op)
        if (answer.ok) {
          for (const name of ['agent', 'as']) if (typeof op[name] === 'string') agents.add(op[name])
          for (const card of cardsMade(op)) cards.add(card)
          continue
        }
        refused.set(answer.code, (refused.get(answer.code) ?? 0) + 1)
        expect(
          [...cards].map((card) => ask(sim, { op: 'get', card })),
          JSON.stringify(op),
        ).toEqual(before.got)
        const names = [...agents]
        all().forEach((after, n) => {
          const was = before.shown[n] as Answer
          // The asker may have learned something: then it has lost, and gained nothing.
          const same = names[n] === asker ? { stopped: was.stopped, held: was.held } : was
          expect(after, `${JSON.stringify(op)} of ${names[n]}`).toMatchObject(same)
        })
      }
    }
    // The check saw refusals of many kinds; how many, the seed decides.
    expect(refused.size).toBeGreaterThan(11)
  })

  it('counts no time that numbers do not hold', () => {
    const sim = new Sim()
    const last = Number.MAX_SAFE_INTEGER
    expect(ask(sim, { op: 'tick', ms: last })).toEqual({ ok: true, now: last })
    expect(ask(sim, { op: 'tick', ms: 1 })).toMatchObject({ ok: false, code: 'BadOp' })
    expect(ask(sim, { op: 'tick', ms: 0 })).toEqual({ ok: true, now: last })
  })

  it('says the same of the same history, also after a reset', () => {
    const ops = generate(seed, WISHES)
    const sim = new Sim()
    const first = ops.map((op) => sim.run(JSON.stringify(op)))
    expect(sim.run('{"op":"reset"}')).toBe('{"ok":true}')
    expect(ops.map((op) => sim.run(JSON.stringify(op)))).toEqual(first)
  })
})

describe('the command', () => {
  const main = path.join(import.meta.dirname, '../../packages/cli/src/main.ts')
  it('answers each line before the next is written, skips blank ones, and ends with its input', async () => {
    const child = spawn(process.execPath, [main, 'cards', 'sim'], { stdio: ['pipe', 'pipe', 'ignore'] })
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const next = async () => (await lines.next()).value as string | undefined
    child.stdin.write('{"op":"tick","ms":5}\n')
    expect(await next()).toBe('{"ok":true,"now":5}')
    child.stdin.write('\n  \r\n{"op":"tick","ms":1}\r\n{"op":')
    expect(await next()).toBe('{"ok":true,"now":6}')
    child.stdin.end('"tick","ms":1}')
    expect(await next()).toBe('{"ok":true,"now":7}')
    expect(await next()).toBeUndefined()
    const code = child.exitCode ?? (await new Promise((resolve) => child.once('exit', resolve)))
    expect(code).toBe(0)
  })
})
