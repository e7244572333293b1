/** An agent that has a program work on files of its home. */
import fs from 'node:fs'
import { Agent, tool } from '@cardinal/sdk'

interface Copied {
  readonly code: number
  readonly files: Readonly<Record<string, string>>
}

export default class Converter extends Agent {
  static methods = { make: {}, copy: {}, read: {} }

  make({ path, base64 }: { path: string; base64: string }) {
    fs.writeFileSync(path, base64, 'base64')
  }
  async copy({ from, to }: { from: string; to: string }) {
    const doc = fs.readFileSync(from, 'base64')
    const { code, files } = (await tool('file.copy' as never, { doc } as never)) as Copied
    fs.writeFileSync(to, files['copy.bin'] ?? '', 'base64')
    return code
  }
  read({ path }: { path: string }) {
    return fs.readFileSync(path, 'base64')
  }
}
