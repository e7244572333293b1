/** Rows by name that are read when they are first asked for. */
export class Rows<V> extends Map<string, V> {
  readonly #load: (name: string) => V | undefined

  constructor(load: (name: string) => V | undefined) {
    super()
    this.#load = load
  }

  /** What is here, without looking for it. */
  peek(name: string): V | undefined {
    return super.get(name)
  }

  override get(name: string): V | undefined {
    const known = super.get(name)
    if (known !== undefined) return known
    const loaded = this.#load(name)
    if (loaded !== undefined && super.get(name) === undefined) super.set(name, loaded)
    return super.get(name)
  }

  override has(name: string): boolean {
    return this.get(name) !== undefined
  }
}
