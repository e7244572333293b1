/** The operator's own tools and middleware: TypeScript files that the node is started with. */
import path from 'node:path'
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
export async function ownCode<T>(
  files: readonly OwnFile[],
  what: string,
  make: (code: string) => T,
): Promise<ReadonlyMap<string, T>> {
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
      return [name, make(outputFiles[0]?.text ?? '')] as const
    } catch (error) {
      const [line] = (error as Error).message.split('\n').slice(1)
      throw new CliError(
        'Malformed',
        'BadOwnCode',
        `${what} \`${name}\`: ${line ?? (error as Error).message}`,
      )
    }
  })
  return new Map(await Promise.all(made))
}
