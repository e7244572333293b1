/** The command \`cardinal\`. */
import '@cardinal/kernel'
import { Command, CommanderError, Option } from 'commander'
import { addAgentVerbs } from './commands/agent-verbs.ts'
import { addAgentCommands } from './commands/agents.ts'
import { addApprovalCommands } from './commands/approvals.ts'
import { addCardCommands } from './commands/cards.ts'
import { addFileCommands } from './commands/files.ts'
import { addHomeCommands } from './commands/homes.ts'
import { addManifestCommands } from './commands/manifests.ts'
import { addMcpCommands } from './commands/mcp.ts'
import { addNodeCommands } from './commands/node.ts'
import { addPeopleCommands } from './commands/people.ts'
import { addReceiptCommands } from './commands/receipts.ts'
import { addSecretCommands } from './commands/secrets.ts'
import { addToolCommands } from './commands/tools.ts'
import { exitCode } from './errors.ts'
import { note } from './output.ts'

const VERSION = '0.1.0'

async function main(): Promise<void> {
  const program = new Command('cardinal')
    .description('runs agents under cards, and keeps the record')
    .version(VERSION)
    .addOption(new Option('--format <format>', 'how to print').choices(['text', 'json']).default('text'))
    .option('--url <url>', 'the node; else CARDINAL_URL, the profile, or `.cardinal` upward')
    .option('--token <token>', 'its token; else CARDINAL_TOKEN')
    .configureOutput({ outputError: (text, write) => write(wantsJson() ? usageJson(text) : text) })
    .showHelpAfterError('(see `cardinal --help`)')
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
  addNodeCommands(program)
  addManifestCommands(program)
  addAgentVerbs(program)
  addAgentCommands(program)
  addHomeCommands(program)
  addFileCommands(program)
  addCardCommands(program)
  addApprovalCommands(program)
  addPeopleCommands(program)
  addSecretCommands(program)
  addMcpCommands(program)
  addToolCommands(program)
  addReceiptCommands(program)
  for (const command of allCommands(program)) command.exitOverride()
  try {
    await program.parseAsync()
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : 2
      return
    }
    fail(error as Failure, (program.opts() as { format?: string }).format === 'json')
  }
}

/** Asked before anything is parsed: what is wrong may be the parsing. */
function wantsJson(): boolean {
  const { argv } = process
  return argv.includes('--format=json') || argv[argv.indexOf('--format') + 1] === 'json'
}

function usageJson(text: string): string {
  const message = text.replace(/^error: /, '').trim()
  return `${JSON.stringify({ class: 'Usage', code: 'Usage', message })}\n`
}

function allCommands(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...allCommands(child)])
}

type Failure = Error & { class?: string; code?: string; details?: Record<string, unknown> }

function fail(error: Failure, asJson: boolean): void {
  process.exitCode = exitCode(error.class ?? '')
  const known = typeof error.class === 'string'
  if (asJson && known) {
    note(JSON.stringify({ class: error.class, code: error.code, message: error.message, ...error.details }))
    return
  }
  note(known ? `cardinal: ${error.message} [${error.code}]` : `cardinal: ${error.stack ?? error.message}`)
  const { stack, missing, effect } = error.details ?? {}
  if (typeof stack === 'string') note(stack)
  if (missing !== undefined) note(`needed: ${JSON.stringify(missing)}`)
  if (typeof effect === 'string') note(`see \`cardinal why ${effect}\``)
}

await main()
