/**
 * What is saved of an agent: its state and its memory at one entry, encrypted under its own key.
 *
 * Small ones are one value: version 7, iv, tag, then sealed: u32 length of the state, state, memory. Memory of more
 * than a few megabytes lies in a file of its own (`memory-files`), and the value, version 8, says of which pieces.
 * The state is raw DEFLATE with `STATE_WORDS` before it; of versions 5 and 6 it is plain.
 */
import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { FoundHome } from '@cardinal/engine'
import type { PayloadKey, Pos, Seq, Tip } from '@cardinal/oplog'
import type { MemoryFile, MemoryFiles } from './memory-files.ts'
import type { SnapshotRow } from './saves.ts'
import { type AgentState, decodeState } from './state.ts'

const WHOLE = 7
const IN_A_FILE = 8
/** The same with a state that is plain: of earlier builds, and where it is so large that others would wait for it. */
const WHOLE_PLAIN = 5
const IN_A_FILE_PLAIN = 6
const PLAIN: readonly number[] = [WHOLE_PLAIN, IN_A_FILE_PLAIN]
const MOST_PACKED = 64 << 10
/** What stands in every state. Of these versions for good: whoever changes a byte of it makes a new version. */
const STATE_WORDS = Buffer.from(
  '"effects":[],"inputs":[],"waits":[],"deadline":,"method":"","class":"","verdict":"allow","args":,"principal":"","inv_{"birth":{"tenant":"acme","type":"","key":"","generation":1,"image":"","slot":},"pending":[],"invocations":[],"ending":[],"effects":[],"holding":{"births":["card_"],"handles":["card_"],"held":["card_"],"influence":{"sinks":["*"],"moving":[[{"sinks":[]},{"sinks":["*"],"roots":[""]}]],"labels":["untrusted"]}},"served":[],"children":[],"spawned":0,"timeMs":17,"turns":1,"stopped":false,"held":false,"wiping":false}',
)
/** Memory of more bytes lies in a file. */
const LARGE = 8 << 20
const IV = 12
const TAG = 16

export type Saved = Pick<SnapshotRow, 'seq' | 'hash' | 'bytes'> | FoundHome
type At = { readonly seq: number; readonly hash: Buffer }

export interface Opened {
  readonly state: AgentState
  readonly memory: Buffer
  /** The file that memory lies in. */
  readonly file: string | undefined
}

/** A save, and the file that its memory lies in. */
export interface Sealed {
  readonly bytes: Buffer
  readonly file: string | undefined
}

/** Whether this build knows the version of it. */
export function isKnown({ bytes }: Saved): boolean {
  const version = bytes[0] as number
  return version === WHOLE || version === IN_A_FILE || PLAIN.includes(version)
}

/** `encoded` is the state at `tip`, with which memory was saved. What lies in a file is durable when this resolves. */
export async function sealSnapshot(
  files: MemoryFiles,
  birth: Buffer,
  encoded: string,
  tip: Tip,
  memory: Buffer,
  key: PayloadKey,
): Promise<Sealed> {
  const plain = Buffer.from(encoded)
  const packs = plain.length <= MOST_PACKED
  const text = packs ? deflateRawSync(plain, { dictionary: STATE_WORDS }) : plain
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  if (memory.length <= LARGE)
    return { bytes: sealed(packs ? WHOLE : WHOLE_PLAIN, tip, key, [length, text, memory]), file: undefined }
  const file = await files.write(birth, tip, key, memory)
  const said = Buffer.from(JSON.stringify(file))
  return {
    bytes: sealed(packs ? IN_A_FILE : IN_A_FILE_PLAIN, tip, key, [length, text, said]),
    file: file.name,
  }
}

function sealed(version: number, tip: At, key: PayloadKey, parts: readonly Buffer[]): Buffer {
  const iv = randomBytes(IV)
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(key.key), iv)
  cipher.setAAD(aad(version, tip))
  const body = Buffer.concat([...parts.map((part) => cipher.update(part)), cipher.final()])
  return Buffer.concat([Buffer.of(version), iv, cipher.getAuthTag(), body])
}

function aad(version: number, { seq, hash }: At): Buffer {
  return Buffer.concat([Buffer.from(`cardinal.snapshot.${version}.${seq}.`), hash])
}

/** Undefined: not of this agent at this entry, or not as it was written. */
export async function openSnapshot(
  files: MemoryFiles,
  { seq, hash, bytes }: Saved,
  birth: Buffer,
  key: PayloadKey,
  pos: Pos,
): Promise<Opened | undefined> {
  const version = bytes[0] as number
  let clear: Buffer
  try {
    const opener = createDecipheriv('aes-256-gcm', createSecretKey(key.key), bytes.subarray(1, 1 + IV))
    opener.setAAD(aad(version, { seq, hash }))
    opener.setAuthTag(bytes.subarray(1 + IV, 1 + IV + TAG))
    clear = Buffer.concat([opener.update(bytes.subarray(1 + IV + TAG)), opener.final()])
  } catch {
    return undefined
  }
  const length = clear.readUInt32LE(0)
  const text = clear.subarray(4, 4 + length)
  const rest = clear.subarray(4 + length)
  const encoded = PLAIN.includes(version) ? text : inflateRawSync(text, { dictionary: STATE_WORDS })
  const said =
    version === IN_A_FILE || version === IN_A_FILE_PLAIN
      ? (JSON.parse(rest.toString()) as MemoryFile)
      : undefined
  const memory = said ? await files.read(birth, { seq, hash }, key, said) : rest
  if (!memory) return undefined
  const state = decodeState(encoded.toString(), { pos, seq: seq as Seq, hash })
  return { state, memory, file: said?.name }
}
