/**
 * Which homes of agents that are awake are open: at most so many, for each takes two descriptors.
 *
 * The one that was used longest ago is saved and closed first; it is opened again by the next turn that
 * needs it. Homes of turns that are running stay open, so that a few more than that may be.
 */

/** An agent, as its home is closed. */
export interface HomeOwner {
  /** Whether it may be closed now; then it is, between two turns. */
  parkHome(): boolean
}

/** Descriptors for everything else: the log, connections, images, files on their way. */
const RESERVED = 2000
const DESCRIPTORS_A_HOME = 2

/** How many homes a process may have open that may have so many descriptors. */
export function mostOpen(descriptors: number): number {
  const free = descriptors > 2 * RESERVED ? descriptors - RESERVED : descriptors / 2
  return Math.max(1, Math.floor(free / DESCRIPTORS_A_HOME))
}

export class OpenHomes {
  readonly #most: number
  /** The one that was used longest ago is the first. */
  readonly #open = new Set<HomeOwner>()
  /** On their way, and not counted any more. */
  readonly #closing = new Set<HomeOwner>()

  constructor(most: number) {
    this.#most = most
  }

  /** Somebody has used it, or saved it. */
  used(owner: HomeOwner): void {
    if (this.#closing.has(owner)) return
    this.#open.delete(owner)
    this.#open.add(owner)
  }

  /** A turn has ended: closes what is too much. */
  trim(): void {
    for (const owner of this.#open) {
      if (this.#open.size <= this.#most) return
      this.#closing.add(owner)
      if (owner.parkHome()) this.#open.delete(owner)
      else this.#closing.delete(owner)
    }
  }

  /** It is closed, or was found to be closed. */
  closed(owner: HomeOwner): void {
    this.#closing.delete(owner)
    this.#open.delete(owner)
  }
}
