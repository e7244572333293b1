/** Files that hold tokens. */
import fs from 'node:fs'
import { CliError } from './errors.ts'

export function readFile(file: string): Buffer {
  if (file !== '-' && !fs.existsSync(file))
    throw new CliError('NotFound', 'NoSuchFile', `\`${file}\` does not exist`)
  if (file !== '-' && fs.statSync(file).isDirectory())
    throw new CliError('NotFound', 'NoSuchFile', `\`${file}\` is no file`)
  return fs.readFileSync(file === '-' ? 0 : file)
}

/** A token is a megabyte at most, and a third more as text. */
const MAX_FILE_BYTES = 2 << 20

/** A token as bytes, or as the base64 in which tokens are passed on. */
export function tokenIn(file: string): Uint8Array {
  const bytes = readFile(file)
  if (bytes.length > MAX_FILE_BYTES)
    throw new CliError('Malformed', 'BadToken', `\`${file}\` has ${bytes.length} bytes: that is no token`)
  const text = bytes.toString('latin1').trim()
  return /^[A-Za-z0-9+/_-]{16,}=*$/.test(text) ? Buffer.from(text, 'base64url') : bytes
}
