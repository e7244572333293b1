/** Waiting for what may take longer than whoever waits. */

/** What comes of a promise in some time, and before any of these says that nobody waits any more. */
export async function within<T>(
  promise: Promise<T>,
  ms: number,
  ends: readonly AbortSignal[],
): Promise<T | undefined> {
  if (ends.some(({ aborted }) => aborted)) return undefined
  const { promise: given, resolve, reject } = Promise.withResolvers<T | undefined>()
  const end = () => resolve(undefined)
  const late = setTimeout(end, ms)
  for (const one of ends) one.addEventListener('abort', end, { once: true })
  promise.then(resolve, reject)
  try {
    return await given
  } finally {
    clearTimeout(late)
    // Nothing of what it was given stays with those that outlive it.
    for (const one of ends) one.removeEventListener('abort', end)
  }
}
