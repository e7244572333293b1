/**
 * The part of `crypto.subtle` that programs check signatures and name contents with: digests and
 * HMAC. Everything else throws `NotSupportedError`: keys that guard something belong to the host,
 * as secret handles.
 */
import { hmac } from '@noble/hashes/hmac.js'
import { sha1 } from '@noble/hashes/legacy.js'
import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js'

const HASHES = { 'SHA-1': sha1, 'SHA-256': sha256, 'SHA-384': sha384, 'SHA-512': sha512 } as const
type Name = keyof typeof HASHES
type Algorithm = string | { readonly name: string; readonly hash?: Algorithm }

interface HmacKey {
  readonly type: 'secret'
  readonly extractable: boolean
  readonly algorithm: {
    readonly name: 'HMAC'
    readonly hash: { readonly name: Name }
    readonly length: number
  }
  readonly usages: readonly string[]
}

const secrets = new WeakMap<object, Uint8Array>()

function no(what: string): never {
  throw new DOMException(`${what} is not supported; see docs/globals.md`, 'NotSupportedError')
}

function hashOf(algorithm: Algorithm | undefined): Name {
  const name = (typeof algorithm === 'object' ? algorithm.name : String(algorithm)).toUpperCase()
  return name in HASHES ? (name as Name) : no(`the hash \`${name}\``)
}

function bytesOf(data: ArrayBuffer | ArrayBufferView): Uint8Array {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice()
  if (data instanceof ArrayBuffer) return new Uint8Array(data.slice(0))
  throw new TypeError('bytes are an ArrayBuffer or a view of one')
}

function requireHmac(algorithm: Algorithm): void {
  const name = typeof algorithm === 'object' ? algorithm.name : algorithm
  if (String(name).toUpperCase() !== 'HMAC') no(`\`${String(name)}\``)
}

function tag(key: HmacKey, data: ArrayBuffer | ArrayBufferView, usage: string): Uint8Array {
  const secret = secrets.get(key)
  if (!secret || !key.usages.includes(usage))
    throw new DOMException(`the key is not one to ${usage} with`, 'InvalidAccessError')
  return hmac(HASHES[key.algorithm.hash.name], secret, bytesOf(data))
}

async function digest(algorithm: Algorithm, data: ArrayBuffer | ArrayBufferView): Promise<ArrayBuffer> {
  return HASHES[hashOf(algorithm)](bytesOf(data)).buffer as ArrayBuffer
}

async function importKey(
  format: string,
  data: ArrayBuffer | ArrayBufferView,
  algorithm: Algorithm,
  extractable: boolean,
  usages: readonly string[],
): Promise<HmacKey> {
  if (format !== 'raw') no(`the key format \`${format}\``)
  requireHmac(algorithm)
  const secret = bytesOf(data)
  const hash = { name: hashOf(typeof algorithm === 'object' ? algorithm.hash : undefined) }
  const key: HmacKey = Object.freeze({
    type: 'secret',
    extractable,
    algorithm: Object.freeze({ name: 'HMAC', hash, length: secret.length * 8 }),
    usages: Object.freeze([...usages]),
  })
  secrets.set(key, secret)
  return key
}

async function sign(
  algorithm: Algorithm,
  key: HmacKey,
  data: ArrayBuffer | ArrayBufferView,
): Promise<ArrayBuffer> {
  requireHmac(algorithm)
  return tag(key, data, 'sign').buffer as ArrayBuffer
}

async function verify(
  algorithm: Algorithm,
  key: HmacKey,
  signature: ArrayBuffer | ArrayBufferView,
  data: ArrayBuffer | ArrayBufferView,
): Promise<boolean> {
  requireHmac(algorithm)
  const [right, given] = [tag(key, data, 'verify'), bytesOf(signature)]
  let differs = right.length ^ given.length
  for (const [i, byte] of right.entries()) differs |= byte ^ (given[i] ?? 0)
  return differs === 0
}

const missing = Object.fromEntries(
  ['encrypt', 'decrypt', 'generateKey', 'deriveKey', 'deriveBits', 'exportKey', 'wrapKey', 'unwrapKey'].map(
    (name) => [name, async () => no(`\`crypto.subtle.${name}\``)],
  ),
)

export const subtle = Object.freeze({ ...missing, digest, importKey, sign, verify })
