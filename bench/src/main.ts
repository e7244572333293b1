/** `npm run bench`: the rows that this build can measure, as a table and as JSON. */
import '@cardinal/kernel'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { densityRows } from './density.ts'
import { calibrate, machine, type Row } from './measure.ts'
import { ROWS } from './rows.ts'

const HELP = `npm run bench -- [density] [--rows 1,3-5] [--json FILE] [--folder FOLDER] [--scale N]

  density   the rows of density: how many agents live and sleep on one node, and what they cost; among them those
            that need a folder with a million agents (9 GB of disk, some 15 minutes), and 20,000 awake (12 GB)
  --rows    which rows of the table to measure; all if left out
  --json    also write {machine, calibration, rows} there
  --folder  where data folders are made; the disk under it is what is measured
  --scale   of density, so much of everything: 0.01 is ten thousand agents
`

/** What somebody mistyped is said in one line. */
function refuse(why: string): never {
  process.stderr.write(`${why}; see --help\n`)
  process.exit(2)
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    scale: { type: 'string', default: '1' },
    rows: { type: 'string' },
    json: { type: 'string' },
    folder: { type: 'string', default: os.tmpdir() },
    help: { type: 'boolean', default: false },
  },
})

const [what = 'rows', ...others] = positionals
if ((what !== 'rows' && what !== 'density') || others.length > 0)
  refuse(`there is no bench \`${positionals.join(' ')}\``)
const scale = Number(values.scale)
if (!(scale > 0 && scale <= 1)) refuse('--scale is more than 0 and at most 1')
const chosen = what === 'density' ? densityRows(scale) : ROWS

function wanted(text: string | undefined): Set<number> {
  if (text === undefined) return new Set(chosen.map((r) => r.row))
  const rows = new Set<number>()
  for (const part of text.split(',')) {
    const [from, to = from] = part.split('-').map(Number) as [number, number?]
    if (!Number.isInteger(from) || !Number.isInteger(to)) refuse(`\`${part}\` is no row; write 1,3-5`)
    for (let i = from; i <= to; i++) rows.add(i)
  }
  return rows
}

function show(rows: readonly Row[]): string {
  const n = (x: number | undefined) => (x === undefined ? '' : x >= 100 ? x.toFixed(0) : x.toFixed(3))
  const cells = rows.map((r) => [
    String(r.row),
    r.name,
    r.unit,
    n(r.value),
    n(r.p50),
    n(r.p95),
    n(r.p99),
    r.goal,
    r.met ? 'met' : 'short',
  ])
  const all = [['row', 'what', 'unit', 'value', 'p50', 'p95', 'p99', 'goal', ''], ...cells]
  const widths = (all[0] as string[]).map((_, i) => Math.max(...all.map((c) => (c[i] as string).length)))
  return all
    .map((c) =>
      c
        .map((cell, i) => cell.padEnd(widths[i] as number))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** What is to be said of rows, below the table. */
function notes(rows: readonly Row[]): string {
  return rows
    .filter(({ note }) => note !== '')
    .map(({ row, name, note }) => `${row} ${name}: ${note}\n`)
    .join('')
}

if (values.help) {
  process.stdout.write(HELP)
} else {
  const root = fs.mkdtempSync(path.join(values.folder, 'cardinal-bench-'))
  const rows: Row[] = []
  try {
    process.stderr.write('calibrating\n')
    const calibration = calibrate(root)
    for (const { row, run } of chosen.filter((r) => wanted(values.rows).has(r.row))) {
      process.stderr.write(`row ${row}\n`)
      const folder = path.join(root, `${row}-${rows.length}`)
      fs.mkdirSync(folder)
      rows.push(...(await run(folder)))
      fs.rmSync(folder, { recursive: true, force: true })
    }
    const report = { machine: machine(), calibration, rows }
    process.stdout.write(
      `${JSON.stringify(report.machine)}\n${JSON.stringify(calibration)}\n${show(rows)}\n\n${notes(rows)}`,
    )
    if (values.json !== undefined) fs.writeFileSync(values.json, JSON.stringify(report, null, 2))
  } finally {
    fs.rmSync(root, { recursive: true, force: true })
  }
  // Whatever a row left running ends here.
  process.exit()
}
