/** Which invocation runs at this moment. It imports nothing, so that it can be there before everything else. */
let current: string | null = null

/** The invocation that what runs now is done for; null outside of all. */
export function running(): string | null {
  return current
}

/** From here on, until it is said otherwise. */
export function serve(invocation: string | null): void {
  current = invocation
}

export function runUnder<T>(invocation: string | null, act: () => T): T {
  const before = current
  current = invocation
  try {
    return act()
  } finally {
    current = before
  }
}
