/**
 * Who waits for whom: the calls between agents whose caller does nothing else until they are answered.
 *
 * A call that would close a ring is refused at once, or both ends would wait for their deadlines.
 */
export class Waits {
  /** By caller: the callee of each of its open calls. */
  readonly #edges = new Map<string, Map<string, string>>()

  add(caller: string, effect: string, callee: string): void {
    const known = this.#edges.get(caller)
    if (known) known.set(effect, callee)
    else this.#edges.set(caller, new Map([[effect, callee]]))
  }

  remove(caller: string, effect: string): void {
    const known = this.#edges.get(caller)
    known?.delete(effect)
    if (known?.size === 0) this.#edges.delete(caller)
  }

  /** Whether `callee` waits, over any number of others, for `caller`. */
  closes(caller: string, callee: string): boolean {
    const seen = new Set<string>()
    const open = [callee]
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      if (at === caller) return true
      if (seen.has(at)) continue
      seen.add(at)
      for (const next of this.#edges.get(at)?.values() ?? []) open.push(next)
    }
    return false
  }
}
