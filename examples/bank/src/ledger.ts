/** The bank's own books: one line an act, on disk before it is answered, remembered by idempotency key. */
import fs from 'node:fs'

export interface Act {
  readonly id: number
  readonly act: string
  readonly key?: string
  readonly body: Record<string, unknown>
}

export class Ledger {
  readonly #fd: number
  readonly #acts: Act[] = []
  readonly #byKey = new Map<string, Act>()

  constructor(file: string) {
    if (fs.existsSync(file)) {
      for (const line of fs.readFileSync(file, 'utf8').split('\n'))
        if (line !== '') this.#keep(JSON.parse(line) as Act)
    }
    this.#fd = fs.openSync(file, 'a')
  }

  get acts(): readonly Act[] {
    return this.#acts
  }

  /** Does it once: the same key again gives the first act back. */
  record(
    act: string,
    body: Record<string, unknown>,
    key: string | undefined,
  ): { act: Act; repeated: boolean } {
    const known = key === undefined ? undefined : this.#byKey.get(key)
    if (known) return { act: known, repeated: true }
    const made: Act = { id: this.#acts.length + 100, act, body, ...(key !== undefined && { key }) }
    fs.writeSync(this.#fd, `${JSON.stringify(made)}\n`)
    fs.fdatasyncSync(this.#fd)
    this.#keep(made)
    return { act: made, repeated: false }
  }

  #keep(act: Act): void {
    this.#acts.push(act)
    if (act.key !== undefined) this.#byKey.set(act.key, act)
  }
}
