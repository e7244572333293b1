/** Durations as manifests write them. */

const UNITS = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 } as const

/** Milliseconds of a text that the schema has let through, as `500ms` or `7d`. */
export function durationMs(text: string): number {
  return Number.parseFloat(text) * UNITS[text.replace(/^[\d.]+/, '') as keyof typeof UNITS]
}
