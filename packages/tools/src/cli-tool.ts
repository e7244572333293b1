/**
 * A program in the sandbox as a tool: typed arguments in typed places of its command, and nothing of it a
 * shell's. It reaches what the tool's own card says, and nothing if that is left out; it sees no file but what it
 * is given; what it prints is bounded.
 */
import { spawn } from 'node:child_process'
import type { Writable } from 'node:stream'
import type { OpenSecret } from '@cardinal/secrets'
import type { CliDeclaration, CliWord } from './declaration.ts'
import { answered, askedOf, held, saidBy } from './declared-parts.ts'
import { egressBound, sinksOfEgress } from './egress-grants.ts'
import type { EgressProxy, WayOut } from './egress-proxy.ts'
import { failed, refused } from './failures.ts'
import { findProgram, findSandbox, isPlainText, sandboxCommand } from './sandbox.ts'
import { placeOfSecret } from './secret-slot.ts'
import type { Attempt, BadArguments, Receipt, Tool, ToolSettings, Translated } from './tool.ts'

const MAX_STDOUT = 2 << 20
const MAX_STDERR = 64 << 10
/** Of a whole command: the system takes no word of more than 128 KiB. */
const MAX_WORDS = 64 << 10
/** Where files that hold arguments stand. */
const WORK = '/work'
/** The descriptor of the first of them. */
const FIRST_FILE = 3

interface Plan {
  readonly words: readonly string[]
  readonly files: readonly (readonly [name: string, text: string])[]
  readonly stdin: string
  readonly ref: string | undefined
}

export function cliTool(declaration: CliDeclaration, proxy: EgressProxy): Tool {
  const { egress } = declaration.cli
  const said = saidBy(declaration, [...(declaration.sinks ?? []), ...sinksOfEgress(egress)])
  const bound = egress && egressBound(egress, 'egress')
  return {
    // It keeps nothing, and what it has from outside anybody may have written.
    ...said,
    ...(bound && { yields: [...new Set([...said.yields, 'untrusted'])] }),
    translate: (args, settings) => translate(declaration, args, settings),
    perform: async (plan, attempt) => {
      const open = bound && (() => proxy.open(bound, attempt.egress))
      return perform(declaration, plan as Plan, attempt, open)
    },
  }
}

function translate(
  declaration: CliDeclaration,
  given: unknown,
  { key }: ToolSettings,
): Translated | BadArguments {
  const asked = askedOf(declaration, given)
  if ('bad' in asked) return asked
  const { args, request, spend } = asked
  const plan = planOf(declaration, args, key)
  if ('bad' in plan) return plan
  const cost = { calls: 1, bytesOut: JSON.stringify([...args]).length, ...spend }
  const secret = plan.ref === undefined ? {} : { secret: placeOfSecret(plan.ref) }
  return { request: { ...request, ...secret }, cost, effectClass: declaration.effect, plan }
}

function planOf(
  { cli, secret }: CliDeclaration,
  args: Map<string, unknown>,
  key: string,
): Plan | BadArguments {
  const words: string[] = []
  const files: [string, string][] = []
  for (const word of cli.args) {
    const filled = wordOf(word, args, files)
    if (typeof filled === 'object') return filled
    if (filled !== undefined) words.push(filled)
  }
  if (words.reduce((sum, word) => sum + Buffer.byteLength(word), 0) > MAX_WORDS)
    return {
      bad: `arguments that come to more than ${MAX_WORDS} bytes of a command; long ones go in by standard input`,
    }
  const stdin = cli.stdin === undefined ? '' : String(args.get(cli.stdin) ?? '')
  return { words, files, stdin, ref: secret?.ref.replaceAll('{key}', key) }
}

/** One word of the command; undefined where its argument is left out. */
function wordOf(
  word: CliWord,
  args: Map<string, unknown>,
  files: [string, string][],
): string | undefined | BadArguments {
  if (typeof word === 'string') return word
  const name = 'flag' in word ? word.arg : 'positional' in word ? word.positional : word.file
  const value = args.get(name)
  if (value === undefined) return undefined
  const text = String(value)
  if (text.includes('\0')) return { bad: `\`${name}\`, which holds a zero byte` }
  if ('file' in word) {
    files.push([word.named, text])
    return `${WORK}/${word.named}`
  }
  if ('flag' in word) return `${word.flag}=${text}`
  // Behind `--` it would be none; programs that do not know `--` are there all the same.
  if (text.startsWith('-')) return { bad: `\`${name}\`, which begins with \`-\`` }
  return text
}

async function perform(
  declaration: CliDeclaration,
  plan: Plan,
  attempt: Attempt,
  open: (() => Promise<WayOut>) | undefined,
): Promise<Receipt> {
  const [bwrap, prlimit] = [findSandbox(), findProgram('prlimit')]
  if (!bwrap || !prlimit)
    return refused(
      'NoSandbox',
      'this machine has no `bwrap` (bubblewrap) or no `prlimit`: no program is started without',
    )
  const secret = plan.ref === undefined ? undefined : await attempt.secret(plan.ref)
  if (secret && 'class' in secret) return { ok: false, error: secret }
  if (secret && !isPlainText(secret.value))
    return refused('SecretUnusable', `secret \`${secret.ref}\` is no text that a variable could hold`)
  if (secret && !secret.masker)
    return refused('SecretTooShort', `secret \`${secret.ref}\` is too short to be found in an answer`)
  if (secret?.masker?.maskText(JSON.stringify([plan.words, plan.files, plan.stdin])) !== undefined)
    return refused('SecretByValue', `secret \`${secret.ref}\` stands in the arguments`)
  await attempt.started()
  const out = await open?.()
  try {
    const ran = await run(declaration, plan, { bwrap, prlimit, out }, secret, attempt.signal)
    return receiptOf(declaration, ran, secret, attempt)
  } finally {
    out?.close()
  }
}

