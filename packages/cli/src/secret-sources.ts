/** Where a node that is started here has its secrets from: options, and one variable of the environment. */
import fs from 'node:fs'
import path from 'node:path'
import {
  environmentSecrets,
  fileSecrets,
  kvSecrets,
  newVaultKey,
  type Providers,
  readVaultKey,
  SecretError,
  type VaultKey,
} from '@cardinal/secrets'
import type { Command } from 'commander'
import { CliError } from './errors.ts'

export interface SecretOptions {
  readonly vaultKey?: string
  readonly secretFiles?: string
  readonly kv?: string
  readonly kvToken?: string
}

const VARIABLE = 'CARDINAL_SECRETS'
const KV_MS = 5000

export function secretOptions(command: Command): Command {
  return command
    .option('--vault-key <source>', 'the key of the vault: file:PATH, env:NAME or command:PROGRAM')
    .option('--secret-files <folder>', 'secrets named `file/NAME` are FOLDER/TENANT/NAME')
    .option(
      '--kv <url>',
      'secrets named `kv/NAME` are field `value` of URL/TENANT/NAME in HashiCorp Vault or OpenBao',
    )
    .option('--kv-token <source>', 'the token for that service: file:PATH or env:NAME')
    .addHelpText(
      'after',
      `\nSecrets named \`env/NAME\` come from the variable ${VARIABLE}: {"tenant": {"name": "value"}}.`,
    )
}

/** The key of a vault, or what is wrong with where it should be. */
export function vaultKeyOf(source: string): VaultKey {
  try {
    return readVaultKey(source)
  } catch (error) {
    if (!(error instanceof SecretError)) throw error
    throw new CliError('Malformed', error.code, error.message)
  }
}

/** `dev` keeps a key of its own beside its data; a node that serves is told where its key is. */
export function secretsOf(
  options: SecretOptions,
  devKey: string | undefined,
): { vaultKey?: VaultKey; secretProviders: Providers } {
  try {
    const source = options.vaultKey ?? (devKey && `file:${madeOnce(devKey)}`)
    const environment = process.env[VARIABLE]
    // Programs that this process starts do not inherit it.
    delete process.env[VARIABLE]
    return {
      ...(source && { vaultKey: readVaultKey(source) }),
      secretProviders: {
        ...(options.secretFiles && { file: fileSecrets(path.resolve(options.secretFiles)) }),
        ...(environment !== undefined && { env: environmentSecrets(environment) }),
        ...(options.kv && { kv: kvOf(options.kv, options.kvToken) }),
      },
    }
  } catch (error) {
    if (!(error instanceof SecretError)) throw error
    throw new CliError('Malformed', error.code, error.message)
  }
}

function madeOnce(file: string): string {
  if (!fs.existsSync(file)) {
    fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
    fs.writeFileSync(file, `${newVaultKey()}\n`, { mode: 0o600, flag: 'wx' })
  }
  return file
}

function kvOf(url: string, token: string | undefined) {
  const [, kind, where = ''] = /^(file|env):(.+)$/s.exec(token ?? '') ?? []
  if (!URL.canParse(url)) throw new CliError('Usage', 'Usage', `\`${url}\` is no URL`)
  if (kind === undefined)
    throw new CliError('Usage', 'Usage', '`--kv` needs `--kv-token`: file:PATH or env:NAME')
  const read = () => {
    const text = kind === 'file' ? fs.readFileSync(where, 'utf8').trim() : process.env[where]
    if (!text) throw new CliError('Malformed', 'SecretSource', `there is no token in \`${where}\``)
    return text
  }
  read()
  return kvSecrets({ url, token: read, fetch, timeoutMs: KV_MS })
}
