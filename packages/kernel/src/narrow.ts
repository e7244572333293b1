/** How a program says what a card of its own is narrowed to. */
import type { Narrow } from '@cardinal/cards'
import { z } from 'zod'

export const narrowArgs = z.strictObject({
  only: z.array(z.unknown()).optional(),
  now: z.array(z.unknown()).optional(),
  ever: z.array(z.unknown()).optional(),
  limits: z.unknown().optional(),
  clip: z.boolean().optional(),
})

/** A narrowing as the rules take it: `only` means both bounds. */
export function narrowOf({ only, now, ever, limits, clip }: z.infer<typeof narrowArgs>): Narrow {
  const both = only && { now: only, ever: only }
  return {
    ...both,
    ...(now && { now }),
    ...(ever && { ever }),
    ...(limits !== undefined && { limits }),
    ...(clip && { clip }),
  }
}
