/** The format page: the first 4,096 bytes of a segment, text that says what the rest is. */
import { type KeyObject, sign, verify } from 'node:crypto'
import { corrupt, LogError } from './errors.ts'
import { FORMAT_VERSION, PAGE_BYTES } from './format.ts'

const TITLE = 'CARDINAL OPLOG'

export interface Page {
  readonly version: number
  readonly node: string
  readonly segment: number
  /** Hash of the last commit of the segment before; zeros for the first. */
  readonly prevCommit: string
  readonly created: string
  readonly algorithm: 'ed25519'
  readonly publicKey: string
}

export function encodePage(page: Page, key: KeyObject): Buffer {
  const text = JSON.stringify(page)
  const signature = sign(null, Buffer.from(text), key).toString('hex')
  const out = Buffer.alloc(PAGE_BYTES, ' ')
  out.write(`${TITLE} ${page.version}\n${text}\n${signature}\n`)
  out[PAGE_BYTES - 1] = 0x0a
  return out
}

/** Parses and checks a page: its text, its signature and its padding. */
export function decodePage(bytes: Buffer, file: string, publicKey: KeyObject): Page {
  const text = bytes.subarray(0, PAGE_BYTES).toString('latin1')
  const [title = '', json = '', signature = '', padding = '', rest] = text.split('\n')
  if (!title.startsWith(`${TITLE} `)) throw corrupt(file, 0, 'this is no segment of a Cardinal log')
  const version = title.slice(TITLE.length + 1)
  if (version !== String(FORMAT_VERSION)) {
    if (!/^\d+$/.test(version)) throw corrupt(file, TITLE.length, 'the format page is damaged')
    throw new LogError(
      'Malformed',
      'LogVersion',
      `\`${file}\` has log format ${version}; this build reads ${FORMAT_VERSION}`,
    )
  }
  const damaged = () => corrupt(file, title.length + 1, 'the format page does not check')
  if (bytes.length < PAGE_BYTES || rest !== '' || /[^ ]/.test(padding)) throw damaged()
  if (
    !/^[0-9a-f]{128}$/.test(signature) ||
    !verify(null, Buffer.from(json, 'latin1'), publicKey, Buffer.from(signature, 'hex'))
  ) {
    throw damaged()
  }
  return JSON.parse(json) as Page
}

/** The public key that a page claims, unchecked: to print it, or to verify without a pinned one. */
export function claimedKey(bytes: Buffer): string | undefined {
  return /"publicKey":"([0-9a-f]{64})"/.exec(bytes.subarray(0, PAGE_BYTES).toString('latin1'))?.[1]
}
