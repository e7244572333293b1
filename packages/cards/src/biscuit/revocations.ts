/**
 * The list of revoked ids that an offline verifier is given: signed by the key that signs exported
 * tokens, dated, and numbered by how far the node's record reached. An older list that is put in its
 * place is known by its number and its date (R17).
 *
 * As text: `# name value` lines, then one id a line. A list without a signature is anybody's, and its
 * age unknown.
 */
import { isSigned, type KeyPair, signWith } from './keys.ts'
import { badToken, type PublicKeyBytes, TokenError } from './wire.ts'

export interface RevocationList {
  /** Everything on the node's record before this was known; undefined where the list is not signed. */
  readonly asOf: number | undefined
  readonly issuedMs: number | undefined
  readonly ids: ReadonlySet<string>
}

const FORMAT = 'cardinal revocations 1'

function signedBytes(asOf: number, issued: string, ids: readonly string[]): Buffer {
  return Buffer.from([FORMAT, String(asOf), issued, ...ids].join('\n'))
}

/** The list as text, to be kept beside the root's public key. */
export function signRevocations(
  keys: KeyPair,
  {
    asOf,
    issuedMs,
    ids,
  }: { readonly asOf: number; readonly issuedMs: number; readonly ids: readonly string[] },
): string {
  const issued = new Date(issuedMs).toISOString()
  const signature = signWith(keys, signedBytes(asOf, issued, ids)).toString('hex')
  const head = [`# ${FORMAT}`, `# as-of ${asOf}`, `# issued ${issued}`, `# signature ${signature}`]
  return `${[...head, ...ids].join('\n')}\n`
}

const HEX = /^[0-9a-f]+$/

/**
 * Reads a list. One that says that it is signed must be, by `root`: else `BadSignature`. A line that is
 * no id is `BadToken`.
 */
export function readRevocations(text: string, root: PublicKeyBytes): RevocationList {
  const lines = text.split('\n').map((line) => line.trim())
  const ids = lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.toLowerCase())
  const bad = ids.find((id) => !HEX.test(id))
  if (bad !== undefined) throw badToken(`\`${bad}\` is no revocation id`)
  if (!lines.some((line) => line.startsWith('# cardinal revocations')))
    return { asOf: undefined, issuedMs: undefined, ids: new Set(ids) }
  const said = (name: string) =>
    lines.find((line) => line.startsWith(`# ${name} `))?.slice(name.length + 3) ?? ''
  const [asOf, issued, signature] = [said('as-of'), said('issued'), said('signature')]
  const known = lines[0] === `# ${FORMAT}` && /^\d{1,15}$/.test(asOf) && HEX.test(signature)
  if (!known || Number.isNaN(Date.parse(issued)))
    throw badToken('the list of revocations is in no form that is known here')
  if (!isSigned(root, signedBytes(Number(asOf), issued, ids), Buffer.from(signature, 'hex')))
    throw new TokenError('BadSignature', 'the list of revocations is not signed by the root key')
  return { asOf: Number(asOf), issuedMs: Date.parse(issued), ids: new Set(ids) }
}
