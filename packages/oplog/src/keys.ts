/**
 * The keys of a node: who signs, and what each agent's payloads are encrypted under.
 *
 * `node.key` holds the signing key and the master key. `slots` holds one 96-byte record a key: a
 * tenant's key wrapped by the master's, an agent's by its tenant's. This is truth and not derived:
 * destroying a record erases every payload under it, in every copy of the log.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { assert, LogError } from './errors.ts'
import { syncFolder, writeFileDurably } from './files.ts'
import { sha256 } from './format.ts'

const NODE_KEY = 'node.key'
const SLOTS = 'slots'
const RECORD = 96
const VERSION = 1
const WRAPPED = { iv: 12, tag: 16, key: 32 }
const STATE_KEY = 1
const STATE_DESTROYED = 2

export interface NodeKey {
  readonly node: string
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  /** Hex of the raw public key: what an auditor pins. */
  readonly publicHex: string
  readonly master: Buffer
}

/** A key that encrypts payloads, and the slot it is kept in. */
export interface PayloadKey {
  readonly slot: number
  readonly key: Buffer
}

const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

export function publicKeyFromHex(hex: string): KeyObject {
  if (!/^[0-9a-f]{64}$/i.test(hex)) {
    throw new LogError('Malformed', 'WrongKey', 'a public key is 64 hexadecimal digits')
  }
  return createPublicKey({
    key: Buffer.concat([SPKI_PREFIX, Buffer.from(hex, 'hex')]),
    format: 'der',
    type: 'spki',
  })
}

function publicHexOf(key: KeyObject): string {
  return (key.export({ format: 'der', type: 'spki' }) as Buffer).subarray(SPKI_PREFIX.length).toString('hex')
}

/** Reads the node's key, or makes it in an empty folder. It is written once and readable by its owner only. */
export function openNodeKey(folder: string): NodeKey {
  const file = path.join(folder, NODE_KEY)
  if (!fs.existsSync(file)) {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
    const { privateKey } = generateKeyPairSync('ed25519')
    const text = JSON.stringify({
      version: VERSION,
      node: randomBytes(16).toString('hex'),
      signing: privateKey.export({ format: 'pem', type: 'pkcs8' }),
      master: randomBytes(32).toString('hex'),
    })
    writeFileDurably(file, text, 0o600)
    syncFolder(path.dirname(folder))
  }
  return parseNodeKey(fs.readFileSync(file, 'utf8'), file)
}

function parseNodeKey(text: string, file: string): NodeKey {
  const bad = new LogError('Corrupt', 'WrongKey', `\`${file}\` is not a node key of this version`)
  let read: { version?: unknown; node?: unknown; signing?: unknown; master?: unknown }
  try {
    read = JSON.parse(text)
  } catch {
    throw bad
  }
  const { version, node, signing, master } = read
  if (
    version !== VERSION ||
    typeof node !== 'string' ||
    typeof signing !== 'string' ||
    typeof master !== 'string'
  )
    throw bad
  const privateKey = createPrivateKey(signing)
  const publicKey = createPublicKey(privateKey)
  return {
    node,
    privateKey,
    publicKey,
    publicHex: publicHexOf(publicKey),
    master: Buffer.from(master, 'hex'),
  }
}

/** A key for one purpose, derived from the master key; the master itself is used for nothing else. */
export function purposeKey(nodeKey: NodeKey, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', nodeKey.master, nodeKey.node, purpose, 32))
}

/** The wrapped keys of tenants and agents. Holds a file descriptor until `close`. */
export class KeySlots {
  readonly #fd: number
  readonly #wrapKey: Buffer
  #next: number
  /** Set when records were written that no sync has covered yet. */
  dirty = false

  constructor(folder: string, nodeKey: NodeKey) {
    const file = path.join(folder, SLOTS)
    const fresh = !fs.existsSync(file)
    this.#fd = fs.openSync(file, fresh ? 'wx+' : 'r+', 0o600)
    if (fresh) syncFolder(folder)
    this.#wrapKey = purposeKey(nodeKey, 'cardinal.wrap.1')
    this.#next = Math.ceil(fs.fstatSync(this.#fd).size / RECORD)
  }

  get path(): number {
    return this.#fd
  }

