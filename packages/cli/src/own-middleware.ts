/** The operator's own middleware: TypeScript modules that the node is started with. */
import path from 'node:path'
import { ModuleHost, type OwnModule } from '@cardinal/middleware'
import { InvalidArgumentError } from 'commander'
import { build } from 'esbuild'
import { CliError } from './errors.ts'

export interface OwnFile {
  readonly name: string
  readonly file: string
}

/** `name=file`, one or more. */
export function ownFile(text: string, before: readonly OwnFile[] = []): OwnFile[] {
  const [, name, file] = /^([a-z0-9][a-z0-9-]*)=(.+)$/.exec(text) ?? []
  if (name === undefined || file === undefined)
    throw new InvalidArgumentError('NAME=FILE is needed, as guard=./guard.ts')
  return [...before, { name, file }]
}

/** Bundles each with what it imports: what changes on disk afterwards changes nothing. */
export async function ownModules(files: readonly OwnFile[]): Promise<ReadonlyMap<string, OwnModule>> {
  const made = files.map(async ({ name, file }) => {
    try {
      const { outputFiles } = await build({
        entryPoints: [path.resolve(file)],
        bundle: true,
        write: false,
        platform: 'node',
        format: 'cjs',
        target: 'node24',
        logLevel: 'silent',
      })
      return [name, new ModuleHost(outputFiles[0]?.text ?? '')] as const
    } catch (error) {
      const [line] = (error as Error).message.split('\n').slice(1)
      throw new CliError(
        'Malformed',
        'BadMiddleware',
        `middleware \`${name}\`: ${line ?? (error as Error).message}`,
      )
    }
  })
  return new Map(await Promise.all(made))
}
