/** Commands about cards. */
import { createInterface } from 'node:readline'
import {
  inspectToken,
  type PublicKeyBytes,
  type RevocationList,
  readRevocations,
  Sim,
  showGrantText,
  showTokenCard,
  TokenError,
  type TokenReport,
} from '@cardinal/cards'
import { type Command, InvalidArgumentError } from 'commander'
import { CliError } from '../errors.ts'
import { duration, formatOf } from '../options.ts'
import { print, table } from '../output.ts'
import { readFile, tokenIn } from '../tokens.ts'
import { addConfine, addHostCardCommands } from './host-cards.ts'

export function addCardCommands(program: Command): void {
  const cards = program.command('cards').description('what agents may do, and may ever do')
  addHostCardCommands(cards)
  addConfine(program, true)
  cards
    .command('sim')
    .description(
      'run the rules of cards over a history from stdin: one JSON object a line in, one a line out; no node is needed',
    )
    .action(sim)
  cards
    .command('inspect <file>')
    .description('verify a Biscuit, ours or not, with nothing but a public key; `-` reads stdin')
    .requiredOption('--root-key <hex>', 'the public key that must have signed its first block', rootKey)
    .option(
      '--revoked <file>',
      'a list of `cards export --revoked`, or ids, one a line: a token that holds one is revoked',
    )
    .option('--max-age <duration>', 'how old that list may be, as 1h; it must be signed then', duration)
    .action(inspect)
}

const ED25519_HEX = 64
const P256_HEX = 66

function rootKey(text: string): PublicKeyBytes {
  const [, named, hex = ''] = /^(?:(ed25519|secp256r1)\/)?([0-9a-fA-F]+)$/.exec(text) ?? []
  const algorithm = hex.length === ED25519_HEX ? 'ed25519' : hex.length === P256_HEX ? 'p256' : undefined
  if (!algorithm || (named && (named === 'ed25519') !== (algorithm === 'ed25519')))
    throw new InvalidArgumentError('a root key is 64 hexadecimal digits (Ed25519) or 66 (P-256, compressed)')
  return { algorithm, key: Buffer.from(hex, 'hex') }
}

function revokedIn(file: string | undefined, root: PublicKeyBytes): RevocationList | undefined {
  if (file === undefined) return undefined
  try {
    return readRevocations(readFile(file).toString('utf8'), root)
  } catch (error) {
    if (!(error instanceof TokenError)) throw error
    throw new CliError('Malformed', 'BadRevocationList', `\`${file}\`: ${error.message}`)
  }
}

function knows(list: RevocationList | undefined): string {
  if (!list) return 'not looked at: no list was given'
  return list.issuedMs === undefined
    ? 'of a list that is not signed'
    : `as of ${new Date(list.issuedMs).toISOString()}`
}

/** What was revoked after a list was made, it cannot know: an old one in the place of a newer is refused. */
function requireFresh(
  list: RevocationList | undefined,
  asOf: number | undefined,
  maxAgeMs: number | undefined,
): void {
  const stale = (why: string) => new CliError('Refused', 'StaleRevocationList', why)
  if (list?.asOf !== undefined && asOf !== undefined && list.asOf < asOf)
    throw stale(`the list of revocations reaches to ${list.asOf}, and the token was signed at ${asOf}`)
  if (maxAgeMs === undefined) return
  if (list?.issuedMs === undefined)
    throw stale('`--max-age` needs `--revoked` with a list that is signed and dated')
  if (Math.abs(Date.now() - list.issuedMs) > maxAgeMs)
    throw stale(`the list of revocations is of ${new Date(list.issuedMs).toISOString()}`)
}

/** Exit code 0 if the token holds and is neither revoked nor expired, else 1; what does not hold says why. */
function inspect(
  file: string,
  options: { rootKey: PublicKeyBytes; revoked?: string; maxAge?: number },
  command: Command,
): void {
  const list = revokedIn(options.revoked, options.rootKey)
  const bytes = tokenIn(file)
  let report: TokenReport
  try {
    report = inspectToken(bytes, options.rootKey, list?.ids ?? new Set())
  } catch (error) {
    if (!(error instanceof TokenError)) throw error
    const refused = { ok: false, code: error.code, message: error.message }
    print(formatOf(command), refused, () => table([['NOT VERIFIED', `${error.message} [${error.code}]`]]))
    process.exitCode = 1
    return
  }
  requireFresh(list, report.asOf, options.maxAge)
  const blocks = report.blocks.map(({ card, ...block }) => ({
    ...block,
    ...(card && { card: showTokenCard(card) }),
  }))
  const expired = report.expires !== undefined && report.expires <= Date.now()
  const ok = report.ok && !expired
  print(formatOf(command), { ...report, ok, expired, blocks }, () =>
    table([
      [
        ok ? 'verified' : report.ok ? 'EXPIRED' : 'REVOKED',
        `${report.blocks.length} blocks, ${report.sealed ? 'sealed' : 'NOT SEALED: whoever has it can append'}`,
      ],
      ['revocations', knows(list)],
      ...(report.expires === undefined ? [] : [['expires', new Date(report.expires).toISOString()]]),
      ...report.blocks.flatMap(blockRows),
    ]),
  )
  if (!ok) process.exitCode = 1
}

/** Lines are answered in order, each before the next is read; an answer is never held back. */
async function sim(): Promise<void> {
  const run = new Sim()
  const out: string[] = []
  let bytes = 0
  const flush = async () => {
    const text = out.splice(0).join('')
    bytes = 0
    if (text !== '' && !process.stdout.write(text))
      await new Promise((resolve) => process.stdout.once('drain', resolve))
  }
  // Whoever stops reading has seen enough.
  process.stdout.on('error', () => process.exit(0))
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line.trim() === '') continue
    const answer = `${run.run(line)}\n`
    out.push(answer)
    bytes += answer.length
    if (bytes > 65_536 || process.stdin.readableLength === 0) await flush()
  }
  await flush()
}

/** A block, and for a card of ours each grant of both bounds. */
function blockRows(
  { card, revocationId, revoked }: TokenReport['blocks'][number],
  i: number,
): [string, string][] {
  const what = card ? `card ${card.id} of ${card.owner}` : 'not a card of ours'
  const head: [string, string] = [
    `block ${i}`,
    `${what}, revocation id ${revocationId}${revoked ? ' REVOKED' : ''}`,
  ]
  if (!card) return [head]
  const { now, ever, limits } = showTokenCard(card)
  const grants = (name: string, bound: typeof now) =>
    bound.map((g): [string, string] => [name, showGrantText(g)])
  return [head, ['  limits', JSON.stringify(limits)], ...grants('  now', now), ...grants('  ever', ever)]
}
