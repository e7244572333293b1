/** Keys and signatures of tokens, by `node:crypto`: Ed25519, and ECDSA over P-256 with SHA-256. */
import {
  createECDH,
  createPrivateKey,
  createPublicKey,
  ECDH,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto'
import { type Algorithm, badToken, type PublicKeyBytes } from './wire.ts'

export interface KeyPair {
  readonly public: PublicKeyBytes
  readonly secret: KeyObject
}

const CURVE = 'prime256v1'
/** A private key of 32 bytes, as PKCS #8 wraps it. */
const ED25519_PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')

/**
 * Points of small order on Curve25519, with the sign bit cleared, and their encodings beyond the field:
 * with one of these as key or first half, a signature holds for more than its message.
 */
const SMALL_ORDER = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
])

function isSmallOrder(point: Uint8Array): boolean {
  const bytes = Buffer.from(point)
  bytes[31] = (bytes[31] as number) & 0x7f
  return SMALL_ORDER.has(bytes.toString('hex'))
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}

function importPublic({ algorithm, key }: PublicKeyBytes): KeyObject {
  try {
    if (algorithm === 'ed25519') {
      if (key.length !== 32) throw badToken(`a key of ${key.length} bytes`)
      return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: base64(key) }, format: 'jwk' })
    }
    const point = ECDH.convertKey(key, CURVE, undefined, undefined, 'uncompressed') as Buffer
    const [x, y] = [base64(point.subarray(1, 33)), base64(point.subarray(33))]
    return createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y }, format: 'jwk' })
  } catch (error) {
    throw badToken(`a public key is none: ${(error as Error).message}`)
  }
}

/** Whether the signature holds. A key that is none is `BadToken`. */
export function isSigned(by: PublicKeyBytes, data: Uint8Array, signature: Uint8Array): boolean {
  const key = importPublic(by)
  if (by.algorithm === 'p256') return verify('sha256', data, { key, dsaEncoding: 'der' }, signature)
  if (signature.length !== 64 || isSmallOrder(by.key) || isSmallOrder(signature.subarray(0, 32))) return false
  return verify(null, data, key, signature)
}

export function signWith({ public: { algorithm }, secret }: KeyPair, data: Uint8Array): Buffer {
  return algorithm === 'p256'
    ? sign('sha256', data, { key: secret, dsaEncoding: 'der' })
    : sign(null, data, secret)
}

export function generateKeys(algorithm: Algorithm): KeyPair {
  const { privateKey } =
    algorithm === 'ed25519'
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('ec', { namedCurve: CURVE })
  return { public: publicOf(privateKey), secret: privateKey }
}

function publicOf(secret: KeyObject): PublicKeyBytes {
  const { x = '', y = '', kty } = createPublicKey(secret).export({ format: 'jwk' })
  const [left, right] = [Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]
  if (kty === 'OKP') return { algorithm: 'ed25519', key: left }
  // SEC 1, compressed: the parity of y, and x.
  return { algorithm: 'p256', key: Buffer.concat([Buffer.from([2 + ((right.at(-1) as number) & 1)]), left]) }
}

/** The keys of 32 secret bytes. */
export function keysOfSecret(algorithm: Algorithm, secret: Uint8Array): KeyPair {
  if (secret.length !== 32) throw badToken(`a secret of ${secret.length} bytes`)
  try {
    if (algorithm === 'ed25519') {
      const key = createPrivateKey({
        key: Buffer.concat([ED25519_PKCS8, secret]),
        format: 'der',
        type: 'pkcs8',
      })
      return { public: publicOf(key), secret: key }
    }
    const ecdh = createECDH(CURVE)
    ecdh.setPrivateKey(secret)
    const point = ecdh.getPublicKey()
    const [x, y] = [base64(point.subarray(1, 33)), base64(point.subarray(33))]
    const key = createPrivateKey({ key: { kty: 'EC', crv: 'P-256', x, y, d: base64(secret) }, format: 'jwk' })
    return { public: publicOf(key), secret: key }
  } catch (error) {
    throw badToken(`a secret is none: ${(error as Error).message}`)
  }
}

/** The 32 secret bytes of a key. */
export function secretBytes({ secret }: KeyPair): Buffer {
  return Buffer.from(secret.export({ format: 'jwk' }).d as string, 'base64url')
}
