/**
 * Cells of a tree: the places that tools, resources, hosts, paths and secrets name.
 *
 * A cell is absence, one place, the strict subtree below a place, or everything. Any two cells are
 * nested or disjoint, so order and meet are exact.
 */

export type Cell =
  | { readonly kind: 'absent' }
  | { readonly kind: 'exact'; readonly at: readonly string[]; readonly relative?: true }
  | { readonly kind: 'under'; readonly at: readonly string[]; readonly relative?: true }
  | { readonly kind: 'top' }

export const ABSENT: Cell = { kind: 'absent' }
export const TOP: Cell = { kind: 'top' }

export function exact(at: readonly string[]): Cell {
  return { kind: 'exact', at }
}

export function under(at: readonly string[]): Cell {
  return { kind: 'under', at }
}

function isPrefix(short: readonly string[], long: readonly string[]): boolean {
  return short.length <= long.length && short.every((s, i) => s === long[i])
}

/** Whether every place of `a` is a place of `b`. */
export function cellLeq(a: Cell, b: Cell): boolean {
  if (b.kind === 'top') return true
  if (a.kind === 'top' || a.kind === 'absent' || b.kind === 'absent') return a.kind === b.kind
  if (b.kind === 'exact') return a.kind === 'exact' && a.at.length === b.at.length && isPrefix(b.at, a.at)
  const strict = a.kind === 'exact' ? a.at.length > b.at.length : true
  return strict && isPrefix(b.at, a.at)
}

/** The places of both, or undefined if there are none. */
export function cellMeet(a: Cell, b: Cell): Cell | undefined {
  if (cellLeq(a, b)) return a
  if (cellLeq(b, a)) return b
  return undefined
}

/** Whether a request's place, absent or exact, lies in the cell. */
export function cellHas(cell: Cell, place: readonly string[] | undefined): boolean {
  if (cell.kind === 'top') return true
  if (place === undefined || cell.kind === 'absent') return place === undefined && cell.kind === 'absent'
  const { at } = cell
  if (cell.kind === 'exact' ? place.length !== at.length : place.length <= at.length) return false
  for (let i = 0; i < at.length; i++) if (at[i] !== place[i]) return false
  return true
}

/** The widest cells of some: what lies in another is dropped. */
export function widest(cells: readonly Cell[]): Cell[] {
  const kept: Cell[] = []
  for (const cell of cells) {
    if (kept.some((k) => cellLeq(cell, k))) continue
    for (let i = kept.length - 1; i >= 0; i--) if (cellLeq(kept[i] as Cell, cell)) kept.splice(i, 1)
    kept.push(cell)
  }
  return kept
}

/** The places that lie in a cell of `a` and in one of `b`. */
export function cellsMeet(a: readonly Cell[], b: readonly Cell[]): readonly Cell[] {
  if (isAll(a)) return b
  if (isAll(b)) return a
  return widest(a.flatMap((x) => b.flatMap((y) => cellMeet(x, y) ?? [])))
}

/** The cells of `a` that do not lie in one of `b`. */
export function cellsBeyond(a: readonly Cell[], b: readonly Cell[]): Cell[] {
  return a.filter((x) => !b.some((y) => cellLeq(x, y)))
}

function isAll(cells: readonly Cell[]): boolean {
  return cells.length === 1 && cells[0]?.kind === 'top'
}
