/**
 * Patterns of a graph as text: what SQL/PGQ and openCypher write alike.
 *
 *     [match] [p =] (a:person {id: $who})-[k:knows*1..3]->(b), (b)<-[:owns|rents]-(c) [where b.age >= 30 and …]
 *
 * A pattern without an end is refused: whatever repeats says how often at most.
 */
import { GraphError } from './graph-error.ts'

export type Scalar = null | boolean | number | string
export type Operator = '=' | '<>' | '<' | '<=' | '>' | '>=' | 'in' | 'is null' | 'is not null'

/** A value, or the name of one that is given with the pattern. */
export type Term = { readonly value: Scalar } | { readonly given: string }

export interface Condition {
  /** `id` and `type` are those of the node or edge itself, anything else is a property. */
  readonly property: string
  readonly operator: Operator
  readonly term: Term
}

export interface NodePattern {
  /** Every node has one; that of a node without a name begins with a space. */
  readonly name: string
  readonly types: readonly string[]
  readonly conditions: readonly Condition[]
}

export interface EdgePattern {
  readonly name: string | undefined
  readonly types: readonly string[]
  readonly direction: 'out' | 'in' | 'both'
  /** How many edges in a row; undefined: one, which is no list. */
  readonly hops: { readonly min: number; readonly max: number } | undefined
  readonly conditions: readonly Condition[]
}

/** One more edge than there are nodes, less one. */
export interface Chain {
  readonly name: string | undefined
  readonly nodes: readonly NodePattern[]
  readonly edges: readonly EdgePattern[]
}

export interface Pattern {
  readonly chains: readonly Chain[]
  /** By the name that they are about. */
  readonly where: ReadonlyMap<string, readonly Condition[]>
}

export const MAX_HOPS = 32
const MAX_EDGES = 16
const MAX_LENGTH = 10_000

