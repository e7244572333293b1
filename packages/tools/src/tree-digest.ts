/** What a folder holds, as one digest: names, which of them can be run, links and bytes. */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'

/** `sha256-…` of everything below a folder, in one order on every machine. */
export async function treeDigest(folder: string): Promise<string> {
  const hash = createHash('sha256')
  await addFolder(folder, '', hash)
  return `sha256-${hash.digest('base64')}`
}

async function addFolder(root: string, at: string, hash: ReturnType<typeof createHash>): Promise<void> {
  const entries = await fs.promises.readdir(path.join(root, at), { withFileTypes: true })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const inside = path.posix.join(at, entry.name)
    const file = path.join(root, inside)
    const add = (kind: string, more: string | Buffer) =>
      hash.update(`${kind} ${Buffer.byteLength(inside)} ${inside} ${more.length} `).update(more)
    if (entry.isDirectory()) {
      add('folder', '')
      await addFolder(root, inside, hash)
    } else if (entry.isSymbolicLink()) add('link', await fs.promises.readlink(file))
    else if (entry.isFile()) {
      const runs = ((await fs.promises.stat(file)).mode & 0o111) !== 0
      add(runs ? 'program' : 'file', await fs.promises.readFile(file))
    } else throw new Error(`\`${inside}\` is neither file, folder nor link`)
  }
}
