/** What an operator may bound: one table, which manifests, the kernel and the docs read. */
import type { LimitsDocument } from './document.ts'
import { durationMs } from './duration.ts'
import { ToolProblem } from './problem.ts'

type Unit = 'bytes' | 'count' | 'time'
/** For whom: each agent by itself, or all agents together for whom it is set. */
type Of = 'each' | 'all'

export interface Limit {
  readonly unit: Unit
  readonly of: Of
  /** In force where nobody sets anything; undefined: no bound. Bytes, ones or milliseconds. */
  readonly byDefault: number | undefined
  readonly least: number
  /** No more than this may be set. */
  readonly most: number
  readonly about: string
  /** What whoever goes beyond it is told. */
  readonly code: string
}

const MAX = Number.MAX_SAFE_INTEGER
const MiB = 1 << 20

export const LIMITS = {
  memory: {
    unit: 'bytes',
    of: 'each',
    byDefault: 256 * MiB,
    least: 16 * MiB,
    most: 1024 * MiB,
    about: 'linear memory of an agent; an allocation beyond it fails in the program, and may fail its turn',
    code: 'OutOfMemory',
  },
  fuel: {
    unit: 'count',
    of: 'each',
    byDefault: 16_000_000_000,
    least: 1_000_000,
    most: 1_000_000_000_000,
    about: 'instructions of one turn, as wasmtime counts them',
    code: 'OutOfFuel',
  },
  wall: {
    unit: 'time',
    of: 'each',
    byDefault: 5 * 60_000,
    least: 100,
    most: 3_600_000,
    about: 'time that one turn may take; whoever waits is answered then, the turn itself ends with its fuel',
    code: 'OutOfTime',
  },
  sql: {
    unit: 'count',
    of: 'each',
    byDefault: 100_000_000,
    least: 10_000,
    most: MAX,
    about: 'steps of SQL of one turn',
    code: 'SqlSteps',
  },
  home: {
    unit: 'bytes',
    of: 'each',
    byDefault: 64 * MiB,
    least: 32 << 10,
    most: 2 ** 40,
    about: 'tables, files and graph of an agent; `homeBytes` of its card may say less',
    code: 'HomeFull',
  },
  effects: {
    unit: 'count',
    of: 'each',
    byDefault: 4096,
    least: 1,
    most: 4096,
    about: 'effects that one turn may ask for, and that may be open at once',
    code: 'TooManyEffects, TooManyOpen',
  },
  payload: {
    unit: 'bytes',
    of: 'each',
    byDefault: 4 * MiB,
    least: 1024,
    most: 4 * MiB,
    about: 'arguments of a call, value of an event',
    code: 'TooLarge',
  },
  output: {
    unit: 'bytes',
    of: 'each',
    byDefault: 6 * MiB,
    least: 1024,
    most: 6 * MiB,
    about: 'effects, replies and log lines of one turn',
    code: 'OutputTooLarge',
  },
  queue: {
    unit: 'count',
    of: 'each',
    byDefault: 4096,
    least: 1,
    most: 65_536,
    about: 'inputs that wait for one agent',
    code: 'Busy',
  },
  backlog: {
    unit: 'count',
    of: 'all',
    byDefault: 100_000,
    least: 1,
    most: 10_000_000,
    about: 'inputs that wait for all of them',
    code: 'Busy',
  },
  live: {
    unit: 'count',
    of: 'all',
    byDefault: undefined,
    least: 1,
    most: MAX,
    about: 'agents awake at once; beyond it the quiet one that was used longest ago is put to sleep',
    code: 'Busy',
  },
  log: {
    unit: 'bytes',
    of: 'all',
    byDefault: undefined,
    least: 1024,
    most: MAX,
    about: 'what they have written into the log, all in all; beyond it nothing new is taken in for them',
    code: 'LogSpent',
  },
  weight: {
    unit: 'count',
    of: 'all',
    byDefault: 100,
    least: 1,
    most: 10_000,
    about: 'their share of the turn threads while others want them too; of a whole tenant alone',
    code: '',
  },
} as const satisfies Record<string, Limit>

export type LimitName = keyof typeof LIMITS
export const LIMIT_NAMES = Object.keys(LIMITS) as LimitName[]

export type LimitValues = Readonly<Partial<Record<LimitName, number>>>

/** Limits as a manifest sets them, for a tenant (`*`), a type, or one agent (`type/key`). */
export interface LimitsDeclaration {
  readonly name: string
  readonly values: LimitValues
}

const SIZES = { B: 1, KiB: 1 << 10, MiB: 1 << 20, GiB: 1 << 30 } as const

function amountOf(name: LimitName, given: number | string): number {
  const { unit, least, most }: Limit = LIMITS[name]
  const wrong = (what: string) => new ToolProblem([name], what)
  const size = /^(\d+)(B|KiB|MiB|GiB)$/.exec(String(given))
  let value = Number(given)
  if (unit === 'bytes' && size) value = Number(size[1]) * SIZES[size[2] as keyof typeof SIZES]
  if (unit === 'time') {
    if (typeof given !== 'string' || !/^\d+(\.\d+)?(ms|s|m|h)$/.test(given))
      throw wrong('is a duration, as 500ms, 30s or 5m')
    value = durationMs(given)
  }
  if (!Number.isSafeInteger(value))
    throw wrong(unit === 'bytes' ? 'is a size, as 64MiB' : 'is a whole number')
  if (value < least || value > most)
    throw wrong(`is from ${showLimit(name, least)} to ${showLimit(name, most)}`)
  return value
}

export function limitsOf({ metadata, spec }: LimitsDocument): LimitsDeclaration {
  const of = metadata.name ?? '*'
  const values = Object.entries(spec).map(([name, given]) => {
    if (name === 'weight' && of !== '*')
      throw new ToolProblem(['weight'], 'is set for a whole tenant: leave out `name`')
    return [name, amountOf(name as LimitName, given as number | string)] as const
  })
  return { name: of, values: Object.fromEntries(values) }
}

/** An amount as manifests write it. */
export function showLimit(name: LimitName, value: number): string {
  const { unit }: Limit = LIMITS[name]
  if (unit === 'count') return String(value)
  if (unit === 'time') {
    if (value % 60_000 === 0) return `${value / 60_000}m`
    return value % 1000 === 0 ? `${value / 1000}s` : `${value}ms`
  }
  for (const size of ['GiB', 'MiB', 'KiB'] as const)
    if (value >= SIZES[size] && value % SIZES[size] === 0) return `${value / SIZES[size]}${size}`
  return `${value}B`
}
