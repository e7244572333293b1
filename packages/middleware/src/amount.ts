/** Amounts as people write them, compared without ever being floats. */

const AMOUNT = /^(-?)(\d{1,30})(?:\.(\d{1,30}))?$/

/** Below zero, zero or above as `a` is less, equal or more; undefined if either is no plain amount. */
export function compareAmounts(a: unknown, b: unknown): number | undefined {
  const [x, y] = [scaled(a), scaled(b)]
  if (x === undefined || y === undefined) return undefined
  return x < y ? -1 : x > y ? 1 : 0
}

function scaled(value: unknown): bigint | undefined {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined
  const match = AMOUNT.exec(String(value))
  if (!match) return undefined
  const [, sign, whole = '', part = ''] = match
  return BigInt(`${sign}${whole}${part.padEnd(30, '0')}`)
}
