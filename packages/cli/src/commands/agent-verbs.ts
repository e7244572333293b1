/** `cardinal agents …`: look at agents, and act on one as the host. */
import type { Command } from 'commander'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf, whole } from '../options.ts'
import { print, table } from '../output.ts'
import { route } from './agents.ts'

interface Node {
  readonly address: string
  readonly state: string
  readonly below: readonly Node[]
}

/** Acts that need no more than the agent: the verb, what it does, what was done, and whether it can be undone. */
const ACTS = [
  ['suspend', 'put it to sleep now, if it is quiet', 'suspended', false],
  ['hold', 'freeze it: it takes inputs in and runs nothing', 'held', false],
  ['release', 'let it go on', 'released', false],
  ['wipe', 'let it begin anew: memory and inbox are gone, then what it had read and accepted', 'wiped', true],
  ['end', 'stop it and whoever it made, for good', 'ended', true],
  ['erase', 'destroy its key: what it said and was told is unreadable from then on', 'erased', true],
] as const

export function addAgentVerbs(program: Command): void {
  const agents = program.command('agents').description('list agents, look at one, hold, wipe or end it')
  agents
    .command('list')
    .description('agents, by address')
    .option('--tenant <name>')
    .option('--type <name>')
    .option('--limit <n>', 'at most so many', whole(1), 100)
    .action(async (options: Record<string, string | number>, command: Command) => {
      const query = new URLSearchParams(
        Object.entries(options).map(([k, v]) => [k, String(v)] as [string, string]),
      )
      const { body } = await ask(endpointOf(command), `/v1/agents?${query}`)
      const rows = body.agents as Record<string, string>[]
      print(formatOf(command), rows, () =>
        table([
          ['AGENT', 'STATE', 'TURNS', 'LAST'],
          ...rows.map((a) => [a.address, a.state, String(a.turns), a.touched] as string[]),
        ]),
      )
    })
  agents
    .command('get <agent>')
    .description('one agent: its state, program and generation')
    .action(async (agent: string, _options: unknown, command: Command) => {
      const { body } = await ask(endpointOf(command), route(agent))
      print(formatOf(command), body, () => table(Object.entries(body).map(([k, v]) => [k, String(v)])))
    })
  agents
    .command('limits <agent>')
    .description('what bounds an agent, and where each limit is set')
    .action(async (agent: string, _options: unknown, command: Command) => {
      const { body } = await ask(endpointOf(command), `${route(agent)}/limits`)
      const limits = body.limits as { limit: string; shown: string; setFor: string }[]
      print(formatOf(command), limits, () =>
        table([['LIMIT', 'VALUE', 'SET FOR'], ...limits.map((l) => [l.limit, l.shown, l.setFor])]),
      )
    })
  agents
    .command('tree <agent>')
    .description('an agent, and those that it made')
    .option('--limit <n>', 'at most so many', whole(1), 1000)
    .action(async (agent: string, options: { limit: number }, command: Command) => {
      const { body } = await ask(endpointOf(command), `${route(agent)}/tree?limit=${options.limit}`)
      print(formatOf(command), body, () => branches(body as unknown as Node, '').join('\n'))
    })
  for (const [verb, about, done, final] of ACTS) {
    const act = agents.command(`${verb} <agent>`).description(about)
    if (final) act.option('--yes', 'do it')
    act.action(async (agent: string, options: { yes?: boolean }, command: Command) => {
      if (final && !options.yes)
        throw new CliError('Usage', 'Usage', `this cannot be undone; add \`--yes\` to ${verb} \`${agent}\``)
      const { body } = await ask(endpointOf(command), `${route(agent)}/${verb}`, { method: 'POST' })
      print(formatOf(command), body, () => `${done} ${agent}`)
    })
  }
}

function branches({ address, state, below }: Node, indent: string): string[] {
  return [`${indent}${address}  ${state}`, ...below.flatMap((child) => branches(child, `${indent}  `))]
}
