/**
 * `npm run soak`: the sweeps in full. Resumable: each finished part is kept in the report file, and
 * a run that was stopped goes on with what is missing. Progress on stderr, the report as JSON.
 */
import fs from 'node:fs'
import { parseArgs } from 'node:util'
import { agreement } from './biscuit/agreement.ts'
import { crowdSweep } from './crash/crowd-sweep.ts'
import { killSweep } from './crash/kill-sweep.ts'
import { powerSweep } from './crash/power-sweep.ts'
import { longReplay } from './node/long-replay.ts'
import { historySweep } from './rules/sweep.ts'
import { agree } from './sql/agreement.ts'
import { KEEPER } from './sql/keeper.ts'
import { openTestKernel } from './support/kernel.ts'

const { values } = parseArgs({
  options: {
    report: { type: 'string', default: 'soak.json' },
    kills: { type: 'string', default: '300' },
    cuts: { type: 'string', default: '1000' },
    crowds: { type: 'string', default: '300' },
    turns: { type: 'string', default: '10000' },
    histories: { type: 'string', default: '1000000' },
    tokens: { type: 'string', default: '7000' },
    statements: { type: 'string', default: '20000' },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) {
  process.stdout.write(
    'npm run soak -- [--report FILE] [--kills N] [--cuts N] [--crowds N] [--turns N] [--histories N] [--tokens N] [--statements N]\nResumes from FILE; delete it to start afresh.\n',
  )
  process.exit(0)
}

interface Part {
  readonly seed: number
  readonly done: number
  readonly problems: readonly string[]
}
type Report = Record<string, Part[]>

const report: Report = fs.existsSync(values.report)
  ? (JSON.parse(fs.readFileSync(values.report, 'utf8')) as Report)
  : {}

function keep(name: string, part: Part): void {
  report[name] = [...(report[name] ?? []), part]
  fs.writeFileSync(`${values.report}.new`, JSON.stringify(report, null, 2))
  fs.renameSync(`${values.report}.new`, values.report)
}

function progress(name: string, done: number, of: number, note: string): void {
  process.stderr.write(`\r${name}: ${done} of ${of} ${note}`.padEnd(70))
}

/** Runs a sweep in parts until `wanted` points were seen in all. */
async function sweep(
  name: string,
  wanted: number,
  part: number,
  run: (seed: number, n: number, report: (done: number) => void) => Promise<Part>,
): Promise<void> {
  for (;;) {
    const parts = report[name] ?? []
    const done = parts.reduce((sum, p) => sum + p.done, 0)
    if (done >= wanted || parts.some((p) => p.problems.length > 0)) break
    const seed = Math.floor(Math.random() * 2 ** 31)
    keep(
      name,
      await run(seed, Math.min(part, wanted - done), (n) =>
        progress(name, done + n, wanted, `(seed ${seed})`),
      ),
    )
  }
  process.stderr.write('\n')
}

await sweep('kill', Number(values.kills), 60, async (seed, kills, tell) => {
  const result = await killSweep({ seed, kills, agents: 20, payments: 10, onKill: tell })
  return { seed, done: result.kills, problems: result.problems }
})
await sweep('power cut', Number(values.cuts), 50, async (seed, cuts, tell) => {
  const result = await powerSweep({ seed, cuts, onCut: tell })
  return { seed, done: result.cuts, problems: result.problems }
})
for (const power of [false, true]) {
  const name = power ? 'power cut of a crowd' : 'kill of a crowd'
  await sweep(name, Number(values.crowds), 36, async (seed, ends, tell) => {
    const result = await crowdSweep({ seed, ends, power, onEnd: tell })
    return { seed, done: result.ends, problems: result.problems }
  })
}
await sweep('long replay', Number(values.turns), Number(values.turns), async (seed, turns) => {
  const result = await longReplay(turns)
  return { seed, done: result.turns, problems: result.problems }
})
await sweep('histories of cards', Number(values.histories), 20_000, async (seed, histories, tell) => {
  const result = await historySweep({ seed, histories }, tell)
  return { seed, done: result.histories, problems: result.problems }
})
await sweep('requests of tokens', Number(values.tokens), 500, async (seed, requests, tell) => {
  const result = await agreement(seed, Math.ceil(requests / 20), tell)
  return { seed, done: (result.allowed + result.refused) / 2, problems: result.problems }
})

await sweep('statements of SQL', Number(values.statements), 2000, async (seed, statements, tell) => {
  const t = await openTestKernel([KEEPER], { limits: { sql: 200_000 } })
  try {
    const half = Math.ceil(statements / 2)
    const plain = await agree(t, seed, 'agreeing', half, tell)
    const all = await agree(t, seed + 1, 'all', half, (n) => tell(half + n))
    const found = [plain.problem, all.problem].filter((problem) => problem !== undefined)
    return { seed, done: plain.statements + all.statements, problems: found }
  } finally {
    await t.close()
  }
})

const problems = Object.values(report).flatMap((parts) => parts.flatMap((p) => p.problems))
for (const [name, parts] of Object.entries(report)) {
  process.stdout.write(
    `${name}: ${parts.reduce((sum, p) => sum + p.done, 0)}, seeds ${parts.map((p) => p.seed).join(' ')}\n`,
  )
}
for (const problem of problems) process.stdout.write(`PROBLEM ${problem}\n`)
process.exitCode = problems.length === 0 ? 0 : 1
