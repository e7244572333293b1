/**
 * A home as a file that leaves its node: what it holds, whose it was, what its agent had read, and the node's
 * signature over all of it.
 *
 *     "CARDHOM1" 8 · u32 length · header, JSON · signature 64 · database, SQLite
 *
 * The signature (Ed25519, by the key of the node's log) covers the header, which holds the database's SHA-256.
 */
import { createHash, type KeyObject, sign, verify } from 'node:crypto'
import fs from 'node:fs'
import { codec } from '@cardinal/cards'
import { publicKeyFromHex } from '@cardinal/oplog'
import { z } from 'zod'
import { KernelError } from './errors.ts'

type InfluenceData = ReturnType<typeof codec.encodeInfluence>

const MAGIC = 'CARDHOM1'
const SIGNATURE = 64
const MAX_HEADER = 1 << 20
const PIECE = 1 << 20

/** As rows of authority keep it; read by the same code, which refuses what is none. */
const influence = z.custom<InfluenceData>((given) => {
  try {
    codec.decodeInfluence(given as InfluenceData)
    return true
  } catch {
    return false
  }
}, 'is no flow with labels')
const header = z.strictObject({
  format: z.literal(1),
  node: z.string().regex(/^[0-9a-f]{64}$/),
  tenant: z.string(),
  address: z.string(),
  birth: z.string(),
  seq: z.int(),
  image: z.string(),
  exported: z.string(),
  sqlite: z.string(),
  bytes: z.int().min(0),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  influence,
  /** The same with what moves as it stood: for a node that does not know the cards behind it. */
  fixed: influence,
})

/** Whose home it was, at which entry of its history, and what that agent had read: its flow and labels. */
export type HomeHeader = z.infer<typeof header>

/** A file that is what its node signed. `at` is where its database begins. */
export interface CheckedHome {
  readonly header: HomeHeader
  readonly at: number
  /** The header and the signature as they stand in the file. */
  readonly signed: Buffer
}

function covered(text: Buffer): Buffer {
  return Buffer.concat([Buffer.from('cardinal.home.1\0'), text])
}

function bad(why: string): KernelError {
  return new KernelError('Malformed', 'BadHomeFile', why)
}

/** What stands before the database. */
export function encodeHomeHeader(about: HomeHeader, key: KeyObject): Buffer {
  const text = Buffer.from(JSON.stringify(about))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  return Buffer.concat([Buffer.from(MAGIC), length, text, sign(null, covered(text), key)])
}

export async function digestOf(
  file: string,
  from = 0,
): Promise<{ readonly sha256: string; readonly bytes: number }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const piece of fs.createReadStream(file, { start: from, highWaterMark: PIECE })) {
    hash.update(piece as Buffer)
    bytes += (piece as Buffer).length
  }
  return { sha256: hash.digest('hex'), bytes }
}

/**
 * Checks a whole file before anything of it is used. `nodeKey` is the key that must have signed it, as hex.
 * `BadHomeFile`: cut off, changed, or of another format. `WrongKey`: signed by another node.
 */
export async function checkHomeFile(file: string, nodeKey: string): Promise<CheckedHome> {
  const { header: about, text, signature, at, signed } = readHead(file)
  if (about.node !== nodeKey.toLowerCase())
    throw new KernelError(
      'Refused',
      'WrongKey',
      `the home was signed by node \`${about.node}\`; if that is a node to trust, name its key`,
    )
  if (!verify(null, covered(text), publicKeyFromHex(nodeKey), signature))
    throw new KernelError('Refused', 'BadSignature', 'the header is not what its node signed')
  const { sha256, bytes } = await digestOf(file, at)
  if (bytes !== about.bytes || sha256 !== about.sha256)
    throw new KernelError(
      'Refused',
      'BadSignature',
      'the database is not what its node signed, or it is cut off',
    )
  return { header: about, at, signed }
}

/** What stands before the database can be so long. */
export const MAX_HEADER_BYTES = MAGIC.length + 4 + MAX_HEADER + SIGNATURE

interface Head {
  readonly header: HomeHeader
  readonly text: Buffer
  readonly signature: Buffer
  readonly at: number
  readonly signed: Buffer
}

/** The header of a file that begins with these bytes, not checked yet; undefined: more are needed. */
export function readHomeHeader(bytes: Buffer): Head | undefined {
  const start = MAGIC.length + 4
  if (bytes.length < start) return undefined
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) throw bad('this is no exported home')
  const length = bytes.readUInt32LE(MAGIC.length)
  if (length > MAX_HEADER) throw bad('its header is too long')
  const at = start + length + SIGNATURE
  if (bytes.length < at) return undefined
  const text = bytes.subarray(start, start + length)
  const signature = bytes.subarray(start + length, at)
  return { header: parseHeader(text), text, signature, at, signed: bytes.subarray(0, at) }
}

function readHead(file: string): Head {
  const fd = fs.openSync(file, 'r')
  try {
    const bytes = Buffer.alloc(MAX_HEADER_BYTES)
    const found = readHomeHeader(bytes.subarray(0, fs.readSync(fd, bytes, 0, bytes.length, 0)))
    if (!found) throw bad('the file is cut off, or no exported home')
    return found
  } finally {
    fs.closeSync(fd)
  }
}

function parseHeader(text: Buffer): HomeHeader {
  let given: unknown
  try {
    given = JSON.parse(text.toString())
  } catch {
    throw bad('its header is no JSON')
  }
  const parsed = header.safeParse(given)
  if (!parsed.success)
    throw bad(`its header: \`${parsed.error.issues[0]?.path.join('.')}\`: ${parsed.error.issues[0]?.message}`)
  return parsed.data
}
