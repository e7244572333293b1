/** Commands about secrets. A value comes from standard input and from nowhere else, and none is ever printed. */
import { rekeyVault } from '@cardinal/kernel'
import { newVaultKey, withoutLineBreak } from '@cardinal/secrets'
import type { Command } from 'commander'
import { ask, dataFolder, send } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf } from '../options.ts'
import { note, print, table } from '../output.ts'
import { vaultKeyOf } from '../secret-sources.ts'
import { defaultTenant } from './agents.ts'

interface Shown {
  readonly tenant: string
  readonly name: string
  readonly version: number
  readonly changed: string
}

const TENANT = ['--tenant <tenant>', 'whose; else CARDINAL_TENANT, else `default`'] as const

export function addSecretCommands(program: Command): void {
  const secrets = program
    .command('secrets')
    .description('secrets that agents name and never see; every change is recorded, no value ever is')
  for (const [verb, rotate, about] of [
    ['set', false, 'keep a new secret; its value comes from standard input'],
    [
      'rotate',
      true,
      'give a secret its next value, from standard input; whoever uses it has it from then on',
    ],
  ] as const)
    secrets
      .command(`${verb} <name>`)
      .description(about)
      .option(...TENANT)
      .option('--raw', 'a line break at the end is part of the value')
      .action((name: string, options: PutOptions, command: Command) => put(name, rotate, options, command))
  secrets
    .command('list')
    .description('names, versions and when they were changed')
    .option('--tenant <tenant>', 'of one tenant; of all, if left out')
    .action(list)
  secrets
    .command('rm <name>')
    .description('forget a secret: whoever names it is refused from then on')
    .option(...TENANT)
    .action(remove)
  secrets
    .command('key')
    .description('print a new key for a vault; needs no node')
    .action(() => {
      process.stdout.write(`${newVaultKey()}\n`)
    })
  secrets
    .command('rekey [data]')
    .description('wrap the vault of a data folder by another key; no node may run on it meanwhile')
    .requiredOption('--vault-key <source>', 'its key until now: file:PATH, env:NAME or command:PROGRAM')
    .requiredOption('--to <source>', 'its key from then on')
    .action(rekey)
}

async function rekey(
  data: string | undefined,
  options: { readonly vaultKey: string; readonly to: string },
  command: Command,
): Promise<void> {
  const folder = dataFolder(data)
  const from = vaultKeyOf(options.vaultKey)
  const to = vaultKeyOf(options.to)
  if (from.id === to.id) throw new CliError('Usage', 'VaultKey', 'both are the same key')
  const secrets = await rekeyVault(folder, from, to)
  const done = { data: folder, secrets, before: from.id, after: to.id }
  print(
    formatOf(command),
    done,
    () => `${secrets} secrets; the vault opens with ${to.id} from now on, and no more with ${from.id}`,
  )
}

interface PutOptions {
  readonly tenant?: string
  readonly raw?: true
}

async function put(name: string, rotate: boolean, options: PutOptions, command: Command): Promise<void> {
  if (process.stdin.isTTY)
    note(`the value of \`${name}\`, then Ctrl-D (a pipe or a file is better: \`< file\`):`)
  const given = Buffer.concat(await process.stdin.toArray())
  const value = options.raw ? given : withoutLineBreak(given)
  if (value.length === 0) throw new CliError('Usage', 'BadSecret', 'there is no value on standard input')
  const query = new URLSearchParams({ name, ...(rotate && { rotate: 'true' }) })
  const answer = await send(
    endpointOf(command),
    `/v1/secrets/${encodeURIComponent(options.tenant ?? defaultTenant())}?${query}`,
    {
      method: 'PUT',
      headers: { 'content-type': 'application/octet-stream' },
      body: new Uint8Array(value),
    },
  )
  const done = (await answer.json()) as Shown
  print(formatOf(command), done, () => `${done.tenant} ${done.name}  version ${done.version}`)
}

async function list(options: { tenant?: string }, command: Command): Promise<void> {
  const query = options.tenant === undefined ? '' : `?${new URLSearchParams({ tenant: options.tenant })}`
  const { secrets } = (await ask(endpointOf(command), `/v1/secrets${query}`)).body as unknown as {
    secrets: Shown[]
  }
  print(formatOf(command), secrets, () =>
    table(secrets.map(({ tenant, name, version, changed }) => [tenant, name, `version ${version}`, changed])),
  )
}

async function remove(name: string, options: { tenant?: string }, command: Command): Promise<void> {
  const query = new URLSearchParams({ name })
  const at = `/v1/secrets/${encodeURIComponent(options.tenant ?? defaultTenant())}?${query}`
  const { body } = await ask(endpointOf(command), at, { method: 'DELETE' })
  print(formatOf(command), body, () => `removed ${name}`)
}
