/**
 * A program in the sandbox as a tool: typed arguments in typed places of its command, and nothing of it a
 * shell's. It reaches what the tool's own card says, and nothing if that is left out; it sees no file but what it
 * is given; what it prints is bounded.
 */
import type { Masker, OpenSecret } from '@cardinal/secrets'
import { type Command, type Ran, runCommand, WORK } from './cli-run.ts'
import type { CliDeclaration, CliWord } from './declaration.ts'
import { answered, askedOf, held, saidBy } from './declared-parts.ts'
import { egressBound, sinksOfEgress } from './egress-grants.ts'
import type { OpenWay, WayOut } from './egress-proxy.ts'
import { withoutSecret } from './egress-record.ts'
import { failed, refused } from './failures.ts'
import { findProgram, findSandbox, isPlainText, OUT } from './sandbox.ts'
import { placeOfSecret } from './secret-slot.ts'
import type { Attempt, BadArguments, Receipt, Tool, ToolSettings, Translated } from './tool.ts'

/** Of a whole command: the system takes no word of more than 128 KiB. */
const MAX_WORDS = 64 << 10

interface Plan {
  readonly words: readonly string[]
  readonly files: readonly (readonly [name: string, bytes: Buffer])[]
  readonly outs: readonly string[]
  readonly stdin: string
  readonly ref: string | undefined
}

/** `proxy`: opens ways out for the tenant that declares it. */
export function cliTool(declaration: CliDeclaration, proxy: OpenWay): Tool {
  const { egress } = declaration.cli
  const said = saidBy(declaration, [...(declaration.sinks ?? []), ...sinksOfEgress(egress)])
  const bound = egress && egressBound(egress, 'egress')
  return {
    // It keeps nothing, and what it has from outside anybody may have written.
    ...said,
    ...(bound && { yields: [...new Set([...said.yields, 'untrusted'])] }),
    translate: (args, settings) => translate(declaration, args, settings),
    perform: async (plan, attempt) => {
      const open =
        bound && ((masker: Masker | undefined) => proxy(bound, withoutSecret(attempt.egress, masker)))
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
  const files: [string, Buffer][] = []
  const outs: string[] = []
  for (const word of cli.args) {
    if (typeof word === 'object' && 'out' in word) {
      outs.push(word.out)
      words.push(`${OUT}/${word.out}`)
      continue
    }
    const filled = wordOf(word, args, files)
    if (typeof filled === 'object') return filled
    if (filled !== undefined) words.push(filled)
  }
  if (words.reduce((sum, word) => sum + Buffer.byteLength(word), 0) > MAX_WORDS)
    return {
      bad: `arguments that come to more than ${MAX_WORDS} bytes of a command; long ones go in by standard input`,
    }
  const stdin = cli.stdin === undefined ? '' : String(args.get(cli.stdin) ?? '')
  return { words, files, outs, stdin, ref: secret?.ref.replaceAll('{key}', key) }
}

/** One word of the command; undefined where its argument is left out. */
function wordOf(
  word: Exclude<CliWord, { readonly out: string }>,
  args: Map<string, unknown>,
  files: [string, Buffer][],
): string | undefined | BadArguments {
  if (typeof word === 'string') return word
  const name = 'flag' in word ? word.arg : 'positional' in word ? word.positional : word.file
  const value = args.get(name)
  if (value === undefined) return undefined
  const text = String(value)
  if (text.includes('\0')) return { bad: `\`${name}\`, which holds a zero byte` }
  if ('file' in word) {
    const bytes = Buffer.from(text, word.as ?? 'utf8')
    if (word.as && bytes.toString(word.as) !== text) return { bad: `\`${name}\`, which is no Base64` }
    files.push([word.named, bytes])
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
  open: ((masker: Masker | undefined) => Promise<WayOut>) | undefined,
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
  const within = [
    Buffer.from(JSON.stringify([plan.words, plan.stdin])),
    ...plan.files.map(([, bytes]) => bytes),
  ]
  if (secret && within.some((bytes) => secret.masker?.mask(bytes) !== undefined))
    return refused('SecretByValue', `secret \`${secret.ref}\` stands in the arguments`)
  await attempt.started()
  const out = await open?.(secret?.masker)
  try {
    const ran = await runCommand(
      commandOf(declaration, plan, secret),
      { bwrap, prlimit, out },
      attempt.signal,
    )
    return receiptOf(declaration, ran, secret, attempt)
  } finally {
    out?.close()
  }
}

function commandOf(
  { cli, secret: binding }: CliDeclaration,
  plan: Plan,
  secret: OpenSecret | undefined,
): Command {
  const own = binding && secret ? { [binding.env]: secret.value.toString() } : {}
  const { program, timeoutMs, memoryBytes } = cli
  return { ...plan, program, env: { ...cli.env, ...own }, timeoutMs, memoryBytes }
}

/** What those who start it say where there is no such program. */
const NOT_STARTED = /^(bwrap: |prlimit: failed to execute |sandbox: \d+: )/

function receiptOf(
  declaration: CliDeclaration,
  { code, stdout, stderr, files, ended }: Ran,
  secret: OpenSecret | undefined,
  attempt: Attempt,
): Receipt {
  const { cli, effect, name } = declaration
  const shown = (bytes: Buffer) => {
    const masked = secret?.masker?.mask(bytes)
    if (secret && masked) attempt.masked(secret)
    return masked ?? bytes
  }
  const [said, complained] = [shown(stdout), shown(stderr)]
  if (ended === 'cancelled' && effect === 'read')
    return failed('Cancelled', 'Cancelled', 'cancelled before it ended')
  if (ended === 'notStarted')
    return failed('Unavailable', 'ToolFailed', `\`${name}\` could not be started here just now`)
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
  const outs = cli.args.some((word) => typeof word === 'object' && 'out' in word)
  const given = Object.fromEntries(files.map(([name, bytes]) => [name, shown(bytes).toString('base64')]))
  const value = {
    code,
    stdout: said.toString(),
    stderr: complained.toString(),
    ...(outs && { files: given }),
  }
  return held(declaration, value, cls)
}

const WHY = {
  time: 'took longer than it may',
  output: 'gave more than it may',
  signal: 'was ended by a signal',
  cancelled: 'was cancelled',
} as const

/** Who says that it must happen once may mean just that. */
function undone(effect: CliDeclaration['effect'], message: string): Receipt {
  if (effect === 'read') return failed('Unavailable', 'ToolFailed', message)
  return failed('Indeterminate', 'Indeterminate', `${message}; whether it was done is unknown`)
}
