/** What the shape of a document cannot say of a secret that it names. */
import { isSecretName } from '@cardinal/secrets'
import { isOwnHeader, parseSlot } from '@cardinal/tools'

/** Which field is wrong, and why; undefined if neither is. */
export function wrongSecret(
  ref: string,
  slot: string | undefined,
): { readonly field: 'ref' | 'slot'; readonly message: string } | undefined {
  if (!isSecretName(ref.replaceAll('{key}', 'k')))
    return {
      field: 'ref',
      message: `\`${ref}\` is no name of a secret, as ledger-token or users/{key}/token`,
    }
  if (slot === undefined) return undefined
  const parsed = parseSlot(slot)
  if (!parsed)
    return { field: 'slot', message: `\`${slot}\` is no slot: header.NAME, query.NAME or body.NAME` }
  if (parsed.part === 'header' && isOwnHeader(parsed.name))
    return { field: 'slot', message: 'only the executor sets this header' }
  return undefined
}
