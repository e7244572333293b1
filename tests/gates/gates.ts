/**
 * The static gates: format and lint, types, import boundaries, dead code. Each also runs over a copy
 * of the tree that holds one planted fault, and must go red there: a gate that reads nothing is green.
 */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const root = path.join(import.meta.dirname, '..', '..')

interface Gate {
  readonly name: string
  readonly command: readonly string[]
  /** A file that must make the gate fail, and what the gate then says. */
  readonly canary: { readonly file: string; readonly text: string; readonly says: RegExp }
}

const bin = (name: string) => path.join('node_modules', '.bin', name)

const GATES: readonly Gate[] = [
  {
    name: 'format and lint',
    command: [bin('biome'), 'check', '--error-on-warnings', '.'],
    canary: {
      file: 'packages/cards/src/canary.ts',
      text: 'export const canary: any = 1\n',
      says: /noExplicitAny/,
    },
  },
  {
    name: 'types',
    command: [bin('tsc'), '-p', '.'],
    canary: {
      file: 'packages/cards/src/canary.ts',
      text: "export const canary: number = 'one'\n",
      says: /TS2322/,
    },
  },
  {
    name: 'import boundaries',
    command: [bin('depcruise'), 'packages', 'examples', 'bench', 'tests'],
    canary: {
      file: 'packages/tools/src/canary.ts',
      text: "import { Log } from '../../oplog/src/index.ts'\n\nexport const canary = Log\n",
      says: /tools-imports|tools-and-the-log/,
    },
  },
  {
    name: 'dead code',
    command: [bin('knip'), '--no-progress'],
    canary: { file: 'packages/cards/src/canary.ts', text: 'export const canary = 1\n', says: /canary\.ts/ },
  },
]

export interface GateResult {
  readonly name: string
  readonly ok: boolean
  readonly output: string
}

function run(command: readonly string[], folder: string): { ok: boolean; output: string } {
  const node = path.dirname(process.execPath)
  const done = spawnSync(path.join(folder, command[0] as string), command.slice(1), {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, PATH: `${node}:${process.env.PATH}`, NO_COLOR: '1' },
  })
  return { ok: done.status === 0, output: `${done.stdout}${done.stderr}${done.error ?? ''}` }
}

const LEFT_OUT = new Set(['node_modules', '.git', '.cardinal', 'build'])

/** The tree without its history, with the same installed packages. */
function copyTree(): string {
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), 'cardinal-gates-'))
  fs.cpSync(root, copy, { recursive: true, filter: (from) => !LEFT_OUT.has(path.basename(from)) })
  fs.copyFileSync(path.join(root, '.gitignore'), path.join(copy, '.gitignore'))
  const link = (folder: string) => {
    const from = path.join(root, folder, 'node_modules')
    if (fs.existsSync(from)) fs.symlinkSync(from, path.join(copy, folder, 'node_modules'))
  }
  for (const folder of ['.', 'bench', 'tests']) link(folder)
  for (const parent of ['packages', 'examples'])
    for (const name of fs.readdirSync(path.join(root, parent))) link(path.join(parent, name))
  return copy
}

export function runGates(report: (result: GateResult) => void): void {
  const copy = copyTree()
  try {
    for (const gate of GATES) {
      report({ name: gate.name, ...run(gate.command, root) })
      const planted = path.join(copy, gate.canary.file)
      fs.writeFileSync(planted, gate.canary.text)
      const { ok, output } = run(gate.command, copy)
      fs.rmSync(planted)
      const noticed = !ok && gate.canary.says.test(output)
      report({
        name: `${gate.name}: notices its canary`,
        ok: noticed,
        output: noticed ? '' : `it did not say ${gate.canary.says}:\n${output}`,
      })
    }
  } finally {
    fs.rmSync(copy, { recursive: true, force: true })
  }
}
