/**
 * The authority that the programs in sandboxes trust, and nobody else: it speaks for every host to them, so that
 * the door sees what it lets out. Made anew with each node's start, its key is in memory and nowhere else.
 */
// The library's own demand: it reads what its decorators wrote.
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import tls from 'node:tls'
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'
import { isLiteral } from './address.ts'

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const DAY_MS = 86_400_000
const AUTHORITY_DAYS = 3650
const LEAF_DAYS = 2
/** Hosts at a time: names come from programs that nobody trusts. */
const MAX_HOSTS = 256

interface Made {
  readonly context: tls.SecureContext
  readonly untilMs: number
}

export class EgressCa {
  readonly #keys: Promise<webcrypto.CryptoKeyPair>
  readonly #authority: Promise<X509Certificate>
  readonly #made = new Map<string, Promise<Made>>()

  constructor() {
    this.#keys = newKeys()
    this.#authority = this.#keys.then((keys) =>
      X509CertificateGenerator.createSelfSigned({
        name: 'CN=Cardinal egress',
        keys,
        signingAlgorithm: ALGORITHM,
        notBefore: new Date(Date.now() - DAY_MS),
        notAfter: new Date(Date.now() + AUTHORITY_DAYS * DAY_MS),
        extensions: [
          new BasicConstraintsExtension(true, 0, true),
          new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        ],
      }),
    )
  }

  /** What a program is told to trust. */
  async pem(): Promise<string> {
    return (await this.#authority).toString('pem')
  }

  /** What the door shows a program that wants to speak to `host`. */
  async contextFor(host: string): Promise<tls.SecureContext> {
    const known = await this.#made.get(host)
    if (known && known.untilMs > Date.now()) return known.context
    const making = this.#make(host)
    this.#made.delete(host)
    this.#made.set(host, making)
    const [oldest] = this.#made.keys()
    if (this.#made.size > MAX_HOSTS && oldest !== undefined) this.#made.delete(oldest)
    return (await making).context
  }

  async #make(host: string): Promise<Made> {
    const [authority, { privateKey }, keys] = await Promise.all([this.#authority, this.#keys, newKeys()])
    const untilMs = Date.now() + LEAF_DAYS * DAY_MS
    const leaf = await X509CertificateGenerator.create({
      subject: 'CN=Cardinal egress leaf',
      issuer: authority.subject,
      publicKey: keys.publicKey,
      signingKey: privateKey,
      signingAlgorithm: ALGORITHM,
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(untilMs),
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension([{ type: isLiteral(host) ? 'ip' : 'dns', value: host }]),
      ],
    })
    const key = PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY')
    const context = tls.createSecureContext({ key, cert: leaf.toString('pem') })
    return { context, untilMs: untilMs - DAY_MS }
  }
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']) as Promise<webcrypto.CryptoKeyPair>
}
