/** What a pattern should find, by trying everything: for graphs of a few nodes. */

export interface ModelEdge {
  readonly id: number
  readonly from: string
  readonly type: string
  readonly to: string
}

interface ModelStep {
  readonly types: readonly string[]
  readonly direction: 'out' | 'in' | 'both'
  readonly min: number
  readonly max: number
}

/** A chain: the type of each node or none, and the edges between. */
export interface ModelChain {
  readonly nodes: readonly { readonly name: string; readonly type?: string }[]
  readonly steps: readonly ModelStep[]
}

/** Every match as its nodes and its edges, in order. `twice`: by the rule that an edge may be passed again. */
export function matchesOf(
  types: ReadonlyMap<string, string>,
  edges: readonly ModelEdge[],
  { nodes, steps }: ModelChain,
  { twice = false }: { readonly twice?: boolean } = {},
): string[] {
  const found: string[] = []
  const fits = (at: number, id: string, bound: ReadonlyMap<string, string>) => {
    const { name, type } = nodes[at] as { name: string; type?: string }
    if (type !== undefined && types.get(id) !== type) return false
    return !bound.has(name) || bound.get(name) === id
  }
  const go = (
    at: number,
    bound: ReadonlyMap<string, string>,
    passed: readonly number[],
    ids: readonly string[],
  ) => {
    if (at === steps.length) {
      found.push(JSON.stringify([ids, passed]))
      return
    }
    const step = steps[at] as ModelStep
    const walk = (id: string, hops: number, trail: readonly number[]) => {
      if (hops >= step.min && fits(at + 1, id, bound))
        go(at + 1, new Map([...bound, [nodes[at + 1]?.name as string, id]]), trail, [...ids, id])
      if (hops === step.max) return
      for (const edge of edges) {
        if (trail.includes(edge.id) && !twice) continue
        if (step.types.length > 0 && !step.types.includes(edge.type)) continue
        const ends = new Set<string>()
        if (step.direction !== 'in' && edge.from === id) ends.add(edge.to)
        if (step.direction !== 'out' && edge.to === id) ends.add(edge.from)
        for (const end of ends) walk(end, hops + 1, [...trail, edge.id])
      }
    }
    walk(ids.at(-1) as string, 0, passed)
  }
  for (const id of types.keys())
    if (fits(0, id, new Map())) go(0, new Map([[nodes[0]?.name as string, id]]), [], [id])
  return found.sort()
}

/** The fewest edges from one node to all others. */
export function distancesOf(
  edges: readonly ModelEdge[],
  start: string,
  direction: 'out' | 'in' | 'both',
): Map<string, number> {
  const found = new Map([[start, 0]])
  for (let changed = true; changed; ) {
    changed = false
    for (const { from, to } of edges)
      for (const [a, b] of [
        ...(direction === 'in' ? [] : [[from, to]]),
        ...(direction === 'out' ? [] : [[to, from]]),
      ] as [string, string][]) {
        const by = (found.get(a) ?? Number.POSITIVE_INFINITY) + 1
        if (by < (found.get(b) ?? Number.POSITIVE_INFINITY)) {
          found.set(b, by)
          changed = true
        }
      }
  }
  return found
}
