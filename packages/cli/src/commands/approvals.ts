/** Commands about effects that wait for a person. */
import type { Command } from 'commander'
import { ask } from '../client.ts'
import { endpointOf, formatOf, whole } from '../options.ts'
import { inAscii, indented, print, table } from '../output.ts'

interface Approval {
  readonly id: string
  readonly effect: string
  readonly tool: string
  readonly args: unknown
  readonly given?: unknown
  readonly for: string
  readonly ask: readonly (readonly string[])[]
  readonly approved: readonly string[]
  readonly state: string
  readonly digest: string
}

const SHORT = 8
/** Who approves should not take for the node's word what an agent has written. */
const AGENT_WROTE = 'all text in quotes is the agent’s, and may be meant to persuade'
const MIDDLEWARE_WROTE = `the arguments are what middleware made of what was asked for; ${AGENT_WROTE}`

export function addApprovalCommands(program: Command): void {
  const approvals = program.command('approvals').description('effects that wait for a person')
  approvals
    .command('list')
    .option('--state <state>', 'open, approved, denied or ended', 'open')
    .option('--limit <n>', 'at most so many', whole(1), 100)
    .action(async ({ state, limit }: { state: string; limit: number }, command: Command) => {
      const { body } = await ask(
        endpointOf(command),
        `/v1/approvals?state=${encodeURIComponent(state)}&limit=${limit}`,
      )
      const rows = body.approvals as Approval[]
      print(formatOf(command), rows, () =>
        table([
          ['APPROVAL', 'DIGEST', 'EFFECT', 'TOOL', 'ARGUMENTS'],
          ...rows.map((a) => [a.id, a.digest.slice(0, SHORT), a.effect, a.tool, JSON.stringify(a.args)]),
        ]),
      )
    })
  approvals.command('show <approval>').action(async (id: string, _options: unknown, command: Command) => {
    show(command, (await ask(endpointOf(command), at(id))).body)
  })
  approvals
    .command('approve <approval>')
    .description('approve exactly what was shown, by its digest')
    .requiredOption('--digest <hex>', 'the digest that `list` or `show` printed, or its first digits')
    .option('--role <role>', 'as which role; needed if several may')
    .action(async (id: string, options: { digest: string; role?: string }, command: Command) => {
      show(command, (await ask(endpointOf(command), `${at(id)}/approve`, { body: options })).body)
    })
  approvals
    .command('deny <approval>')
    .option('--why <text>', 'what the agent is told')
    .option('--digest <hex>', 'only if it is what was shown')
    .action(async (id: string, options: { why?: string; digest?: string }, command: Command) => {
      show(command, (await ask(endpointOf(command), `${at(id)}/deny`, { body: options })).body)
    })
}

/** Who approves sees letters that only look like others: what is not ASCII is shown once more, spelt out. */
function exactly(args: unknown): string[][] {
  const text = JSON.stringify(args)
  return inAscii(text) === text ? [] : [['exactly', inAscii(text)]]
}

function at(id: string): string {
  return `/v1/approvals/${encodeURIComponent(id)}`
}

function show(command: Command, body: Record<string, unknown>): void {
  const a = body as unknown as Approval
  print(formatOf(command), body, () =>
    table([
      ['approval', `${a.id} (${a.state})`],
      ['effect', a.effect],
      ['for', a.for],
      ['tool', a.tool],
      ['arguments', indented(JSON.stringify(a.args, null, 2))],
      ...exactly(a.args),
      ...(a.given === undefined ? [] : [['asked for', indented(JSON.stringify(a.given, null, 2))]]),
      ['whose words', a.given === undefined ? AGENT_WROTE : MIDDLEWARE_WROTE],
      ['asks', a.ask.map((roles) => roles.join(' and ')).join(', or ')],
      ['approved by', a.approved.join(', ') || 'nobody yet'],
      ['digest', a.digest],
    ]),
  )
}
