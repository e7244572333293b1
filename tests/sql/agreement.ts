/**
 * One corpus in several agents at once: one that sleeps after every turn, one that never does, and plain
 * SQLite beside them.
 */
import { isDeepStrictEqual } from 'node:util'
import type { TestKernel } from '../support/kernel.ts'
import { Corpus, type Kind, SETUP, type Step, type Turn } from './corpus.ts'
import { Plain } from './plain.ts'

export interface Agreement {
  readonly turns: number
  readonly statements: number
  /** Turns that failed, in both. */
  readonly failed: number
  /** How often each error was seen, by its words. */
  readonly errors: ReadonlyMap<string, number>
  /** What differs, as a person reads it; undefined: nothing. */
  readonly problem?: string
}

type Said = { readonly said: unknown } | { readonly failed: string }

export async function agree(
  t: TestKernel,
  seed: number,
  kind: Kind,
  statements: number,
  tell: (done: number) => void = () => {},
): Promise<Agreement> {
  const corpus = new Corpus(seed, kind)
  const plain = kind === 'agreeing' ? new Plain() : undefined
  const errors = new Map<string, number>()
  const [sleeper, waker] = [`acme/keeper/sleeper-${seed}`, `acme/keeper/waker-${seed}`]
  const ask = async (agent: string, steps: Turn): Promise<Said> => {
    const reply = await t.call(agent, 'do', { steps })
    return reply.ok ? { said: reply.value } : { failed: `${reply.error.code}: ${reply.error.message}` }
  }
  let done = 0
  let failed = 0
  let turns = 0
  try {
    for (let turn: Turn = SETUP; done < statements; turn = corpus.turn()) {
      const [a, b] = await Promise.all([ask(sleeper, turn), ask(waker, turn)])
      await t.kernel.suspend(sleeper)
      turns++
      done += turn.length
      tell(done)
      const differs = (what: string, one: unknown, other: unknown): Agreement => ({
        turns,
        statements: done,
        failed,
        errors,
        problem: `seed ${seed}, turn ${turns}: ${what}\n${firstDifference(turn, one, other)}`,
      })
      if (!isDeepStrictEqual(a, b)) return differs('one that sleeps and one that does not', a, b)
      if ('failed' in a) {
        failed++
        continue
      }
      for (const item of a.said as { error?: { message: string } }[])
        if (item.error) errors.set(item.error.message, (errors.get(item.error.message) ?? 0) + 1)
      if (!plain) continue
      plain.turn()
      const c = { said: turn.map((step) => JSON.parse(JSON.stringify(plain.act(step)))) }
      const said = primary(a) as { said: unknown[] }
      const plainly = primary(c) as { said: unknown[] }
      const agrees = turn.every((step, i) => sameAsPlain(step, said.said[i], plainly.said[i]))
      if (!agrees) return differs('a home and plain SQLite', a, c)
    }
    return { turns, statements: done, failed, errors }
  } finally {
    plain?.close()
  }
}

/**
 * Of a statement that answers rows while it breaks a deferred key, Node tells whichever error it meets first
 * and forgets the other; it is undone in both.
 */
function sameAsPlain(step: Step, said: unknown, plainly: unknown): boolean {
  if (isDeepStrictEqual(said, plainly)) return true
  const failed = (value: unknown) => typeof value === 'object' && value !== null && 'error' in value
  return / returning /.test(step.sql) && failed(said) && failed(plainly)
}

/** Virtual tables tell extended codes of other statements than their own; which, differs between versions. */
function primary(said: unknown): unknown {
  const text = JSON.stringify(said)
  return JSON.parse(text, (key, value) => (key === 'errcode' ? value & 0xff : value))
}

function firstDifference(turn: Turn, a: unknown, b: unknown): string {
  const [x, y] = [a, b].map((said) => (said as { said?: unknown[] }).said)
  const show = (value: unknown) => JSON.stringify(value)?.slice(0, 600)
  if (!x || !y) return `${turn.map((step) => show(step)).join('\n')}\n  ${show(a)}\n  ${show(b)}`
  const at = turn.findIndex((_, i) => !isDeepStrictEqual(x[i], y[i]))
  const before = turn.slice(0, at).map((step) => `  before: ${show(step)}`)
  return [...before, `  ${show(turn[at])}`, `  ${show(x[at])}`, `  ${show(y[at])}`].join('\n')
}
