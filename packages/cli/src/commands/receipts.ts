/** Commands about receipts: take one out of a node, and read one with nothing but a public key. */
import fs from 'node:fs'
import { checkReceipt } from '@cardinal/kernel'
import { type Command, InvalidArgumentError } from 'commander'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf } from '../options.ts'
import { print } from '../output.ts'
import { full } from './agents.ts'

export function addReceiptCommands(program: Command): void {
  const receipt = program.command('receipt').description('one effect, provable by itself')
  receipt
    .command('get <effect> [file]')
    .description('write the receipt of an effect into a new file; `-` for standard output, if left out')
    .option('--open', 'with what was said: the whole turn that asked for it, what went out, and the result')
    .action(get)
  receipt
    .command('verify <file>')
    .description('what a receipt proves; needs no node')
    .requiredOption(
      '--key <hex>',
      'public key of the node that wrote it; /v1/health of a node tells it',
      keyOf,
    )
    .action(verify)
}

function keyOf(text: string): string {
  if (/^[0-9a-f]{64}$/i.test(text)) return text
  throw new InvalidArgumentError('a public key is 64 hexadecimal digits')
}

async function get(effect: string, file = '-', options: { open?: true }, command: Command): Promise<void> {
  if (file !== '-' && fs.existsSync(file))
    throw new CliError('Conflict', 'FileExists', `\`${file}\` is there already`)
  const body = { effect: full(effect), open: options.open === true }
  const { body: receipt } = await ask(endpointOf(command), '/v1/receipts', { body })
  const text = `${JSON.stringify(receipt, null, 1)}\n`
  if (file === '-') process.stdout.write(text)
  else {
    fs.writeFileSync(file, text, { mode: 0o600, flag: 'wx' })
    print(formatOf(command), { file }, () => `wrote ${file}`)
  }
}

async function verify(file: string, options: { key: string }, command: Command): Promise<void> {
  if (!fs.existsSync(file)) throw new CliError('NotFound', 'NoSuchFile', `\`${file}\` does not exist`)
  let given: unknown
  try {
    given = JSON.parse(fs.readFileSync(file, 'utf8'))
  } catch (error) {
    throw new CliError('Malformed', 'BadFile', `\`${file}\` is not JSON: ${(error as Error).message}`)
  }
  const facts = checkReceipt(given, options.key.toLowerCase())
  print(formatOf(command), facts, () => JSON.stringify(facts, null, 2))
}
