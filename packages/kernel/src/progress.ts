/**
 * What comes of an effect while it goes on, as the words of a model, for whoever watches: frames in order and of
 * bounded size. None is on record, and none reaches the agent, which has the result.
 */

/** A piece of what came, of one attempt of one effect. */
interface Frame {
  /** As `acme/clerk/alice@142.0`. */
  readonly effect: string
  /** From 0 on, in each attempt. */
  readonly seq: number
  readonly text: string
}

/** Characters of one frame at most. */
const MAX_TEXT = 4096

type Watcher = (frame: Frame) => void

export class Progress {
  readonly #watchers = new Map<string, Set<Watcher>>()
  readonly #always: (effect: string, text: string) => void

  constructor(always: (effect: string, text: string) => void) {
    this.#always = always
  }

  /** What one attempt says by. */
  of(agent: string, effect: string): (text: string) => void {
    let seq = 0
    return (text) => {
      this.#always(effect, text)
      const watchers = this.#watchers.get(agent)
      for (let at = 0, end = 0; at < text.length; at = end) {
        end = at + MAX_TEXT
        // No frame ends in half a character.
        if (end < text.length && /[\uD800-\uDBFF]/.test(text[end - 1] as string)) end--
        const frame = { effect, seq: seq++, text: text.slice(at, end) }
        for (const watch of watchers ?? []) watch(frame)
      }
    }
  }

  /** Tells of an agent's effects from now on, until the function that this returns is called. */
  watch(agent: string, watcher: Watcher): () => void {
    const watchers = this.#watchers.get(agent) ?? new Set()
    this.#watchers.set(agent, watchers)
    watchers.add(watcher)
    return () => {
      watchers.delete(watcher)
      if (watchers.size === 0 && this.#watchers.get(agent) === watchers) this.#watchers.delete(agent)
    }
  }
}
