/** The rules of cards: attacks by name, random histories held against an oracle, and mutants that both must find. */
import { Sim } from '@cardinal/cards'
import { describe, expect, it } from 'vitest'
import { buildMutant, MUTANTS } from './mutants.ts'
import { check, type NewRules, showFailure } from './run.ts'
import { type Line, SCENARIOS } from './scenarios.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const HISTORIES = 1500

const rules: NewRules = () => new Sim()

function answers(newRules: NewRules, lines: readonly Line[]): unknown[] {
  const sim = newRules()
  return lines.map(([op]) => JSON.parse(sim.run(op)))
}

describe('an attack', () => {
  for (const { name, lines, after = [], twin } of SCENARIOS) {
    it(name, () => {
      const all = [...lines, ...after]
      const given = answers(rules, all)
      all.forEach(([op, answer], i) => {
        expect(given[i], op).toMatchObject(JSON.parse(answer))
      })
      const allowed = answers(rules, withTwin(lines, twin))
      expect(allowed.at(-1), `twin: ${twin.op}`).toMatchObject(JSON.parse(twin.last))
    })
  }
})

function withTwin(lines: readonly Line[], { at, op }: { at: number; op: string }): Line[] {
  return lines.map((line, i) => (i === at ? [op, '{}'] : line))
}

describe(`random histories (SEED=${seed})`, () => {
  // Where the oracle once held that a stop costs what a confinement had taken away before.
  it.for([709_287_452])('hold every property again, where one did not seem to (seed %i)', (known) => {
    const failure = check(rules, known)
    if (failure) expect.fail(showFailure(failure))
  })
  it('hold every property, whatever the agents do', () => {
    for (let i = 0; i < HISTORIES; i++) {
      const failure = check(rules, (seed + i) % 2 ** 31)
      if (failure) expect.fail(showFailure(failure))
    }
  })
})

/** Whether attacks or histories tell these rules from right ones. */
function isFound(newRules: NewRules): boolean {
  const unlike = SCENARIOS.some(({ lines }) => {
    const given = answers(newRules, lines)
    return lines.some(([, answer], i) => !matches(given[i], JSON.parse(answer)))
  })
  if (unlike) return true
  for (let i = 0; i < HISTORIES; i++) if (check(newRules, (seed + i) % 2 ** 31)?.property) return true
  return false
}

function matches(given: unknown, wanted: unknown): boolean {
  try {
    expect(given).toMatchObject(wanted as object)
    return true
  } catch {
    return false
  }
}

describe(`rules that are wrong in one place (SEED=${seed})`, () => {
  it('are as right as the others without their change', async () => {
    const same = await buildMutant({
      file: 'rules/judge.ts',
      from: 'clears(box, labels)',
      to: 'clears(box, labels)',
    })
    expect(isFound(same)).toBe(false)
  })
  for (const mutant of MUTANTS) {
    it(`are found: ${mutant.name}`, async () => {
      expect(isFound(await buildMutant(mutant))).toBe(true)
    })
  }
})
