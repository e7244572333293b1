/** Real processes for sweeps: the bank, and a node that can be killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import readline from 'node:readline'

const root = path.join(import.meta.dirname, '..', '..')
const HANGS_MS = 60_000
export const payer = path.join(root, 'tests/programs/payer.ts')

export interface Bank {
  readonly port: number
  readonly url: string
  set(mode: object): Promise<void>
  payments(): Promise<{ key?: string; body: { subject: string } }[]>
  stop(): Promise<void>
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => child.once('exit', () => resolve()))
}

export async function startBank(folder: string): Promise<Bank> {
  fs.mkdirSync(folder, { recursive: true })
  const script = path.join(root, 'examples/bank/src/bank.ts')
  const child = spawn(
    process.execPath,
    [script, '--port', '0', '--ledger', path.join(folder, 'ledger.jsonl')],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const first = await new Promise<string>((resolve) =>
    child.stdout?.once('data', (chunk) => resolve(String(chunk))),
  )
  const port = Number(/:(\d+)\s/.exec(first)?.[1])
  const url = `http://127.0.0.1:${port}`
  return {
    port,
    url,
    set: async (mode) => void (await fetch(`${url}/_switch`, { method: 'PUT', body: JSON.stringify(mode) })),
    payments: async () =>
      (await (await fetch(`${url}/_ledger`)).json()) as { key?: string; body: { subject: string } }[],
    stop: async () => {
      child.kill('SIGTERM')
      await ended(child)
    },
  }
}

type Answer = Record<string, unknown> & { error?: { class: string; code: string; message: string } }

export interface NodeProcess {
  readonly pid: number
  readonly ready: Promise<boolean>
  readonly exited: Promise<void>
  readonly fatal: () => string | undefined
  /** Rejects if the process dies before it answers. */
  ask(request: Record<string, unknown>): Promise<Answer>
  kill(): void
  stop(): Promise<void>
}

/** `script`: of this folder; it reads one JSON request a line and answers one a line. */
export function startNode(config: object, env: NodeJS.ProcessEnv = {}, script = 'node.ts'): NodeProcess {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, script), JSON.stringify(config)], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  const waiting = new Map<number, { resolve: (a: Answer) => void; reject: (e: Error) => void }>()
  let next = 1
  let stderr = ''
  let fatal: string | undefined
  let isReady: (ok: boolean) => void = () => {}
  const ready = new Promise<boolean>((resolve) => {
    isReady = resolve
  })
  // A node that hangs must fail the sweep, not stop it.
  const hung = setTimeout(() => {
    fatal = `no end within ${HANGS_MS} ms`
    child.kill('SIGKILL')
  }, HANGS_MS)
  child.stderr?.on('data', (chunk) => {
    stderr += String(chunk)
  })
  readline.createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    const message = JSON.parse(line) as Answer & { ref?: number; ready?: boolean; fatal?: string }
    if (message.ready) isReady(true)
    if (message.fatal) fatal = message.fatal
    const one = message.ref === undefined ? undefined : waiting.get(message.ref)
    if (one) {
      waiting.delete(message.ref as number)
      one.resolve(message)
    }
  })
  const exited = ended(child).then(() => {
    clearTimeout(hung)
    isReady(false)
    fatal ??= child.signalCode === null && child.exitCode !== 0 ? stderr : undefined
    for (const { reject } of waiting.values()) reject(new Error(`the node died: ${stderr.slice(-2000)}`))
    waiting.clear()
  })
  child.stdin?.on('error', () => {})
  return {
    pid: child.pid as number,
    ready,
    exited,
    fatal: () => fatal,
    ask: (request) =>
      new Promise((resolve, reject) => {
        if (child.exitCode !== null || child.signalCode !== null) return reject(new Error('the node is dead'))
        const ref = next++
        waiting.set(ref, { resolve, reject })
        child.stdin?.write(`${JSON.stringify({ ...request, ref })}\n`)
      }),
    kill: () => void child.kill('SIGKILL'),
    stop: async () => {
      child.stdin?.end()
      await exited
    },
  }
}
