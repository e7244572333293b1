/** Values as they can stand in a record: whatever else a middleware gives is not passed on. */

export const MAX_VALUE_BYTES = 6 << 20

/** The value as JSON would carry it; undefined if it is none, or too much. */
export function asJson(value: unknown): { readonly value: unknown } | undefined {
  try {
    const text = JSON.stringify(value)
    if (text === undefined || text.length > MAX_VALUE_BYTES) return undefined
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}

/** A path into JSON: names parted by dots; `*` is any name or place, `**` any number of them. */
export type Path = readonly string[]

export function parsePath(text: string): Path | undefined {
  const parts = text.replace(/^\$\.?/, '').split('.')
  return parts.every((part) => /^(\*{1,2}|[^.*\0]{1,128})$/.test(part)) ? parts : undefined
}

/** How deep a value is looked into; what lies deeper is no value that a tool takes or gives. */
const MAX_DEPTH = 64

/** The same value with every leaf that the path leads to replaced by what `change` makes of it. */
export function mapLeaves(
  value: unknown,
  path: Path,
  change: (leaf: unknown) => unknown,
  depth = 0,
): unknown {
  if (depth > MAX_DEPTH) throw new Error('a value that is nested too deep')
  const [head, ...rest] = path
  if (typeof value !== 'object' || value === null)
    return head === undefined || path.every((part) => part === '**') ? change(value) : value
  if (head === undefined) return change(value)
  const step = (name: string, inner: unknown): unknown => {
    if (head === '**') {
      const here = mapLeaves(inner, path, change, depth + 1)
      const [next, ...further] = rest
      if (next === undefined || (next !== '*' && next !== name)) return here
      return mapLeaves(here, further, change, depth + 1)
    }
    return head === '*' || head === name ? mapLeaves(inner, rest, change, depth + 1) : inner
  }
  if (Array.isArray(value)) return value.map((inner, i) => step(String(i), inner))
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, step(name, inner)]))
}

/** The value at a path without wildcards. */
export function at(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (found, name) =>
      typeof found === 'object' && found !== null && Object.hasOwn(found, name)
        ? (found as Record<string, unknown>)[name]
        : undefined,
    value,
  )
}
