/** What a node says on a machine without bubblewrap: asked in a process that does not see it. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const SCRIPT = `
import fs from 'node:fs'
import { McpServers } from '@cardinal/tools'
const exists = fs.existsSync
fs.existsSync = (file) => !String(file).endsWith('/bwrap') && exists(file)
const servers = new McpServers({ door: undefined, packages: process.argv[1] })
servers.look('acme', { name: 'x', stdio: { package: 'hostile', command: ['node', 'index.mjs'] }, timeoutMs: 1000 }).catch((error) => console.log(error.code, error.message))
`

export async function sandboxed(packages: string): Promise<string> {
  const args = ['--input-type=module', '-e', SCRIPT, packages]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: import.meta.dirname })
  return stdout
}