  /** Makes a key wrapped by `parent`, or by the master key. It counts once the log's next commit syncs it. */
  create(parent?: PayloadKey): PayloadKey {
    const slot = this.#next++
    const key = randomBytes(WRAPPED.key)
    const iv = randomBytes(WRAPPED.iv)
    const cipher = createCipheriv('aes-256-gcm', createSecretKey(parent?.key ?? this.#wrapKey), iv)
    cipher.setAAD(aad(slot))
    const sealed = Buffer.concat([cipher.update(key), cipher.final()])
    const record = Buffer.alloc(RECORD)
    record[0] = STATE_KEY
    record[1] = VERSION
    Buffer.concat([iv, cipher.getAuthTag(), sealed]).copy(record, 8)
    fs.writeSync(this.#fd, record, 0, RECORD, slot * RECORD)
    this.dirty = true
    return { slot, key }
  }

  /** Unwraps the key of a slot; `KeyDestroyed` if somebody destroyed it. */
  open(slot: number, parent?: PayloadKey): PayloadKey {
    const record = Buffer.alloc(RECORD)
    const n = fs.readSync(this.#fd, record, 0, RECORD, slot * RECORD)
    if (n === RECORD && record[0] === STATE_DESTROYED) {
      throw new LogError('Corrupt', 'KeyDestroyed', `key slot ${slot} was destroyed`)
    }
    // Made where it is thrown: an error costs more than opening a slot.
    const missing = () => new LogError('Corrupt', 'WrongKey', `key slot ${slot} does not open`)
    if (n !== RECORD || record[0] !== STATE_KEY || record[1] !== VERSION) throw missing()
    const iv = record.subarray(8, 20)
    const opener = createDecipheriv('aes-256-gcm', createSecretKey(parent?.key ?? this.#wrapKey), iv)
    opener.setAAD(aad(slot))
    opener.setAuthTag(record.subarray(20, 36))
    try {
      return { slot, key: Buffer.concat([opener.update(record.subarray(36, 68)), opener.final()]) }
    } catch {
      throw missing()
    }
  }

  /** Destroys a key for good: every payload under it is unreadable from then on, in every copy of the log. */
  destroy(slot: number): void {
    assert(slot >= 0 && slot < this.#next, 'a slot that exists is destroyed')
    const record = Buffer.alloc(RECORD)
    record[0] = STATE_DESTROYED
    record[1] = VERSION
    fs.writeSync(this.#fd, record, 0, RECORD, slot * RECORD)
    fs.fsyncSync(this.#fd)
  }

  sync(): void {
    fs.fdatasyncSync(this.#fd)
    this.dirty = false
  }

  close(): void {
    fs.closeSync(this.#fd)
  }
}

function aad(slot: number): Buffer {
  return Buffer.from(`cardinal.slot.${VERSION}.${slot}`)
}

const SALT_BYTES = 16

const BLOCK_BYTES = 64

/**
 * HMAC-SHA-256 (RFC 2104) for keys of at most 64 bytes, by two one-shot hashes: `createHmac` makes a
 * key object each time, and costs several times as much as a small message.
 */
export function hmacSha256(key: Buffer, bytes: Buffer): Buffer {
  assert(key.length <= BLOCK_BYTES, 'a key fits one block')
  const inner = Buffer.allocUnsafe(BLOCK_BYTES + bytes.length)
  const outer = Buffer.allocUnsafe(BLOCK_BYTES + 32)
  for (let i = 0; i < BLOCK_BYTES; i++) {
    const byte = key[i] ?? 0
    inner[i] = byte ^ 0x36
    outer[i] = byte ^ 0x5c
  }
  bytes.copy(inner, BLOCK_BYTES)
  sha256(inner).copy(outer, BLOCK_BYTES)
  return sha256(outer)
}

/** What an entry keeps of a payload: HMAC under the salt that lies encrypted beside it, so nobody can guess a small one. */
export function payloadDigest(salt: Buffer, bytes: Buffer): Buffer {
  return hmacSha256(salt, bytes)
}

/**
 * Encrypts salt and bytes in place in a payload frame's body. A key object for one use is made in a
 * microsecond; a cipher given raw bytes costs nine more.
 */
export function sealPayload(body: Buffer, key: Buffer, iv: Buffer): void {
  const content = body.subarray(68)
  iv.copy(body, 40)
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(key), iv)
  cipher.setAAD(body.subarray(0, 40))
  cipher.update(content).copy(content)
  cipher.final()
  cipher.getAuthTag().copy(body, 52)
}

/** Decrypts a payload and checks it against the digest that its entry holds. */
export function openPayload(...of: Parameters<typeof openSalted>): Buffer {
  return openSalted(...of).bytes
}

/** The same, with the salt that whoever has no key needs to check the bytes against their digest. */
export function openSalted(
  parts: { digest: Buffer; iv: Buffer; tag: Buffer; sealed: Buffer },
  header: Buffer,
  key: Buffer,
): { readonly salt: Buffer; readonly bytes: Buffer } {
  const opener = createDecipheriv('aes-256-gcm', createSecretKey(key), parts.iv)
  opener.setAAD(header)
  opener.setAuthTag(parts.tag)
  const clear = Buffer.concat([opener.update(parts.sealed), opener.final()])
  const [salt, bytes] = [clear.subarray(0, SALT_BYTES), clear.subarray(SALT_BYTES)]
  assert(payloadDigest(salt, bytes).equals(parts.digest), 'a payload answers to its digest')
  return { salt, bytes }
}
