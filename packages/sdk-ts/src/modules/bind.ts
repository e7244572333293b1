/** The usual case of binding, without a copy: one value for each `?`, and every one as SQLite takes it. */
import type { HomeValue } from '../guest/home.ts'

/** How many parameters there are, if all are told by their place; −1: some have names. */
export function plainCount(parameters: readonly string[]): number {
  return parameters.every((name) => name === '') ? parameters.length : -1
}

export function asBound(given: readonly unknown[], count: number): HomeValue[] | undefined {
  if (given.length !== count) return undefined
  for (let i = 0; i < count; i++) {
    const value = given[i]
    if (typeof value === 'number' || typeof value === 'string' || value === null) continue
    if (!(value instanceof Uint8Array)) return undefined
  }
  return given as HomeValue[]
}