interface Ran {
  readonly code: number | undefined
  readonly stdout: Buffer
  readonly stderr: Buffer
  /** Why it did not come to its own end. */
  readonly ended?: 'time' | 'output' | 'cancelled' | 'signal'
}

function run(
  { cli, secret: binding }: CliDeclaration,
  plan: Plan,
  {
    bwrap,
    prlimit,
    out,
  }: { readonly bwrap: string; readonly prlimit: string; readonly out: WayOut | undefined },
  secret: OpenSecret | undefined,
  signal: AbortSignal,
): Promise<Ran> {
  const memory = `--as=${cli.memoryBytes}`
  const own = binding && secret ? { [binding.env]: secret.value.toString() } : {}
  const { command, args, env } = sandboxCommand(bwrap, {
    program: cli.program,
    args: plan.words,
    readOnly: [],
    // No disk of the host ever holds them.
    files: plan.files.map(([name], i) => [FIRST_FILE + i, `${WORK}/${name}`]),
    cwd: WORK,
    env: { ...cli.env, ...own },
    // What stands between it and the door is not bounded by the program's own memory.
    ...(out && { out: out.folder, behind: [prlimit, memory] }),
  })
  const bounds = [
    ...(out ? [] : [memory]),
    `--cpu=${Math.ceil(cli.timeoutMs / 1000)}`,
    '--core=0',
    '--nofile=256',
  ]
  return new Promise((resolve) => {
    const stdio = ['pipe', 'pipe', 'pipe', ...plan.files.map(() => 'pipe' as const)] as const
    const child = spawn(prlimit, [...bounds, command, ...args], { env, stdio: [...stdio] })
    const outputs = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
    let ended: Ran['ended']
    const end = (why: NonNullable<Ran['ended']>) => {
      ended ??= why
      child.kill('SIGKILL')
    }
    const timer = setTimeout(() => end('time'), cli.timeoutMs)
    const cancel = () => end('cancelled')
    signal.addEventListener('abort', cancel, { once: true })
    for (const [name, most] of [
      ['stdout', MAX_STDOUT],
      ['stderr', MAX_STDERR],
    ] as const) {
      let size = 0
      child[name].on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size <= most) outputs[name].push(chunk)
        else if (name === 'stdout') end('output')
      })
    }
    // Who does not read its input has closed it: that is its own affair.
    for (const [fd, text] of [
      [0, plan.stdin] as const,
      ...plan.files.map(([, text], i) => [FIRST_FILE + i, text] as const),
    ]) {
      const input = child.stdio[fd] as Writable
      input.on('error', () => {})
      input.end(text)
    }
    child.on('error', () => {})
    child.on('close', (code, killedBy) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', cancel)
      const why = ended ?? (killedBy ? 'signal' : undefined)
      const stdout = Buffer.concat(outputs.stdout)
      const stderr = Buffer.concat(outputs.stderr)
      resolve({ code: code ?? undefined, stdout, stderr, ...(why && { ended: why }) })
    })
  })
}

/** What bwrap answers where it could not start the program at all. */
const NOT_STARTED = /^(bwrap: |sandbox: \d+: exec: )/

function receiptOf(
  declaration: CliDeclaration,
  { code, stdout, stderr, ended }: Ran,
  secret: OpenSecret | undefined,
  attempt: Attempt,
): Receipt {
  const { cli, effect, name } = declaration
  const masked = [stdout, stderr].map((bytes) => secret?.masker?.mask(bytes))
  if (secret && masked.some((bytes) => bytes !== undefined)) attempt.masked(secret)
  const [said, complained] = [masked[0] ?? stdout, masked[1] ?? stderr]
  if (ended === 'cancelled' && effect === 'read')
    return failed('Cancelled', 'Cancelled', 'cancelled before it ended')
  if (ended) return undone(effect, `\`${name}\` ${WHY[ended]}`)
  if (code !== 0 && NOT_STARTED.test(complained.toString()))
    return failed('Unavailable', 'ToolFailed', `\`${cli.program}\` could not be started in the sandbox`)
  if (!(cli.exits ?? [0]).includes(code ?? -1) && cli.answer === 'json')
    return failed(
      effect === 'read' ? 'Unavailable' : 'Withheld',
      'ToolFailed',
      `\`${name}\` ended with exit code ${code}`,
    )
  const cls = effect === 'read' ? 'Unavailable' : 'Withheld'
  if (cli.answer === 'json') return answered(declaration, said.toString(), cls)
  return held(declaration, { code, stdout: said.toString(), stderr: complained.toString() }, cls)
}

const WHY = {
  time: 'took longer than it may',
  output: `printed more than ${MAX_STDOUT} bytes`,
  signal: 'was ended by a signal',
  cancelled: 'was cancelled',
} as const

/** Who says that it must happen once may mean just that. */
function undone(effect: CliDeclaration['effect'], message: string): Receipt {
  if (effect === 'read') return failed('Unavailable', 'ToolFailed', message)
  return failed('Indeterminate', 'Indeterminate', `${message}; whether it was done is unknown`)
}
