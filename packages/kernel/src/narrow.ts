/** How a program says what a card of its own is narrowed to. */
import type { Narrow } from '@cardinal/cards'
import type { ToolSettings } from '@cardinal/tools'
import { z } from 'zod'

export const narrowArgs = z.strictObject({
  only: z.array(z.unknown()).optional(),
  now: z.array(z.unknown()).optional(),
  ever: z.array(z.unknown()).optional(),
  limits: z.unknown().optional(),
  clip: z.boolean().optional(),
})

/**
 * A narrowing as the rules take it: `only` means both bounds, and a grant names a secret by the handle that
 * the program has of it, which is nobody else's name for it.
 */
export function narrowOf(
  given: z.infer<typeof narrowArgs>,
  { secrets, key }: Pick<ToolSettings, 'secrets' | 'key'>,
): Narrow {
  const named = (grants: unknown[] | undefined) =>
    grants?.map((grant) => {
      const { secret } = (grant ?? {}) as { secret?: unknown }
      const known = typeof secret === 'string' && Object.hasOwn(secrets, secret) ? secrets[secret] : undefined
      return known ? { ...(grant as object), secret: known.ref.replaceAll('{key}', key) } : grant
    })
  const [only, now, ever] = [named(given.only), named(given.now), named(given.ever)]
  const { limits, clip } = given
  const both = only && { now: only, ever: only }
  return {
    ...both,
    ...(now && { now }),
    ...(ever && { ever }),
    ...(limits !== undefined && { limits }),
    ...(clip && { clip }),
  }
}
