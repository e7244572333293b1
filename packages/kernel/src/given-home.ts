/**
 * A home that is in an agent's log: its database in parts, and the entry by which the agent begins anew with it.
 */
import fs from 'node:fs'
import { codec, type Influence } from '@cardinal/cards'
import type { Pos } from '@cardinal/oplog'
import { z } from 'zod'
import type { Context } from './context.ts'
import { KernelError } from './errors.ts'
import { type CheckedHome, digestOf, type HomeHeader } from './home-file.ts'
import type { Identity } from './replay.ts'

/** A home that was checked, for the agent that begins anew with it. */
export interface HomeToTake extends CheckedHome {
  readonly influence: HomeHeader['influence']
  readonly database: string
}

export interface GivenHome {
  /** What the agent had read that wrote it, as it binds here. */
  readonly influence: ReturnType<typeof codec.encodeInfluence>
  /** The header and the signature of the file. */
  readonly signed: string
  readonly from: string
  readonly sha256: string
  /** Where the database is in the log: positions and hashes of entries, one a part. */
  readonly parts: readonly (readonly [pos: number, hash: string])[]
}

const PART = 1 << 20
export const PAUSE_PARTS = 16
const given: z.ZodType<GivenHome> = z.strictObject({
  influence: z.custom<GivenHome['influence']>((value) => typeof value === 'object' && value !== null),
  signed: z.string(),
  from: z.string(),
  sha256: z.string(),
  parts: z.array(z.tuple([z.int(), z.string()])),
})

/** A database that comes in, in pieces for the log. */
export function* partsOf(database: string): Generator<Buffer> {
  const fd = fs.openSync(database, 'r')
  try {
    for (;;) {
      const part = Buffer.alloc(PART)
      const length = fs.readSync(fd, part)
      if (length === 0) return
      yield part.subarray(0, length)
    }
  } finally {
    fs.closeSync(fd)
  }
}

export function encodeGiven(
  home: CheckedHome,
  influence: HomeHeader['influence'],
  parts: GivenHome['parts'],
): Buffer {
  const { header, signed } = home
  const { address: from, sha256 } = header
  return Buffer.from(
    JSON.stringify({ influence, signed: signed.toString('base64'), from, sha256, parts } satisfies GivenHome),
  )
}

/** What the entry says with which an agent begins anew. */
export function decodeGiven(payload: Buffer): GivenHome {
  return given.parse(JSON.parse(payload.toString()))
}

export function influenceGiven(payload: Buffer): Influence {
  return codec.decodeInfluence(decodeGiven(payload).influence)
}

/** Reads a database that was given out of the log, into a file; every byte is checked again. */
export async function readGiven(
  { log, homes }: Context,
  who: Identity,
  { parts, sha256 }: GivenHome,
): Promise<string> {
  const file = homes.spool()
  try {
    await writeParts(log, who, parts, file)
    // What is on the disk is what counts.
    if ((await digestOf(file)).sha256 !== sha256)
      throw new KernelError(
        'Corrupt',
        'LogCorrupt',
        `the parts of the home of \`${who.address}\` are not what was given`,
      )
    return file
  } catch (error) {
    fs.rmSync(file, { force: true })
    throw error
  }
}

async function writeParts(
  log: Context['log'],
  who: Identity,
  parts: GivenHome['parts'],
  file: string,
): Promise<void> {
  const pieces = async function* () {
    let taken = 0
    for (const [pos, entryHash] of parts) {
      const entry = log.read(pos as Pos)
      if (entry.hash.toString('hex') !== entryHash || !entry.header.agent.equals(who.birth))
        throw new KernelError(
          'Corrupt',
          'LogCorrupt',
          `the entry at position ${pos} is no part of the home of \`${who.address}\``,
        )
      const [part] = entry.payloads(() => who.key) as [Buffer]
      yield part
      if (++taken % PAUSE_PARTS === 0) await new Promise((resolve) => setImmediate(resolve))
    }
  }
  await fs.promises.writeFile(file, pieces())
}