const TOKEN =
  /\s+|(?<name>[A-Za-z_][A-Za-z0-9_]*)|`(?<quoted>[^`"\\]+)`|(?<number>\d+(?:\.\d+(?!\.))?(?:[eE][+-]?\d+)?)|'(?<single>(?:[^']|'')*)'|"(?<double>(?:[^"]|"")*)"|(?<sign><>|!=|<=|>=|\.\.|[-()[\]{}:|*,.$<>=])/y

interface Token {
  readonly kind: 'name' | 'number' | 'text' | 'sign' | 'end'
  readonly text: string
  readonly at: number
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = []
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex
    const found = TOKEN.exec(text)
    if (!found) throw bad(text, at, 'nothing known stands here')
    const { name, quoted, number, single, double, sign } = found.groups as Record<string, string | undefined>
    if (name !== undefined || quoted !== undefined)
      tokens.push({ kind: 'name', text: (name ?? quoted) as string, at })
    else if (number !== undefined) tokens.push({ kind: 'number', text: number, at })
    else if (single !== undefined) tokens.push({ kind: 'text', text: single.replaceAll("''", "'"), at })
    else if (double !== undefined) tokens.push({ kind: 'text', text: double.replaceAll('""', '"'), at })
    else if (sign !== undefined) tokens.push({ kind: 'sign', text: sign, at })
  }
  tokens.push({ kind: 'end', text: '', at: text.length })
  return tokens
}

function bad(text: string, at: number, why: string): GraphError {
  return new GraphError('BadPattern', `\`${text}\`, column ${at + 1}: ${why}`)
}

/** Reads a pattern; `BadPattern` names the column. */
export function parsePattern(text: string): Pattern {
  if (text.length > MAX_LENGTH)
    throw new GraphError('BadPattern', `a pattern has ${MAX_LENGTH} characters at most`)
  return new Parser(text).pattern()
}

class Parser {
  readonly #text: string
  readonly #tokens: Token[]
  #at = 0
  #unnamed = 0

  constructor(text: string) {
    this.#text = text
    this.#tokens = tokensOf(text)
  }

  pattern(): Pattern {
    if (this.#isWord('match') && this.#tokens[1]?.text !== '=') this.#at++
    const chains: Chain[] = []
    do chains.push(this.#chain())
    while (this.#take(','))
    const where = new Map<string, Condition[]>()
    if (this.#takeWord('where'))
      do this.#condition(where)
      while (this.#takeWord('and'))
    if (this.#now.kind !== 'end') throw this.#bad('the pattern should end here, or go on with `,` or `where`')
    if (chains.reduce((sum, chain) => sum + chain.edges.length, 0) > MAX_EDGES)
      throw this.#bad(`a pattern has ${MAX_EDGES} edges at most`)
    return { chains, where }
  }

  get #now(): Token {
    return this.#tokens[this.#at] as Token
  }

  #bad(why: string): GraphError {
    return bad(this.#text, this.#now.at, why)
  }

  #is(sign: string): boolean {
    return this.#now.kind === 'sign' && this.#now.text === sign
  }

  #isWord(word: string): boolean {
    return this.#now.kind === 'name' && this.#now.text.toLowerCase() === word
  }

  #take(sign: string): boolean {
    if (!this.#is(sign)) return false
    this.#at++
    return true
  }

  #takeWord(word: string): boolean {
    if (!this.#isWord(word)) return false
    this.#at++
    return true
  }

  #require(sign: string): void {
    if (!this.#take(sign)) throw this.#bad(`\`${sign}\` is missing`)
  }

  #name(what: string): string {
    const { kind, text } = this.#now
    if (kind !== 'name') throw this.#bad(`${what} is missing`)
    this.#at++
    return text
  }

  #chain(): Chain {
    let name: string | undefined
    if (this.#now.kind === 'name') {
      name = this.#name('the name of a path')
      this.#require('=')
    }
    const nodes = [this.#node()]
    const edges: EdgePattern[] = []
    while (this.#is('-') || this.#is('<')) {
      edges.push(this.#edge())
      nodes.push(this.#node())
    }
    return { name, nodes, edges }
  }

  #node(): NodePattern {
    this.#require('(')
    const name = this.#now.kind === 'name' ? this.#name('a name') : ` ${++this.#unnamed}`
    const types = this.#types()
    const conditions = this.#properties()
    this.#require(')')
    return { name, types, conditions }
  }

  #edge(): EdgePattern {
    const back = this.#take('<')
    this.#require('-')
    let name: string | undefined
    let types: string[] = []
    let hops: EdgePattern['hops']
    let conditions: Condition[] = []
    if (this.#take('[')) {
      if (this.#now.kind === 'name') name = this.#name('a name')
      types = this.#types()
      if (this.#take('*')) hops = this.#hops('..')
      conditions = this.#properties()
      this.#require(']')
    }
    this.#require('-')
    const forth = this.#take('>')
    if (back && forth) throw this.#bad('an edge has one direction, or none: `-[…]-`')
    if (this.#is('{')) {
      if (hops) throw this.#bad('how often it repeats is said already')
      this.#at++
      hops = this.#hops(',')
      this.#require('}')
    }
    return { name, types, direction: back ? 'in' : forth ? 'out' : 'both', hops, conditions }
  }

  /** `2`, `1..3` or `..3`. */
  #hops(between: '..' | ','): { readonly min: number; readonly max: number } {
    const number = () => {
      const { kind, text } = this.#now
      if (kind !== 'number' || !/^\d+$/.test(text)) return undefined
      this.#at++
      return Number(text)
    }
    const first = number()
    const ranged = this.#take(between)
    const max = ranged ? number() : first
    if (max === undefined) throw this.#bad(`how often at most is missing, such as \`1${between}3\``)
    const min = ranged ? (first ?? 1) : max
    if (max > MAX_HOPS) throw this.#bad(`${MAX_HOPS} edges in a row is the most`)
    if (min > max) throw this.#bad(`${min} is more than ${max}`)
    return { min, max }
  }

  #types(): string[] {
    const types: string[] = []
    if (this.#take(':'))
      do types.push(this.#name('a type'))
      while (this.#take('|'))
    return types
  }

  #properties(): Condition[] {
    const conditions: Condition[] = []
    if (!this.#take('{') || this.#take('}')) return conditions
    do {
      const property = this.#name('the name of a property')
      this.#require(':')
      const term = this.#term()
      const isNull = 'value' in term && term.value === null
      conditions.push({ property, operator: isNull ? 'is null' : '=', term })
    } while (this.#take(','))
    this.#require('}')
    return conditions
  }

  #condition(where: Map<string, Condition[]>): void {
    const name = this.#name('a condition, such as `a.age > 30`,')
    this.#require('.')
    const property = this.#name('the name of a property')
    const operator = this.#operator()
    const term: Term = operator.startsWith('is') ? { value: null } : this.#term()
    const list = where.get(name) ?? []
    list.push({ property, operator, term })
    where.set(name, list)
  }

  #operator(): Operator {
    if (this.#takeWord('in')) return 'in'
    if (this.#takeWord('is')) {
      const not = this.#takeWord('not')
      if (!this.#takeWord('null')) throw this.#bad('`null` is missing')
      return not ? 'is not null' : 'is null'
    }
    const { kind, text } = this.#now
    if (kind !== 'sign' || !/^(=|<>|!=|<|<=|>|>=)$/.test(text))
      throw this.#bad('a comparison is missing: = <> < <= > >= in is')
    this.#at++
    return text === '!=' ? '<>' : (text as Operator)
  }

  #term(): Term {
    if (this.#take('$')) return { given: this.#name('the name of a value') }
    const minus = this.#take('-')
    const { kind, text } = this.#now
    const word = text.toLowerCase()
    if (kind === 'number') return this.#value(minus ? -Number(text) : Number(text))
    if (kind === 'text' && !minus) return this.#value(text)
    if (kind === 'name' && !minus && (word === 'true' || word === 'false'))
      return this.#value(word === 'true')
    if (kind === 'name' && !minus && word === 'null') return this.#value(null)
    throw this.#bad("a value is missing: 'text', a number, true, false, null or $name")
  }

  #value(value: Scalar): Term {
    this.#at++
    return { value }
  }
}
