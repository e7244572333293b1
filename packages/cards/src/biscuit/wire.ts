/**
 * The outer form of a Biscuit: signed blocks in Protocol Buffers, read strictly.
 *
 * Source: https://doc.biscuitsec.org/reference/specifications.html and `schema.proto` of the reference.
 * Bytes that no writer would make (unknown or repeated fields, overlong numbers) are refused: what two
 * readers could read differently is no token.
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

export type Algorithm = 'ed25519' | 'p256'

export interface PublicKeyBytes {
  readonly algorithm: Algorithm
  readonly key: Uint8Array
}

export interface SignedBlock {
  readonly block: Uint8Array
  readonly nextKey: PublicKeyBytes
  readonly signature: Uint8Array
  readonly external: { readonly signature: Uint8Array; readonly publicKey: PublicKeyBytes } | undefined
  /** Of the signature's payload; left out is 0. */
  readonly version: number | undefined
}

export interface TokenBytes {
  readonly rootKeyId: number | undefined
  /** The authority block, and those appended to it. */
  readonly blocks: readonly SignedBlock[]
  readonly proof: { readonly nextSecret: Uint8Array } | { readonly finalSignature: Uint8Array }
}

/** Bytes that are no Biscuit, or one whose signatures do not hold. */
export class TokenError extends Error {
  readonly class = 'Malformed'
  readonly code: 'BadToken' | 'BadSignature'

  constructor(code: 'BadToken' | 'BadSignature', message: string) {
    super(message)
    this.name = 'Malformed'
    this.code = code
  }
}

export function badToken(message: string): TokenError {
  return new TokenError('BadToken', message)
}

const MAX_TOKEN_BYTES = 1 << 20
const MAX_BLOCKS = 1024
const ALGORITHMS: readonly Algorithm[] = ['ed25519', 'p256']

type Fields = Map<number, (Uint8Array | number)[]>

/** The fields of a message by number; only numbers of 32 bits and bytes occur in the outer form. */
function readFields(bytes: Uint8Array, what: string): Fields {
  const reader = new BinaryReader(bytes)
  const fields: Fields = new Map()
  try {
    while (reader.pos < reader.len) {
      const [number, type] = reader.tag()
      if (type !== WireType.Varint && type !== WireType.LengthDelimited)
        throw badToken(`field ${number} of ${what} has another form`)
      const value = type === WireType.Varint ? reader.uint32() : reader.bytes()
      fields.set(number, [...(fields.get(number) ?? []), value])
    }
  } catch (error) {
    throw error instanceof TokenError
      ? error
      : badToken(`${what} does not parse: ${(error as Error).message}`)
  }
  return fields
}

function bytesOf(fields: Fields, number: number, what: string): Uint8Array {
  const [value, ...more] = fields.get(number) ?? []
  if (!(value instanceof Uint8Array) || more.length > 0) throw badToken(`${what} is missing or repeated`)
  return value
}

function numberOf(fields: Fields, number: number, what: string): number | undefined {
  const [value, ...more] = fields.get(number) ?? []
  if (value === undefined) return undefined
  if (typeof value !== 'number' || more.length > 0) throw badToken(`${what} is no number`)
  return value
}

function decodeKey(bytes: Uint8Array): PublicKeyBytes {
  const fields = readFields(bytes, 'a public key')
  const algorithm = ALGORITHMS[numberOf(fields, 1, 'an algorithm') ?? -1]
  if (!algorithm) throw badToken('a key has an unknown algorithm')
  return { algorithm, key: bytesOf(fields, 2, 'a key') }
}

function decodeBlock(bytes: Uint8Array): SignedBlock {
  const fields = readFields(bytes, 'a signed block')
  const external = fields.has(4) ? readFields(bytesOf(fields, 4, 'an external signature'), 'one') : undefined
  return {
    block: bytesOf(fields, 1, 'a block'),
    nextKey: decodeKey(bytesOf(fields, 2, 'a next key')),
    signature: bytesOf(fields, 3, 'a signature'),
    external: external && {
      signature: bytesOf(external, 1, 'an external signature'),
      publicKey: decodeKey(bytesOf(external, 2, 'an external key')),
    },
    version: numberOf(fields, 5, 'a version'),
  }
}

/** Reads a token. Throws `BadToken`; nothing is verified yet. */
export function decodeToken(bytes: Uint8Array): TokenBytes {
  if (bytes.length > MAX_TOKEN_BYTES)
    throw badToken(`${bytes.length} bytes; a token has at most ${MAX_TOKEN_BYTES}`)
  const fields = readFields(bytes, 'the token')
  const appended = fields.get(3) ?? []
  if (appended.length >= MAX_BLOCKS) throw badToken(`${appended.length + 1} blocks; at most ${MAX_BLOCKS}`)
  const blocks = [bytesOf(fields, 2, 'the authority block'), ...appended].map((block) => {
    if (!(block instanceof Uint8Array)) throw badToken('a block is no message')
    return decodeBlock(block)
  })
  const proof = readFields(bytesOf(fields, 4, 'the proof'), 'the proof')
  const token: TokenBytes = {
    rootKeyId: numberOf(fields, 1, 'the id of the root key'),
    blocks,
    proof: proof.has(1)
      ? { nextSecret: bytesOf(proof, 1, 'the next secret') }
      : { finalSignature: bytesOf(proof, 2, 'the final signature') },
  }
  if (!Buffer.from(encodeToken(token)).equals(bytes)) throw badToken('the bytes are not in canonical form')
  return token
}

const CONTEXT = 2

/** What a block says of itself. Its checks are not read. */
export function contextOfBlock(block: Uint8Array): string | undefined {
  const reader = new BinaryReader(block)
  try {
    while (reader.pos < reader.len) {
      const [number, type] = reader.tag()
      if (number === CONTEXT && type === WireType.LengthDelimited) return reader.string()
      reader.skip(type)
    }
  } catch (error) {
    throw badToken(`a block does not parse: ${(error as Error).message}`)
  }
  return undefined
}

function encodeKey({ algorithm, key }: PublicKeyBytes): Uint8Array {
  const writer = new BinaryWriter().tag(1, WireType.Varint).uint32(ALGORITHMS.indexOf(algorithm))
  return writer.tag(2, WireType.LengthDelimited).bytes(key).finish()
}

function encodeBlock({ block, nextKey, signature, external, version }: SignedBlock): Uint8Array {
  const writer = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(block)
  writer.tag(2, WireType.LengthDelimited).bytes(encodeKey(nextKey))
  writer.tag(3, WireType.LengthDelimited).bytes(signature)
  if (external) {
    const inner = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(external.signature)
    inner.tag(2, WireType.LengthDelimited).bytes(encodeKey(external.publicKey))
    writer.tag(4, WireType.LengthDelimited).bytes(inner.finish())
  }
  if (version !== undefined) writer.tag(5, WireType.Varint).uint32(version)
  return writer.finish()
}

export function encodeToken({ rootKeyId, blocks, proof }: TokenBytes): Uint8Array {
  const writer = new BinaryWriter()
  if (rootKeyId !== undefined) writer.tag(1, WireType.Varint).uint32(rootKeyId)
  blocks.forEach((block, i) => {
    writer.tag(i === 0 ? 2 : 3, WireType.LengthDelimited).bytes(encodeBlock(block))
  })
  const [number, bytes] = 'nextSecret' in proof ? [1, proof.nextSecret] : [2, proof.finalSignature]
  const inner = new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes)
  return writer.tag(4, WireType.LengthDelimited).bytes(inner.finish()).finish()
}
