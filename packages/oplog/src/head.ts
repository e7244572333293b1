/**
 * The head: the last signed commit, kept beside the log and at an anchor outside the data folder.
 *
 * It is written after the commit it names is durable, so a log that ends before it was cut or put
 * back. Written lazily: it may lag behind the log, never run ahead of it.
 */
import { type KeyObject, sign, verify } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { LogError } from './errors.ts'
import { writeFileDurably } from './files.ts'
import { offsetOf, type Pos, segmentName, segmentOf } from './format.ts'

const VERSION = 1

export interface Head {
  /** Where the log ended: just behind its last commit. */
  readonly end: Pos
  readonly commit: string
}

export function headText(head: Head, node: string, key: KeyObject): string {
  const body = JSON.stringify({ version: VERSION, node, ...head })
  return `${body}\n${sign(null, Buffer.from(body), key).toString('hex')}\n`
}

export function readHead(file: string, node: string, publicKey: KeyObject): Head | undefined {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  const [body = '', signature = ''] = text.split('\n')
  const bad = new LogError('Corrupt', 'LogCorrupt', 'the head does not check', {
    file: path.basename(file),
    offset: 0,
  })
  if (
    !/^[0-9a-f]{128}$/.test(signature) ||
    !verify(null, Buffer.from(body), publicKey, Buffer.from(signature, 'hex'))
  )
    throw bad
  const parsed = JSON.parse(body) as { version: number; node: string; end: Pos; commit: string }
  if (parsed.version !== VERSION || parsed.node !== node) throw bad
  return { end: parsed.end, commit: parsed.commit }
}

export function writeHead(file: string, text: string): void {
  fs.mkdirSync(path.dirname(file), { recursive: true })
  writeFileDurably(file, text, 0o600)
}

/** Refuses a log that ends before a head that was once written, or that holds something else there. */
export function checkHead(
  head: Head,
  end: Pos,
  commitAt: (end: Pos) => string | undefined,
  where: string,
): void {
  const place = `\`${segmentName(segmentOf(head.end))}\` byte ${offsetOf(head.end)}`
  if (end < head.end) {
    throw new LogError(
      'Corrupt',
      'LogShort',
      `the log ends at position ${end}, before ${head.end} (${place}) that ${where} names: ` +
        'the folder was put back, or its end was lost; an operator may accept the loss with ' +
        `\`--accept-loss ${end}\``,
    )
  }
  if (commitAt(head.end) === head.commit) return
  throw new LogError(
    'Corrupt',
    'LogCorrupt',
    `the commit that ends at ${place} is not the one that ${where} names`,
  )
}
