/**
 * The Datalog of a block, written: checks of comparisons over facts that the verifier gives. No rules,
 * no closures, no regular expressions; version 3.0 of the language says all of it. Nothing here reads.
 *
 * Source: `schema.proto` of the reference; strings and variables stand as indices of a table that each
 * block continues.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

export type Term =
  | { readonly variable: string }
  | { readonly integer: bigint }
  | { readonly string: string }
  | { readonly set: readonly string[] }
  | { readonly integers: readonly bigint[] }

const BINARY = {
  '<=': 2,
  '>=': 3,
  '<': 0,
  '>': 1,
  '==': 4,
  contains: 5,
  startsWith: 6,
  endsWith: 7,
  and: 13,
  or: 14,
}
const NOT = 0

export type Expression =
  | Term
  | { readonly not: Expression }
  | { readonly op: keyof typeof BINARY; readonly left: Expression; readonly right: Expression }

export interface Predicate {
  readonly name: string
  readonly terms: readonly Term[]
}

/** One way to satisfy a check: facts that must be there, and what must be true of them. */
export interface Query {
  readonly body: readonly Predicate[]
  readonly where: readonly Expression[]
}

export interface BlockSource {
  /** What the block says of itself, for its reader. */
  readonly context: string
  readonly checks: readonly (readonly Query[])[]
}

const DEFAULT_SYMBOLS = (
  'read write resource operation right time role owner tenant namespace user team service admin email ' +
  'group member ip_address client client_ip domain path version cluster node hostname nonce query'
).split(' ')
const FIRST_SYMBOL = 1024
const LANGUAGE_VERSION = 3

/** The strings of a chain of blocks so far. */
export class Symbols {
  readonly #known = new Map<string, number>(DEFAULT_SYMBOLS.map((symbol, i) => [symbol, i]))
  #fresh: string[] = []

  index(text: string): number {
    const known = this.#known.get(text)
    if (known !== undefined) return known
    const index = FIRST_SYMBOL + this.#known.size - DEFAULT_SYMBOLS.length
    this.#known.set(text, index)
    this.#fresh.push(text)
    return index
  }

  /** Those that came since the last call: the table of the block that was just written. */
  take(): string[] {
    const fresh = this.#fresh
    this.#fresh = []
    return fresh
  }
}

function message(writer: BinaryWriter, number: number, bytes: Uint8Array): BinaryWriter {
  return writer.tag(number, WireType.LengthDelimited).bytes(bytes)
}

function encodeTerm(term: Term, symbols: Symbols): Uint8Array {
  const writer = new BinaryWriter()
  if ('variable' in term) return writer.tag(1, WireType.Varint).uint32(symbols.index(term.variable)).finish()
  if ('integer' in term) return writer.tag(2, WireType.Varint).int64(term.integer).finish()
  if ('string' in term)
    return writer
      .tag(3, WireType.Varint)
      .uint64(BigInt(symbols.index(term.string)))
      .finish()
  const terms: Term[] =
    'set' in term ? term.set.map((string) => ({ string })) : term.integers.map((integer) => ({ integer }))
  const set = terms.reduce((w, t) => message(w, 1, encodeTerm(t, symbols)), new BinaryWriter())
  return message(writer, 7, set.finish()).finish()
}

function encodePredicate({ name, terms }: Predicate, symbols: Symbols): Uint8Array {
  const writer = new BinaryWriter().tag(1, WireType.Varint).uint64(BigInt(symbols.index(name)))
  return terms.reduce((w, term) => message(w, 2, encodeTerm(term, symbols)), writer).finish()
}

/** An expression in the order in which a stack takes it. */
function writeOps(expression: Expression, symbols: Symbols, out: BinaryWriter): void {
  const op = new BinaryWriter()
  if ('not' in expression) {
    writeOps(expression.not, symbols, out)
    message(op, 2, new BinaryWriter().tag(1, WireType.Varint).int32(NOT).finish())
  } else if ('op' in expression) {
    writeOps(expression.left, symbols, out)
    writeOps(expression.right, symbols, out)
    message(op, 3, new BinaryWriter().tag(1, WireType.Varint).int32(BINARY[expression.op]).finish())
  } else message(op, 1, encodeTerm(expression, symbols))
  message(out, 1, op.finish())
}

function encodeQuery({ body, where }: Query, symbols: Symbols): Uint8Array {
  const writer = message(new BinaryWriter(), 1, encodePredicate({ name: 'query', terms: [] }, symbols))
  for (const predicate of body) message(writer, 2, encodePredicate(predicate, symbols))
  for (const expression of where) {
    const ops = new BinaryWriter()
    writeOps(expression, symbols, ops)
    message(writer, 3, ops.finish())
  }
  return writer.finish()
}

/** The bytes of a block. `symbols` are those of the blocks before it, and then also its own. */
export function encodeBlockSource({ context, checks }: BlockSource, symbols: Symbols): Uint8Array {
  const encoded = checks.map((queries) =>
    queries.reduce((w, query) => message(w, 1, encodeQuery(query, symbols)), new BinaryWriter()).finish(),
  )
  const writer = new BinaryWriter()
  for (const symbol of symbols.take()) writer.tag(1, WireType.LengthDelimited).string(symbol)
  writer.tag(2, WireType.LengthDelimited).string(context)
  writer.tag(3, WireType.Varint).uint32(LANGUAGE_VERSION)
  for (const check of encoded) message(writer, 6, check)
  return writer.finish()
}
