/** Commands about people who approve. */
import type { Command } from 'commander'
import { ask } from '../client.ts'
import { endpointOf, formatOf } from '../options.ts'
import { print, table } from '../output.ts'
import { defaultTenant } from './agents.ts'

interface Person {
  readonly tenant: string
  readonly name: string
  readonly roles: readonly string[]
  readonly card: string
}

const TENANT = 'whose; else CARDINAL_TENANT, else `default`'

export function addPeopleCommands(program: Command): void {
  const people = program.command('people').description('who approves, each with a token, roles and a card')
  people
    .command('add <name>')
    .description(
      'declare somebody who approves, and print their token: once, and never again; the operator’s own token approves no more in this tenant',
    )
    .requiredOption('--role <role...>', 'as which they approve, as grants and middleware ask for it')
    .requiredOption(
      '--card <card>',
      'what they approve lies within this card: `cards mint` or `cards derive`',
    )
    .option('--tenant <tenant>', TENANT)
    .action(
      async (name: string, options: { role: string[]; card: string; tenant?: string }, command: Command) => {
        const tenant = options.tenant ?? defaultTenant()
        const wish = { tenant, name, roles: options.role, card: options.card }
        const { body } = await ask(endpointOf(command), '/v1/people', { body: wish })
        print(formatOf(command), { tenant, name, token: body.token }, () => `token  ${String(body.token)}`)
      },
    )
  people
    .command('list')
    .option('--tenant <tenant>', 'of one tenant')
    .action(async (options: { tenant?: string }, command: Command) => {
      const query = options.tenant === undefined ? '' : `?${new URLSearchParams({ tenant: options.tenant })}`
      const { body } = await ask(endpointOf(command), `/v1/people${query}`)
      const all = body.people as readonly Person[]
      print(formatOf(command), all, () =>
        table([
          ['PERSON', 'ROLES', 'CARD'],
          ...all.map(({ tenant, name, roles, card }) => [`${tenant}/${name}`, roles.join(', '), card]),
        ]),
      )
    })
  people
    .command('rm <name>')
    .description('their token is worth nothing from then on')
    .option('--tenant <tenant>', TENANT)
    .action(async (name: string, options: { tenant?: string }, command: Command) => {
      const path = [options.tenant ?? defaultTenant(), name].map(encodeURIComponent).join('/')
      const { body } = await ask(endpointOf(command), `/v1/people/${path}`, { method: 'DELETE' })
      print(formatOf(command), body, () => `removed ${String(body.removed)}`)
    })
}
