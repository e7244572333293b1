/** Verifying a log with nothing but its folder and a public key. Reads only; needs no secret. */
import fs from 'node:fs'
import path from 'node:path'
import { LogError } from './errors.ts'
import { type Pos, segmentName } from './format.ts'
import { checkHead, readHead } from './head.ts'
import { publicKeyFromHex } from './keys.ts'
import { claimedKey } from './page.ts'
import { scanLog, segmentFiles } from './scan.ts'

export interface Verification {
  readonly ok: boolean
  readonly publicKey: string
  /** Whether the caller named the key. Without that, the log only proves that it is consistent. */
  readonly pinned: boolean
  readonly segments: number
  readonly commits: number
  readonly entries: number
  readonly agents: number
  readonly end: number
  readonly lastCommit: string
  readonly tornBytes: number
  /** How many signed heads were there to compare with. With none, nothing says whether the end is missing. */
  readonly heads: number
  readonly problem?: {
    readonly code: string
    readonly message: string
    readonly file?: string
    readonly offset?: number
  }
}

/**
 * Checks every frame, every agent's chain, every commit and signature, and the head.
 *
 * @example
 * const report = verifyLog('.cardinal/data', { publicKey: '5f3c…' })
 * if (!report.ok) console.error(report.problem?.message)
 */
export function verifyLog(
  dataFolder: string,
  options: { publicKey?: string; anchors?: readonly string[] } = {},
): Verification {
  const folder = path.join(dataFolder, 'log')
  const [first] = segmentFiles(folder)
  if (first === undefined) throw new LogError('Malformed', 'NoSuchEntry', `no log in \`${dataFolder}\``)
  const claimed = claimedKey(fs.readFileSync(path.join(folder, segmentName(first))))
  const publicKey = (options.publicKey ?? claimed ?? '').toLowerCase()
  const counts = {
    segments: 0,
    commits: 0,
    entries: 0,
    agents: 0,
    end: 0,
    lastCommit: '',
    tornBytes: 0,
    heads: 0,
  }
  const known = { publicKey, pinned: options.publicKey !== undefined }
  try {
    const key = publicKeyFromHex(publicKey)
    if (claimed !== undefined && claimed !== publicKey)
      throw new LogError(
        'Corrupt',
        'WrongKey',
        `the log says that it was signed by \`${claimed}\`, not by the key given`,
      )
    const scan = scanLog(folder, { publicKey: key, everySignature: true })
    Object.assign(counts, {
      ...pick(scan),
      lastCommit: scan.lastCommit.toString('hex'),
      tornBytes: scan.torn,
    })
    const node = nodeOf(folder, first)
    for (const file of [path.join(dataFolder, 'head'), ...(options.anchors ?? [])]) {
      const head = readHead(file, node, key)
      if (!head && options.anchors?.includes(file))
        throw new LogError('Malformed', 'NoSuchAnchor', `the anchor \`${file}\` does not exist`)
      if (!head) continue
      counts.heads++
      checkHead(head, scan.end as Pos, scan.commitAt, `\`${path.basename(file)}\``)
    }
    return { ok: true, ...known, ...counts }
  } catch (error) {
    if (!(error instanceof LogError)) throw error
    const at = error.at ? { file: error.at.file, offset: error.at.offset } : {}
    return { ok: false, ...known, ...counts, problem: { code: error.code, message: error.message, ...at } }
  }
}

function pick(scan: { segments: number; commits: number; entries: number; agents: number; end: number }) {
  const { segments, commits, entries, agents, end } = scan
  return { segments, commits, entries, agents, end }
}

function nodeOf(folder: string, segment: number): string {
  const text = fs.readFileSync(path.join(folder, segmentName(segment))).toString('latin1', 0, 4096)
  return /"node":"([0-9a-f]{32})"/.exec(text)?.[1] ?? ''
}
