/**
 * Work of the kernel's own thread that comes in crowds, as the beginning of a thousand effects: it is done a few
 * milliseconds at a time, tenants in turn, and whoever else needs the thread comes in between. While somebody of
 * another tenant is about, crowds also leave it pauses: each step that he takes would otherwise wait for a slice.
 */
const SLICE_MS = 2
/** What is begun goes on by itself, before anybody else comes in: so it is not the time of the beginning alone. */
const AT_ONCE = 8
const PAUSE_MS = 6
/** Who called so lately is about. */
const ABOUT_MS = 200

export class Pace {
  /** What waits, by tenant; the tenant that is next is the first. */
  readonly #waiting = new Map<string, (() => void)[]>()
  #scheduled = false
  /** When somebody of a tenant called last; the newest is the last. */
  readonly #called = new Map<string, number>()

  /** Somebody from outside calls an agent of a tenant. */
  called(tenant: string): void {
    this.#called.delete(tenant)
    this.#called.set(tenant, performance.now())
  }

  #othersAbout(): boolean {
    const since = performance.now() - ABOUT_MS
    for (const [tenant, at] of this.#called) {
      if (at < since) this.#called.delete(tenant)
      else if (!this.#waiting.has(tenant)) return true
    }
    return false
  }

  /** Runs `work` soon, behind what the same tenant has waiting. */
  add(tenant: string, work: () => void): void {
    const queue = this.#waiting.get(tenant)
    if (queue) queue.push(work)
    else this.#waiting.set(tenant, [work])
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled || this.#waiting.size === 0) return
    this.#scheduled = true
    const run = () => {
      this.#scheduled = false
      this.#slice()
      this.#schedule()
    }
    if (this.#othersAbout()) setTimeout(run, PAUSE_MS)
    else setImmediate(run)
  }

  #slice(): void {
    const until = performance.now() + SLICE_MS
    for (let begun = 0; begun < AT_ONCE && performance.now() < until; begun++) {
      const next = this.#waiting.entries().next()
      if (next.done) return
      const [tenant, queue] = next.value
      const work = queue.shift()
      this.#waiting.delete(tenant)
      if (queue.length > 0) this.#waiting.set(tenant, queue)
      work?.()
    }
  }
}
