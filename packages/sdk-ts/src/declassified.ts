/** What `declassify` makes of a value, until the method that returns it has ended. */
const values = new WeakMap<object, { readonly value: unknown; readonly via: number | undefined }>()
const call = Function.prototype.call.bind(Function.prototype.call) as <T>(
  f: unknown,
  self: unknown,
  ...args: unknown[]
) => T
const { get, set } = WeakMap.prototype

class Declassified {
  toJSON(): never {
    throw new TypeError('what is declassified can only be returned, by itself')
  }
}

export function declassified(value: unknown, via: number | undefined): object {
  const object = Object.freeze(new Declassified())
  call(set, values, object, { value, via })
  return object
}

/** The value of what `declassify` made; undefined for anything else. */
export function openDeclassified(
  result: unknown,
): { readonly value: unknown; readonly via: number | undefined } | undefined {
  return typeof result === 'object' && result !== null ? call(get, values, result) : undefined
}
