/** Running one command in the sandbox: what goes into it, what comes out, and what ends it before its time. */
import { spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import type { WayOut } from './egress-proxy.ts'
import { sandboxCommand } from './sandbox.ts'

/** Where files that go in stand. */
export const WORK = '/work'
/** What the shell that hands files out can name in one digit. */
export const MAX_OUTS = 6
const FIRST_DESCRIPTOR = 3
const MAX_STDOUT = 2 << 20
const MAX_STDERR = 64 << 10
/** Of all files that come out. */
const MAX_FILES_OUT = 3 << 20

export interface Command {
  readonly program: string
  readonly words: readonly string[]
  readonly files: readonly (readonly [name: string, bytes: Buffer])[]
  /** Names of files that come out, if they are there in the end. */
  readonly outs: readonly string[]
  readonly stdin: string
  readonly env: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly memoryBytes: number
}

/** What it runs by, all of the host. */
export interface Runners {
  readonly bwrap: string
  readonly prlimit: string
  /** Left out: it has no network. */
  readonly out: WayOut | undefined
}

export interface Ran {
  readonly code: number | undefined
  readonly stdout: Buffer
  readonly stderr: Buffer
  readonly files: readonly (readonly [name: string, bytes: Buffer])[]
  /** Why it did not come to its own end. */
  readonly ended?: 'time' | 'output' | 'cancelled' | 'signal' | 'notStarted'
}

/** Never rejects: whatever becomes of it is told. It is gone with all it started when the promise resolves. */
export function runCommand(
  command: Command,
  { bwrap, prlimit, out }: Runners,
  signal: AbortSignal,
): Promise<Ran> {
  const { program, words, files, outs, stdin, env: own, timeoutMs, memoryBytes } = command
  const firstFile = FIRST_DESCRIPTOR + outs.length
  const memory = `--as=${memoryBytes}`
  const sandboxed = sandboxCommand(bwrap, {
    program,
    args: words,
    readOnly: [],
    // No disk of the host ever holds them.
    files: files.map(([name], i) => [firstFile + i, `${WORK}/${name}`]),
    gives: outs.map((name, i) => [FIRST_DESCRIPTOR + i, name]),
    cwd: WORK,
    env: own,
    // What stands between it and the door is not bounded by the program's own memory.
    ...(out && { out: out.folder, behind: [prlimit, memory] }),
  })
  const cpu = `--cpu=${Math.ceil(timeoutMs / 1000)}`
  const bounds = [...(out ? [] : [memory]), cpu, '--core=0', '--nofile=256']
  return new Promise((resolve) => {
    const more = [...outs, ...files].map(() => 'pipe' as const)
    const child = spawn(prlimit, [...bounds, sandboxed.command, ...sandboxed.args], {
      env: sandboxed.env,
      stdio: ['pipe', 'pipe', 'pipe', ...more],
    })
    // Whoever has no descriptor left for it has not begun, and the rest of it is not there.
    child.on('error', () => {})
    if (!child.stdout) {
      const nothing = Buffer.alloc(0)
      resolve({ code: undefined, stdout: nothing, stderr: nothing, files: [], ended: 'notStarted' })
      return
    }
    let ended: Ran['ended']
    const end = (why: NonNullable<Ran['ended']>) => {
      ended ??= why
      child.kill('SIGKILL')
    }
    const timer = setTimeout(() => end('time'), timeoutMs)
    const cancel = () => end('cancelled')
    signal.addEventListener('abort', cancel, { once: true })
    const tooMuch = () => end('output')
    const stdout = gather(child.stdout, { left: MAX_STDOUT }, tooMuch)
    const stderr = gather(child.stderr, { left: MAX_STDERR }, () => {})
    const room = { left: MAX_FILES_OUT + outs.length }
    const given = outs.map((_, i) => gather(child.stdio[FIRST_DESCRIPTOR + i] as Readable, room, tooMuch))
    feed(child.stdin, stdin)
    for (const [i, [, bytes]] of files.entries()) feed(child.stdio[firstFile + i] as Writable, bytes)
    child.on('close', (code, killedBy) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', cancel)
      const why = ended ?? (killedBy ? 'signal' : undefined)
      const came = given.map((chunks, i) => [outs[i] as string, Buffer.concat(chunks)] as const)
      resolve({
        code: code ?? undefined,
        stdout: Buffer.concat(stdout),
        stderr: Buffer.concat(stderr),
        // The first byte says that it was there.
        files: came.flatMap(([name, bytes]) =>
          bytes.length > 0 ? [[name, bytes.subarray(1)] as const] : [],
        ),
        ...(why && { ended: why }),
      })
    })
  })
}

/** Keeps what comes, as far as there is room. */
function gather(from: Readable, room: { left: number }, tooMuch: () => void): Buffer[] {
  const chunks: Buffer[] = []
  from.on('error', () => {})
  from.on('data', (chunk: Buffer) => {
    room.left -= chunk.length
    if (room.left >= 0) chunks.push(chunk)
    else tooMuch()
  })
  return chunks
}

/** Who does not read its input has closed it: that is its own affair. */
function feed(input: Writable, bytes: Buffer | string): void {
  input.on('error', () => {})
  input.end(bytes)
}
