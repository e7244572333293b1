/** A folder of manifests and programs, read and bundled for `apply`. */
import fs from 'node:fs'
import path from 'node:path'
import { findComponents, findPrograms } from '@cardinal/manifests'
import { bundleProgram, type Program } from '@cardinal/sdk/bundle'
import { CliError } from './errors.ts'

export interface Project {
  readonly documents: { file: string; text: string }[]
  readonly programs: Record<string, Program>
  /** Base64. */
  readonly components: Record<string, string>
}

/** Reads a manifest, or all manifests of a folder. Notes in `files` what it read, also where it fails: what `dev` watches. */
export async function readProject(at: string, files: Set<string> = new Set()): Promise<Project> {
  const found = manifestFiles(at)
  const documents = found.map((file) => ({
    file: path.relative(process.cwd(), file) || file,
    text: fs.readFileSync(file, 'utf8'),
  }))
  const programs: Record<string, Program> = {}
  const components: Record<string, string> = {}
  for (const file of found) files.add(path.resolve(file))
  for (const [i, document] of documents.entries())
    for (const { name, component } of findComponents(document.text)) {
      const local = path.resolve(path.dirname(found[i] as string), component)
      files.add(local)
      const what = `${document.file}: the component \`${component}\` of \`${name}\``
      components[name] = readInitial(local, what).toString('base64')
    }
  for (const [i, document] of documents.entries()) {
    for (const { agent, program, files: initial } of findPrograms(document.text)) {
      const file = path.resolve(path.dirname(found[i] as string), program)
      if (!fs.existsSync(file))
        throw new CliError(
          'Malformed',
          'BadProgram',
          `${document.file}: the program \`${program}\` of \`${agent}\` does not exist`,
        )
      files.add(file)
      if (file.endsWith('.wasm')) {
        const what = `${document.file}: the program \`${program}\` of \`${agent}\``
        if (initial.length > 0)
          throw new CliError('Malformed', 'BadProgram', `${what} has no home that \`files\` could lie in`)
        programs[agent] = { wasm: readInitial(file, what).toString('base64') }
        continue
      }
      const given = initial.map(([at, name]) => {
        const local = path.resolve(path.dirname(found[i] as string), name)
        files.add(local)
        return [at, readInitial(local, `${document.file}: the file \`${name}\` of \`${agent}\``)] as const
      })
      const { files: read, ...bundle } = await bundleProgram(file, given)
      for (const one of read) files.add(one)
      programs[agent] = bundle
    }
  }
  return { documents, programs, components }
}

function readInitial(file: string, what: string): Buffer {
  try {
    return fs.readFileSync(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new CliError('Malformed', 'BadProgram', `${what} cannot be read: ${code}`)
  }
}

function manifestFiles(at: string): string[] {
  const root = path.resolve(at)
  if (!fs.existsSync(root)) throw new CliError('NotFound', 'NoSuchFile', `\`${at}\` does not exist`)
  if (fs.statSync(root).isFile()) return [root]
  const files = fs
    .readdirSync(root)
    .filter((name) => /\.ya?ml$/.test(name))
    .map((name) => path.join(root, name))
    .filter((file) => /^["']?apiVersion["']?\s*:\s*["']?cardinal\//m.test(fs.readFileSync(file, 'utf8')))
    .sort()
  if (files.length === 0)
    throw new CliError('NotFound', 'NoManifest', `no manifest in \`${at}\`; \`cardinal init\` makes one`)
  return files
}
