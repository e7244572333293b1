/**
 * A chain of signed blocks: each is signed by the key that the one before it names, the first by the
 * root. So nobody can drop, exchange or reorder blocks, and whoever holds the last secret can append.
 * A sealed token ends with a signature instead of that secret: nobody can.
 */
import { generateKeys, isSigned, type KeyPair, keysOfSecret, secretBytes, signWith } from './keys.ts'
import {
  type Algorithm,
  badToken,
  decodeToken,
  encodeToken,
  type PublicKeyBytes,
  type SignedBlock,
  type TokenBytes,
  TokenError,
} from './wire.ts'

/** What is signed changed once: payloads of version 0 are bare, those of version 1 name their parts. */
type PayloadVersion = 0 | 1

const text = (label: string) => Buffer.from(label, 'latin1')

function numberLe(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function algorithmLe({ algorithm }: PublicKeyBytes): Buffer {
  return numberLe(algorithm === 'ed25519' ? 0 : 1)
}

type Signable = Omit<SignedBlock, 'signature'>

function payload(
  { block, nextKey, external, version = 0 }: Signable,
  previous: Uint8Array | undefined,
): Buffer {
  if (version === 0)
    return Buffer.concat([block, external?.signature ?? Buffer.alloc(0), algorithmLe(nextKey), nextKey.key])
  return Buffer.concat([
    text('\0BLOCK\0\0VERSION\0'),
    numberLe(version),
    text('\0PAYLOAD\0'),
    block,
    text('\0ALGORITHM\0'),
    algorithmLe(nextKey),
    text('\0NEXTKEY\0'),
    nextKey.key,
    ...(previous ? [text('\0PREVSIG\0'), previous] : []),
    ...(external ? [text('\0EXTERNALSIG\0'), external.signature] : []),
  ])
}

function externalPayload(block: Uint8Array, version: number, previous: Uint8Array): Buffer {
  return Buffer.concat([
    text('\0EXTERNAL\0\0VERSION\0'),
    numberLe(version),
    text('\0PAYLOAD\0'),
    block,
    text('\0PREVSIG\0'),
    previous,
  ])
}

function sealPayload({ block, nextKey, signature }: SignedBlock): Buffer {
  return Buffer.concat([block, algorithmLe(nextKey), nextKey.key, signature])
}

export interface VerifiedToken {
  readonly rootKeyId: number | undefined
  readonly blocks: readonly SignedBlock[]
  readonly sealed: boolean
  /** One a block: its signature, in hex. Whoever revokes a block revokes all that continue it. */
  readonly revocationIds: readonly string[]
}

/** Reads a token and verifies it whole. Throws `BadToken` or `BadSignature`. */
export function verifyToken(bytes: Uint8Array, root: PublicKeyBytes): VerifiedToken {
  const token = decodeToken(bytes)
  let by = root
  let previous: SignedBlock | undefined
  token.blocks.forEach((block, i) => {
    verifyBlock(block, by, previous, i)
    by = block.nextKey
    previous = block
  })
  verifyProof(token, by)
  return {
    rootKeyId: token.rootKeyId,
    blocks: token.blocks,
    sealed: 'finalSignature' in token.proof,
    revocationIds: token.blocks.map(({ signature }) => Buffer.from(signature).toString('hex')),
  }
}

function verifyBlock(
  block: SignedBlock,
  by: PublicKeyBytes,
  previous: SignedBlock | undefined,
  i: number,
): void {
  const { version = 0, external } = block
  if (version > 1) throw badToken(`block ${i} has an unknown version of signature`)
  if (external && !previous) throw badToken('the authority block has an external signature')
  if (external && version !== 1)
    throw badToken(`the external signature of block ${i} could be replayed elsewhere`)
  if (!isSigned(by, payload(block, previous?.signature), block.signature))
    throw new TokenError('BadSignature', `the signature of block ${i} does not hold`)
  if (external && previous) {
    const data = externalPayload(block.block, version, previous.signature)
    if (!isSigned(external.publicKey, data, external.signature))
      throw new TokenError('BadSignature', `the external signature of block ${i} does not hold`)
  }
}

function verifyProof({ proof, blocks }: TokenBytes, by: PublicKeyBytes): void {
  const last = blocks.at(-1) as SignedBlock
  const holds =
    'finalSignature' in proof
      ? isSigned(by, sealPayload(last), proof.finalSignature)
      : Buffer.from(keysOfSecret(by.algorithm, proof.nextSecret).public.key).equals(by.key)
  if (!holds) throw new TokenError('BadSignature', 'the end of the token does not hold')
}

/** A token that is being made: its blocks, and the keys of the next. Its bytes let anybody append. */
export interface OpenToken {
  readonly rootKeyId: number | undefined
  readonly blocks: readonly SignedBlock[]
  readonly next: KeyPair
}

function versionFor(signer: KeyPair, next: KeyPair, blocks: readonly SignedBlock[]): PayloadVersion {
  const plain = signer.public.algorithm === 'ed25519' && next.public.algorithm === 'ed25519'
  return plain && blocks.every((block) => (block.version ?? 0) === 0) ? 0 : 1
}

function extend(
  token: Omit<OpenToken, 'next'>,
  signer: KeyPair,
  block: Uint8Array,
  algorithm: Algorithm,
): OpenToken {
  const next = generateKeys(algorithm)
  const version = versionFor(signer, next, token.blocks)
  const signable: Signable = {
    block,
    nextKey: next.public,
    external: undefined,
    version: version === 0 ? undefined : version,
  }
  const signature = signWith(signer, payload(signable, token.blocks.at(-1)?.signature))
  return { ...token, blocks: [...token.blocks, { ...signable, signature }], next }
}

/** Begins a token with its authority block, signed by the root. */
export function beginToken(
  root: KeyPair,
  block: Uint8Array,
  options: { readonly rootKeyId?: number; readonly algorithm?: Algorithm } = {},
): OpenToken {
  return extend({ rootKeyId: options.rootKeyId, blocks: [] }, root, block, options.algorithm ?? 'ed25519')
}

export function appendBlock(
  token: OpenToken,
  block: Uint8Array,
  algorithm: Algorithm = 'ed25519',
): OpenToken {
  return extend(token, token.next, block, algorithm)
}

/** The bytes of a token that nobody can append to. */
export function sealToken({ rootKeyId, blocks, next }: OpenToken): Uint8Array {
  const finalSignature = signWith(next, sealPayload(blocks.at(-1) as SignedBlock))
  return encodeToken({ rootKeyId, blocks, proof: { finalSignature } })
}

/** The bytes of a token with the secret that lets whoever has them append. Never leaves the host. */
export function unsealedToken({ rootKeyId, blocks, next }: OpenToken): Uint8Array {
  return encodeToken({ rootKeyId, blocks, proof: { nextSecret: secretBytes(next) } })
}
