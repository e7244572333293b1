/**
 * A pattern as one SQL query over the tables of the graph: a chain of common table expressions, one for
 * each edge, which hand on the nodes that they bound and the trail of edges that led there.
 *
 * No edge is passed twice in one match, as in openCypher; nodes may be.
 */
import type { HomeValue } from '../guest/home.ts'
import { GraphError } from './graph-error.ts'
import type { Chain, Condition, EdgePattern, NodePattern, Pattern, Scalar } from './graph-pattern.ts'

export type Values = Readonly<Record<string, Scalar | readonly Scalar[]>>

/** Where what has a name stands in a row of the query. */
export interface Query {
  readonly sql: string
  readonly values: readonly HomeValue[]
  /** Columns of nodes come first, then the trail as JSON, then how long it is after each edge. */
  readonly nodes: ReadonlyMap<string, number>
  readonly edges: ReadonlyMap<string, { readonly index: number; readonly list: boolean }>
  readonly paths: ReadonlyMap<string, { readonly start: number; readonly from: number; readonly to: number }>
  readonly nodeCount: number
}

/** The query of a pattern. `NoSuchValue`: a value is not given. `BadPattern`: a name means two things. */
export function queryOf(pattern: Pattern, values: Values, limit: number, order = ''): Query {
  return new Compiler(pattern, values).compile(limit, order)
}

class Compiler {
  readonly #pattern: Pattern
  readonly #values: Values
  readonly #bound: HomeValue[] = []
  readonly #steps: string[] = []
  readonly #nodes = new Map<string, number>()
  readonly #edges = new Map<string, { index: number; list: boolean }>()
  readonly #paths = new Map<string, { start: number; from: number; to: number }>()
  #nodeCount = 0
  #edgeCount = 0

  constructor(pattern: Pattern, values: Values) {
    this.#pattern = pattern
    this.#values = values
  }

