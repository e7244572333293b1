/** The command line as people run it: a process of its own, in a folder of its own. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { tempFolder } from './kernel.ts'

const main = path.join(import.meta.dirname, '../../packages/cli/src/main.ts')

interface Ran {
  readonly status: number | null
  readonly out: string
  readonly err: string
}

export interface CommandLine {
  readonly folder: string
  /** The program and the environment, for a test that runs it in its own way. */
  readonly main: string
  readonly env: NodeJS.ProcessEnv
  /** Runs a command in the folder, or in another one. */
  run(args: readonly string[], cwd?: string, input?: string): Ran
  /** The same, while this process goes on: for commands that have to do with a server of the test. */
  runBeside(args: readonly string[]): Promise<Ran>
  /** Begins `dev` or `serve`; resolves once `until` was said, or it ended. */
  begin(
    args: readonly string[],
    until: RegExp,
    cwd?: string,
    more?: NodeJS.ProcessEnv,
  ): Promise<{ child: ChildProcess; said: string; code: number | null }>
  end(child: ChildProcess): Promise<void>
  remove(): void
}

export function commandLine(): CommandLine {
  const folder = tempFolder()
  const env = {
    ...process.env,
    XDG_STATE_HOME: path.join(folder, 'state'),
    XDG_CONFIG_HOME: path.join(folder, 'config'),
    CARDINAL_URL: '',
    CARDINAL_TOKEN: '',
  }
  return {
    folder,
    main,
    env,
    run: (args, cwd = folder, input = '') => {
      const done = spawnSync(process.execPath, [main, ...args], { cwd, encoding: 'utf8', env, input })
      return { status: done.status, out: done.stdout, err: done.stderr }
    },
    runBeside: (args) =>
      new Promise((resolve) => {
        const done = (error: { code?: unknown } | null, out: string, err: string) =>
          resolve({ status: error ? Number(error.code) : 0, out, err })
        execFile(process.execPath, [main, ...args], { cwd: folder, encoding: 'utf8', env }, done)
      }),
    begin: (args, until, cwd = folder, more = {}) => {
      const child = spawn(process.execPath, [main, ...args], {
        cwd,
        env: { ...env, ...more },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      return new Promise((resolve) => {
        let said = ''
        for (const output of [child.stdout, child.stderr])
          output?.on('data', (chunk) => {
            said += String(chunk)
            if (until.test(said)) resolve({ child, said, code: null })
          })
        child.once('exit', (code) => resolve({ child, said, code }))
      })
    },
    end: async (child) => {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGTERM')
      await ended
    },
    remove: () => fs.rmSync(folder, { recursive: true, force: true }),
  }
}
