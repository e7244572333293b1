/** Core modules, byte by byte: what no compiler would make of any source is among what guests may be. */

/** Unsigned LEB128, as WASM writes numbers. */
const number = (n: number): number[] => (n < 0x80 ? [n] : [(n & 0x7f) | 0x80, ...number(n >>> 7)])
const name = (text: string): number[] => [...number(text.length), ...Buffer.from(text)]
const list = (items: readonly (readonly number[])[]): number[] => [...number(items.length), ...items.flat()]
const section = (id: number, body: readonly number[]): number[] => [id, ...number(body.length), ...body]

export const I32 = 0x7f
const I64 = 0x7e
export const EXTERNREF = 0x6f
const FUNCREF = 0x70
const FUNCTION = 0
const MEMORY = 2

export interface ModuleParts {
  /** Imported functions of type `(i32) -> i32`. */
  readonly functions?: readonly (readonly [module: string, name: string])[]
  /** One imported global, mutable. */
  readonly importedGlobal?: boolean
  readonly memories?: number
  /** What the memory is called; left out: `memory`. */
  readonly memory?: string
  /** Mutable globals: type and the bytes of what they begin with. */
  readonly globals?: readonly (readonly [type: number, init: readonly number[]])[]
  readonly table?: boolean
  /** Instructions at the beginning of `cardinal_turn`. */
  readonly code?: readonly number[]
  readonly passiveData?: boolean
  readonly exports?: readonly string[]
}

/**
 * A guest that answers every turn with the same bytes, at 1024: nothing to do. `parts` is what is wrong with it, or
 * not. `answer` are those bytes.
 */
export function guestModule(
  parts: ModuleParts = {},
  answer = '{"effects":[],"replies":[],"logs":[],"drops":[]}',
): Buffer {
  const imported = parts.functions ?? []
  const types = list([
    [0x60, ...list([[I32]]), ...list([[I32]])],
    [0x60, ...list([[I32], [I32]]), ...list([[I64]])],
  ])
  const imports = [
    ...imported.map(([of, called]) => [...name(of), ...name(called), FUNCTION, 0]),
    ...(parts.importedGlobal ? [[...name('env'), ...name('state'), 3, I32, 1]] : []),
  ]
  const globals = (parts.globals ?? []).map(([type, init]) => [type, 1, ...init, 0x0b])
  const exported = parts.exports ?? ['cardinal_alloc', 'cardinal_turn']
  const exports = [
    [...name(parts.memory ?? 'memory'), MEMORY, 0],
    ...exported.map((called, i) => [...name(called), FUNCTION, imported.length + i]),
  ]
  const body = (code: readonly number[]) => {
    const whole = [0, ...code, 0x0b]
    return [...number(whole.length), ...whole]
  }
  // The address in the upper half, the length in the lower; as a signed LEB128 of at most 6 bytes.
  const found = BigInt.asIntN(64, (1024n << 32n) | BigInt(answer.length))
  const signed: number[] = []
  for (let left = found; ; ) {
    const byte = Number(left & 0x7fn)
    left >>= 7n
    const last = (left === 0n && (byte & 0x40) === 0) || (left === -1n && (byte & 0x40) !== 0)
    signed.push(last ? byte : byte | 0x80)
    if (last) break
  }
  return Buffer.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, types),
    ...(imports.length > 0 ? section(2, list(imports)) : []),
    ...section(3, list([[0], [1]])),
    ...(parts.table ? section(4, list([[FUNCREF, 0, 1]])) : []),
    ...section(5, list(Array.from({ length: parts.memories ?? 1 }, () => [0, 1]))),
    ...(globals.length > 0 ? section(6, list(globals)) : []),
    ...section(7, list(exports)),
    ...section(
      10,
      // `cardinal_alloc`: always 2048. `cardinal_turn`: what was asked for, then the answer.
      list([body([0x41, 0x80, 0x10]), body([...(parts.code ?? []), 0x42, ...signed])]),
    ),
    ...section(
      11,
      list([
        parts.passiveData
          ? [1, ...number(answer.length), ...Buffer.from(answer)]
          : [0, 0x41, 0x80, 0x08, 0x0b, ...number(answer.length), ...Buffer.from(answer)],
      ]),
    ),
  ])
}