  compile(limit: number, order: string): Query {
    for (const chain of this.#pattern.chains) this.#chain(chain)
    for (const name of this.#pattern.where.keys())
      if (!this.#nodes.has(name) && !this.#edges.has(name))
        throw new GraphError('BadPattern', `\`where\` is about \`${name}\`, which the pattern does not have`)
    const sql = `with recursive ${this.#steps.join(',\n')}\nselect * from ${this.#last} ${order} limit ?`
    const values = [...this.#bound, limit]
    const [nodes, edges, paths] = [this.#nodes, this.#edges, this.#paths]
    return { sql, values, nodes, edges, paths, nodeCount: this.#nodeCount }
  }

  get #last(): string {
    return `m${this.#steps.length - 1}`
  }

  /** What every step hands on, as columns of `from`. */
  #columns(from: string, nodes = this.#nodeCount, edges = this.#edgeCount): string {
    const names = [
      ...Array.from({ length: nodes }, (_, i) => `n${i}`),
      'trail',
      ...Array.from({ length: edges }, (_, i) => `l${i}`),
    ]
    return names.map((name) => (from === '' ? name : `${from}.${name}`)).join(', ')
  }

  #chain({ name, nodes, edges }: Chain): void {
    const from = this.#edgeCount
    let at = this.#begin(nodes[0] as NodePattern)
    const start = at
    edges.forEach((edge, i) => {
      at = this.#step(at, edge, nodes[i + 1] as NodePattern)
    })
    if (name === undefined) return
    this.#claim(name)
    this.#paths.set(name, { start, from, to: this.#edgeCount })
  }

  #claim(name: string): void {
    if (this.#nodes.has(name) || this.#edges.has(name) || this.#paths.has(name))
      throw new GraphError('BadPattern', `\`${name}\` stands for two things`)
  }

  /** The first node of a chain: one that is known, or all that fit. */
  #begin(node: NodePattern): number {
    const known = this.#nodes.get(node.name)
    if (known !== undefined && node.types.length + node.conditions.length === 0) return known
    const index = known ?? this.#nodeCount
    if (known === undefined) this.#claim(node.name)
    const before = this.#steps.length > 0 ? `${this.#last} m, ` : ''
    const handed = this.#steps.length > 0 ? `m.trail${this.#lengths('m')}` : `'[]'`
    const others = this.#nodeColumns('m')
    const sides = [...this.#nodeSides(node, 'b'), ...(known === undefined ? [] : [`b.id = m.n${known}`])]
    const select =
      known === undefined ? `${others}b.id, ${handed}` : `${others.replace(/, $/, '')}, ${handed}`
    if (known === undefined) this.#nodes.set(node.name, this.#nodeCount++)
    this.#steps.push(
      `m${this.#steps.length}(${this.#columns('')}) as (select ${select} from ${before}cardinal_nodes b${whereOf(sides)})`,
    )
    return index
  }

  #nodeColumns(from: string): string {
    return Array.from({ length: this.#nodeCount }, (_, i) => `${from}.n${i}, `).join('')
  }

  #lengths(from: string): string {
    return Array.from({ length: this.#edgeCount }, (_, i) => `, ${from}.l${i}`).join('')
  }

  /** One edge, or so many in a row, and the node where that ends. */
  #step(at: number, edge: EdgePattern, node: NodePattern): number {
    if (edge.name !== undefined) {
      this.#claim(edge.name)
      if (edge.hops && this.#pattern.where.has(edge.name))
        throw new GraphError('BadPattern', `\`${edge.name}\` is a list of edges: \`where\` cannot compare it`)
      this.#edges.set(edge.name, { index: this.#edgeCount, list: edge.hops !== undefined })
    }
    return edge.hops ? this.#repeat(at, edge, edge.hops, node) : this.#single(at, edge, node)
  }

  #single(at: number, edge: EdgePattern, node: NodePattern): number {
    const { there, joins } = sidesOf(edge, `m.n${at}`)
    const sides = [joins, ...this.#edgeSides(edge, 'e'), ...this.#target(node, there)]
    const from = `${this.#last} m join cardinal_edges e${this.#joinOf(node, there)}${whereOf([...sides, unused('m')])}`
    const trail = `json_insert(m.trail, '$[#]', e.id)`
    const select = `${this.#nodeColumns('m')}${there}, ${trail}${this.#lengths('m')}, json_array_length(m.trail) + 1`
    return this.#bind(node, select, from)
  }

  #repeat(at: number, edge: EdgePattern, hops: { min: number; max: number }, node: NodePattern): number {
    const { there, joins } = sidesOf(edge, 'w.here')
    const others = (from: string) => `${this.#nodeColumns(from)}`
    const walk = `w${this.#steps.length}`
    const names = `${others('').replaceAll('.n', 'n')}here, trail${this.#lengths('').replaceAll('.l', 'l')}, hops`
    const sides = [joins, ...this.#edgeSides(edge, 'e'), unused('w'), `w.hops < ${hops.max}`]
    const walked = `${walk}(${names}) as (
  select ${others('m')}m.n${at}, m.trail${this.#lengths('m')}, 0 from ${this.#last} m
  union all
  select ${others('w')}${there}, json_insert(w.trail, '$[#]', e.id)${this.#lengths('w')}, w.hops + 1 from ${walk} w join cardinal_edges e${whereOf(sides)})`
    const found = [`m.hops >= ${hops.min}`, ...this.#target(node, 'm.here')]
    const from = `${walk} m${this.#joinOf(node, 'm.here')}${whereOf(found)}`
    const select = `${others('m')}m.here, m.trail${this.#lengths('m')}, json_array_length(m.trail)`
    return this.#bind(node, select, from, `${walked},\n`)
  }

  #bind(node: NodePattern, select: string, from: string, before = ''): number {
    const index = this.#nodeCount++
    this.#edgeCount++
    if (!this.#nodes.has(node.name)) {
      this.#claim(node.name)
      this.#nodes.set(node.name, index)
    }
    this.#steps.push(
      `${before}m${this.#steps.length}(${this.#columns('')}) as (select ${select} from ${from})`,
    )
    return index
  }

  #joinOf(node: NodePattern, there: string): string {
    return this.#looksAt(node) ? ` join cardinal_nodes b on b.id = ${there}` : ''
  }

  #looksAt(node: NodePattern): boolean {
    return node.types.length + this.#conditionsOf(node).length > 0
  }

  #target(node: NodePattern, there: string): string[] {
    const known = this.#nodes.get(node.name)
    const same = known === undefined ? [] : [`${there} = m.n${known}`]
    return [...same, ...(this.#looksAt(node) ? this.#nodeSides(node, 'b') : [])]
  }

  /** What `where` says of a name counts where the name is bound first. */
  #conditionsOf(node: NodePattern): readonly Condition[] {
    const more = this.#nodes.has(node.name) ? [] : (this.#pattern.where.get(node.name) ?? [])
    return [...node.conditions, ...more]
  }

  #nodeSides(node: NodePattern, alias: string): string[] {
    return [
      ...this.#typesOf(node.types, alias),
      ...this.#conditionsOf(node).map((c) => this.#compare(c, alias)),
    ]
  }

