/** The fields of one line of a history, read one by one; what is wrong or left over is `BadOp`. */
import { decimalOf } from '../decimal.ts'

/** A line that is no operation. Nothing was changed. */
export class BadOp extends Error {}

export class Fields {
  readonly #given: Record<string, unknown>
  readonly #read = new Set(['op'])

  constructor(given: unknown) {
    if (!isObject(given)) throw new BadOp('an operation is an object with `op`')
    this.#given = given
  }

  #take(name: string): unknown {
    this.#read.add(name)
    return Object.hasOwn(this.#given, name) ? this.#given[name] : undefined
  }

  /** Whatever stands there; undefined if nothing does. */
  any(name: string): unknown {
    return this.#take(name)
  }

  /** Whatever stands there, which must be something. */
  some(name: string): unknown {
    return this.#present(name, this.#take(name))
  }

  text(name: string): string {
    return this.#present(name, this.optionalText(name))
  }

  optionalText(name: string): string | undefined {
    const value = this.#take(name)
    if (value === undefined || typeof value === 'string') return value
    throw new BadOp(`\`${name}\` is a text`)
  }

  optionalTexts(name: string): string[] | undefined {
    const value = this.#take(name)
    if (value === undefined) return undefined
    if (Array.isArray(value) && value.every((v) => typeof v === 'string')) return value
    throw new BadOp(`\`${name}\` is a list of texts`)
  }

  flag(name: string): boolean {
    const value = this.#take(name)
    if (value === undefined || typeof value === 'boolean') return value ?? false
    throw new BadOp(`\`${name}\` is true or false`)
  }

  optionalWhole(name: string): number | undefined {
    const value = this.#take(name)
    if (value === undefined) return undefined
    const decimal = typeof value === 'object' ? decimalOf(value) : undefined
    const number = decimal?.scale === 0 ? Number(decimal.digits) : Number.NaN
    if (Number.isSafeInteger(number) && number >= 0) return number
    throw new BadOp(`\`${name}\` is a whole number, 0 or more`)
  }

  whole(name: string): number {
    return this.#present(name, this.optionalWhole(name))
  }

  object(name: string): Record<string, unknown> {
    const value = this.#take(name)
    if (isObject(value)) return value
    throw new BadOp(`\`${name}\` is an object`)
  }

  optionalOneOf<T extends string>(name: string, values: readonly T[]): T | undefined {
    const value = this.#take(name)
    if (value === undefined || values.includes(value as T)) return value as T | undefined
    throw new BadOp(`\`${name}\` is one of ${values.join(', ')}`)
  }

  #present<T>(name: string, value: T | undefined): T {
    if (value === undefined) throw new BadOp(`\`${name}\` is missing`)
    return value
  }

  /** Every field was one that the operation has. */
  done(): void {
    const unknown = Object.keys(this.#given).find((name) => !this.#read.has(name))
    if (unknown !== undefined) throw new BadOp(`unknown field \`${unknown}\``)
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
}
