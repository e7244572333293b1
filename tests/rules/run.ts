/** Runs random histories on the rules and judges them; what breaks is cut down to the least that still does. */

import { type Answer, Broken } from './card-book.ts'
import { generate, type Op, type Wishes } from './history.ts'
import { Oracle } from './oracle.ts'

/** The rules under test: a line in, a line out. */
export interface Rules {
  run(line: string): string
}
export type NewRules = () => Rules

const SETTLE_EVERY = 6

function runner(rules: Rules): (op: Op) => Answer {
  return (op) => JSON.parse(rules.run(JSON.stringify(op))) as Answer
}

/** Judges one history by the oracle; throws `Broken`. */
function judged(newRules: NewRules, ops: readonly Op[]): void {
  const oracle = new Oracle(runner(newRules()))
  ops.forEach((op, i) => {
    oracle.step(op)
    if (op.op === 'tick' || i % SETTLE_EVERY === 0) oracle.settle(op)
  })
  oracle.settle({ op: 'end' })
  oracle.end()
}

const ACTOR: Record<string, string> = {
  spawn: 'by',
  offer: 'by',
  preview: 'agent',
  accept: 'agent',
  drop: 'agent',
  revoke: 'by',
  send: 'from',
  timer: 'agent',
  do: 'agent',
}

/**
 * The purge: without the acts of all agents that learned something, no agent that learned nothing gets
 * another result. Who learned what is the oracle's own account.
 */
function purged(newRules: NewRules, ops: readonly Op[]): void {
  const oracle = new Oracle(runner(newRules()))
  const owner = new Map<unknown, string>()
  const kept: { op: Op; result: string | undefined }[] = []
  for (const op of ops) {
    if (op.op === 'do') owner.set(op.id, op.agent as string)
    if (op.op === 'send' || op.op === 'input') owner.set(op.id, op.to as string)
    const field = ACTOR[op.op]
    const actor = field ? (op[field] as string | undefined) : owner.get(op.id)
    const before = actor !== undefined && oracle.touched(actor)
    const runs = actor !== undefined && !oracle.stopped(actor)
    const answer = oracle.step(op)
    const after = actor !== undefined && oracle.touched(actor)
    // What it read, and all that an agent did once it had read, is gone.
    if (before || (after && ['receipt', 'input'].includes(op.op))) continue
    // A guest names only cards that it minted; that a descendant of one exists, nobody tells it.
    const foreign = op.op === 'revoke' && oracle.mintedBy(op.card as string) !== actor
    kept.push({ op, result: runs && !after && !foreign ? bare(answer) : undefined })
  }
  const run = runner(newRules())
  for (const { op, result } of kept) {
    const answer = bare(run(op))
    if (result !== undefined && answer !== result)
      throw new Broken(
        `purge: ${JSON.stringify(op)} gave ${result}, and ${answer} without those who had read`,
      )
  }
}

function bare({ cut: _, ...answer }: Answer & { cut?: unknown }): string {
  return JSON.stringify(answer)
}

export interface Failure {
  readonly seed: number
  readonly message: string
  /** A property that does not hold; else something threw that should not have. */
  readonly property: boolean
  readonly ops: readonly Op[]
}

const FULL: Wishes = { ops: 48, budgets: true, reroots: true, openMethods: true, forks: true }
const FIXED: Wishes = { ops: 48, budgets: true, reroots: false, openMethods: true, forks: true }
const QUIET: Wishes = { ops: 48, budgets: false, reroots: false, openMethods: false, forks: false }

/** What every history is held against; I3, I4, I8 and the purge hold between re-roots. */
const CHECKS: { wishes: Wishes; check: (newRules: NewRules, ops: readonly Op[]) => void }[] = [
  { wishes: FIXED, check: judged },
  { wishes: FULL, check: judged },
  { wishes: QUIET, check: purged },
]

/** Runs the history of one seed; returns what broke, cut down. */
export function check(newRules: NewRules, seed: number): Failure | undefined {
  const { wishes, check: hold } = CHECKS[seed % CHECKS.length] as (typeof CHECKS)[number]
  const ops = generate(seed, wishes)
  const first = broken(newRules, ops, hold)
  if (!first) return undefined
  const least = shrink(ops, (fewer) => broken(newRules, fewer, hold)?.property === first.property)
  return { seed, ops: least, ...(broken(newRules, least, hold) ?? first) }
}

function broken(
  newRules: NewRules,
  ops: readonly Op[],
  hold: (newRules: NewRules, ops: readonly Op[]) => void,
): { message: string; property: boolean } | undefined {
  try {
    hold(newRules, ops)
    return undefined
  } catch (error) {
    if (error instanceof Broken) return { message: error.message, property: true }
    return { message: (error as Error).stack ?? String(error), property: false }
  }
}

function shrink(ops: readonly Op[], fails: (ops: readonly Op[]) => boolean): readonly Op[] {
  let least = ops
  for (let size = Math.ceil(ops.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < least.length; ) {
      const fewer = [...least.slice(0, at), ...least.slice(at + size)]
      if (fails(fewer)) least = fewer
      else at += size
    }
  }
  return least
}

export function showFailure({ seed, message, ops }: Failure): string {
  return [`SEED=${seed}: ${message}`, ...ops.map((op) => JSON.stringify(op))].join('\n')
}