  #edgeSides(edge: EdgePattern, alias: string): string[] {
    const more = edge.name === undefined ? [] : (this.#pattern.where.get(edge.name) ?? [])
    return [
      ...this.#typesOf(edge.types, alias),
      ...[...edge.conditions, ...more].map((c) => this.#compare(c, alias)),
    ]
  }

  #typesOf(types: readonly string[], alias: string): string[] {
    if (types.length === 0) return []
    this.#bound.push(...types)
    return [`${alias}.type in (${types.map(() => '?').join(', ')})`]
  }

  /** Values of one type are compared, as JSON has types; null is nothing's equal. */
  #compare({ property, operator, term }: Condition, alias: string): string {
    const own = property === 'id' || property === 'type'
    const path = pathTo(property)
    const value = own ? `${alias}.${property}` : `json_extract(${alias}.properties, ${path})`
    const type = own ? `'text'` : `json_type(${alias}.properties, ${path})`
    if (operator === 'is null') return `coalesce(${type}, 'null') = 'null'`
    if (operator === 'is not null') return `coalesce(${type}, 'null') <> 'null'`
    const given = 'given' in term ? this.#given(term.given) : term.value
    if (operator === 'in') return this.#among(given, value, type)
    if (Array.isArray(given)) throw new GraphError('NoSuchValue', 'a list is compared by `in`')
    const scalar = given as Scalar
    if (scalar === null) return '0'
    if (typeof scalar === 'boolean') {
      if (operator !== '=' && operator !== '<>')
        throw new GraphError('BadPattern', `\`${operator}\` cannot compare true or false`)
      const wanted = (operator === '=') === scalar ? 'true' : 'false'
      return `${type} = '${wanted}'`
    }
    this.#bound.push(scalar)
    return `(${value} ${operator} ? and ${type} ${JSON_TYPES[typeof scalar as 'number' | 'string']})`
  }

  #among(given: unknown, value: string, type: string): string {
    if (!Array.isArray(given)) throw new GraphError('NoSuchValue', '`in` wants a list')
    if (!given.every((item) => typeof item === 'string' || typeof item === 'number'))
      throw new GraphError('NoSuchValue', 'the list of an `in` holds texts and numbers')
    this.#bound.push(JSON.stringify(given))
    return `(${value} in (select value from json_each(?)) and ${type} in ('text', 'integer', 'real'))`
  }

  #given(name: string): Scalar | readonly Scalar[] {
    const given = Object.hasOwn(this.#values, name) ? this.#values[name] : undefined
    if (given === undefined) throw new GraphError('NoSuchValue', `no value is given for \`$${name}\``)
    return given
  }
}

const JSON_TYPES = { number: `in ('integer', 'real')`, string: `= 'text'` }

/** Written out, so that an index on the same expression serves it. */
function pathTo(property: string): string {
  if (/["\\\0]/.test(property))
    throw new GraphError(
      'BadProperties',
      'the name of a property that is compared has no quotes or backslashes',
    )
  const plain = /^[A-Za-z_][A-Za-z0-9_]*$/.test(property)
  return `'$.${plain ? property : `"${property.replaceAll("'", "''")}"`}'`
}

function whereOf(sides: readonly string[]): string {
  return sides.length === 0 ? '' : ` where ${sides.join(' and ')}`
}

/** How an edge leads away from `here`, and where to. */
function sidesOf(
  { direction }: EdgePattern,
  here: string,
): { readonly there: string; readonly joins: string } {
  if (direction === 'out') return { there: 'e.target', joins: `e.source = ${here}` }
  if (direction === 'in') return { there: 'e.source', joins: `e.target = ${here}` }
  return {
    there: `iif(e.source = ${here}, e.target, e.source)`,
    joins: `(e.source = ${here} or e.target = ${here})`,
  }
}

/** No edge is passed twice. */
function unused(from: string): string {
  return `not exists (select 1 from json_each(${from}.trail) t where t.value = e.id)`
}
