/** Masking a text that comes piece by piece: what could still become the secret is held back until it cannot. */
import type { Masker } from './mask.ts'

export class MaskStream {
  readonly #masker: Masker
  #held = ''

  constructor(masker: Masker) {
    this.#masker = masker
  }

  /** What may be shown now that this has come. */
  push(piece: string): string {
    this.#held += piece
    // Looking at every piece by itself would look at the same text again and again.
    if (this.#held.length < 2 * this.#masker.reach) return ''
    const masked = this.#masker.maskText(this.#held) ?? this.#held
    const at = Math.max(0, masked.length - this.#masker.reach)
    this.#held = masked.slice(at)
    return masked.slice(0, at)
  }

  /** What was held back, once nothing more comes. */
  end(): string {
    const rest = this.#masker.maskText(this.#held) ?? this.#held
    this.#held = ''
    return rest
  }
}
