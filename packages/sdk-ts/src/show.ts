/** Values as text for people. */

/** Text of a logged value: strings as they are, errors with their stack, the rest as JSON that hides nothing. */
export function show(value: unknown): string {
  if (typeof value === 'string') return value
  if (value instanceof Error) return showError(value)
  const above: unknown[] = []
  try {
    return (
      JSON.stringify(value, function replace(this: unknown, _key, v: unknown) {
        while (above.length > 0 && above[above.length - 1] !== this) above.pop()
        if (typeof v === 'bigint') return `${v}n`
        if (typeof v === 'function') return `[function ${v.name}]`
        if (v instanceof Error) return showError(v)
        if (typeof v !== 'object' || v === null) return v
        if (above.includes(v)) return '[circular]'
        above.push(v)
        if (v instanceof Map) return plain(above, Object.fromEntries([...v].map(([k, x]) => [String(k), x])))
        if (v instanceof RegExp) return String(v)
        if (ArrayBuffer.isView(v) && !(v instanceof DataView)) return plain(above, [...(v as Uint8Array)])
        if (v instanceof Set) return plain(above, [...v])
        return v
      }) ?? String(value)
    )
  } catch {
    return 'a value that cannot be shown'
  }
}

/** What stands for a map or a set is what its members will be found in. */
function plain<T>(above: unknown[], stand: T): T {
  above.push(stand)
  return stand
}

const MAX_DEPTH = 8

function showError(error: Error, depth = 0): string {
  const own = `${error.name}: ${error.message}\n${error.stack ?? ''}`.trimEnd()
  const causes = [
    ...(error instanceof AggregateError ? error.errors : []),
    ...(error.cause === undefined ? [] : [error.cause]),
  ]
  if (depth === MAX_DEPTH) return own
  return [own, ...causes.map((c) => (c instanceof Error ? showError(c, depth + 1) : show(c)))].join(
    '\ncaused by ',
  )
}
