/**
 * The graph of an agent: nodes and edges with a type and properties, in tables of its home. What it
 * changes is one cut with tables, files and memory, and rolls back with the program's own transaction.
 *
 * Properties are JSON. The tables `cardinal_nodes(id, type, properties)` and `cardinal_edges(id, source,
 * type, target, key, properties)` can be queried and joined like any other.
 *
 * @example
 * import { graph } from '@cardinal/sdk/graph'
 * graph.putNode('ann', 'person', { born: 1980 })
 * graph.putNode('acme', 'company')
 * graph.putEdge('ann', 'owns', 'acme', { share: 0.4 })
 * graph.neighbours('acme', { direction: 'in', edge: 'owns' }) // [{ node: { id: 'ann', … }, edge: { … } }]
 * graph.match('(p:person)-[:owns*1..4]->(c:company) where p.born < $year', { year: 1990 })
 */
import type { HomeValue } from '../guest/home.ts'
import type { Json } from '../types.ts'
import { GraphError } from './graph-error.ts'
import { parsePattern } from './graph-pattern.ts'
import { type Query, queryOf, type Values } from './graph-query.ts'
import { agentHome, homeRows } from './host-home.ts'

export { type GraphCode, GraphError } from './graph-error.ts'

const { atomically, isMissingTable, rowsIfAny } = homeRows

export type Properties = { readonly [name: string]: Json }

export interface Node {
  readonly id: string
  readonly type: string
  readonly properties: Properties
}

export interface Edge {
  /** Drawn by the graph; the same as long as the edge is there. */
  readonly id: number
  readonly from: string
  readonly type: string
  readonly to: string
  /** Tells edges of one type between the same nodes apart; empty for the only one. */
  readonly key: string
  readonly properties: Properties
}

export interface Path {
  readonly nodes: readonly Node[]
  readonly edges: readonly Edge[]
}

export interface Follow {
  /** `out` if left out. */
  readonly direction?: 'out' | 'in' | 'both'
  /** Types of edges; left out: all. */
  readonly edge?: string | readonly string[]
}

/** What a name of a pattern stands for; edges that repeat are a list. */
export type Match = Record<string, Node | Edge | readonly Edge[] | Path>

const SCHEMA = `
  create table if not exists cardinal_nodes(
    id text primary key, type text not null,
    properties text not null default '{}' check (json_type(properties) = 'object')) without rowid;
  create index if not exists cardinal_nodes_by_type on cardinal_nodes(type);
  create table if not exists cardinal_edges(
    id integer primary key, source text not null references cardinal_nodes(id) on delete cascade,
    type text not null, target text not null references cardinal_nodes(id) on delete cascade,
    key text not null default '', properties text not null default '{}' check (json_type(properties) = 'object'),
    unique(source, type, target, key));
  create index if not exists cardinal_edges_by_target on cardinal_edges(target, type)`
const NODE = 'id, type, properties'
const EDGE = 'id, source, type, target, key, properties'
/** Without a limit nothing is left out in silence: more than this is an error. */
const MAX_FOUND = 100_000
const DEPTH = 32

/** One statement. The tables are made when the first node is. */
function change(sql: string, ...values: HomeValue[]): boolean {
  try {
    return agentHome.run(sql, values).changes > 0
  } catch (error) {
    if (!isMissingTable(error)) throw error
    return atomically(() => {
      agentHome.exec(SCHEMA)
      return agentHome.run(sql, values).changes > 0
    })
  }
}

function requireText(given: unknown, what: string): string {
  if (typeof given === 'string' && given !== '') return given
  throw new GraphError('BadName', `${what} is a text, and not empty`)
}

function encode(properties: Properties): string {
  if (typeof properties !== 'object' || properties === null || Array.isArray(properties))
    throw new GraphError('BadProperties', 'properties are an object')
  let text: string | undefined
  try {
    text = JSON.stringify(properties)
  } catch (error) {
    throw new GraphError('BadProperties', `properties are JSON: ${(error as Error).message}`)
  }
  return text
}

type Cells = readonly unknown[]

function toNode([id, type, properties]: Cells): Node {
  return { id, type, properties: JSON.parse(properties as string) } as Node
}

function toEdge([id, from, type, to, key, properties]: Cells): Edge {
  return { id, from, type, to, key, properties: JSON.parse(properties as string) } as Edge
}

function limited<T>(found: T[], limit: number | undefined): T[] {
  if (limit === undefined && found.length > MAX_FOUND)
    throw new GraphError(
      'TooMany',
      `more than ${MAX_FOUND} were found; ask for less, or for the first with \`limit\``,
    )
  return found
}

function atMost(limit: number | undefined): number {
  if (limit === undefined) return MAX_FOUND + 1
  if (Number.isSafeInteger(limit) && limit >= 0) return limit
  throw new GraphError('BadName', '`limit` is a number of results')
}

function typesOf({ edge }: Follow): string | null {
  if (edge === undefined) return null
  return JSON.stringify(typeof edge === 'string' ? [edge] : edge)
}

/** The two ways to go along edges: by which end a node is found, and where that leads. */
function waysOf({
  direction = 'out',
}: Follow): readonly (readonly ['source' | 'target', 'target' | 'source'])[] {
  if (direction === 'out') return [['source', 'target']]
  if (direction === 'in') return [['target', 'source']]
  return [
    ['source', 'target'],
    ['target', 'source'],
  ]
}

const OF_TYPES = '(?2 is null or type in (select value from json_each(?2)))'

/** Edges that lead on from any of these nodes, in their own order. */
function edgesFrom(ids: readonly string[], follow: Follow): { readonly edge: Edge; readonly to: string }[] {
  const found: { edge: Edge; to: string }[] = []
  const given = JSON.stringify(ids)
  for (const [here, there] of waysOf(follow)) {
    // A loop is one edge, whichever way one goes along it.
    const once = there === 'source' && waysOf(follow).length > 1 ? ' and source <> target' : ''
    const sql = `select ${EDGE}, ${there} from cardinal_edges where ${here} in (select value from json_each(?1)) and ${OF_TYPES}${once}`
    for (const row of rowsIfAny(sql, given, typesOf(follow)))
      found.push({ edge: toEdge(row), to: row[6] as string })
  }
  return found.sort((a, b) => a.edge.id - b.edge.id)
}

function nodesById(ids: Iterable<string>): Map<string, Node> {
  const sql = `select ${NODE} from cardinal_nodes where id in (select value from json_each(?))`
  const found = rowsIfAny(sql, JSON.stringify([...ids])).map(toNode)
  return new Map(found.map((node) => [node.id, node]))
}

function edgesById(ids: Iterable<number>): Map<number, Edge> {
  const sql = `select ${EDGE} from cardinal_edges where id in (select value from json_each(?))`
  const found = rowsIfAny(sql, JSON.stringify([...ids])).map(toEdge)
  return new Map(found.map((edge) => [edge.id, edge]))
}

/** Nodes layer by layer, each once, with the edge that led there first; until `act` says that it is enough. */
function spread(start: string, follow: Follow, depth: number, act: (id: string, hops: number) => boolean) {
  if (!Number.isSafeInteger(depth) || depth < 1)
    throw new GraphError('BadName', '`depth` is a number of edges')
  const came = new Map<string, { edge: Edge; from: string } | undefined>([[start, undefined]])
  let layer = [start]
  for (let hops = 1; hops <= depth && layer.length > 0; hops++) {
    const next: string[] = []
    for (const { edge, to } of edgesFrom(layer, follow)) {
      if (came.has(to)) continue
      if (came.size > MAX_FOUND)
        throw new GraphError('TooMany', `more than ${MAX_FOUND} nodes are within reach`)
      came.set(to, { edge, from: to === edge.to ? edge.from : edge.to })
      next.push(to)
      if (act(to, hops)) return came
    }
    layer = next
  }
  return came
}

/** A row of a match, with its ids in the place of nodes and edges. */
function namesOf(query: Query, row: Cells) {
  const trail = JSON.parse(row[query.nodeCount] as string) as number[]
  const lengthAfter = (edges: number) => (edges === 0 ? 0 : (row[query.nodeCount + edges] as number))
  const edgesOf = (from: number, to: number) => trail.slice(lengthAfter(from), lengthAfter(to))
  return { trail, edgesOf }
}

export const graph = {
  /** Makes a node, or puts its type and properties in the place of those that it had. */
  putNode(id: string, type: string, properties: Properties = {}): Node {
    const text = encode(properties)
    const values = [requireText(id, 'the id of a node'), requireText(type, 'the type of a node'), text]
    const sql =
      'insert into cardinal_nodes(id, type, properties) values (?, ?, ?) on conflict(id) do update set type = excluded.type, properties = excluded.properties'
    change(sql, ...values)
    return { id, type, properties: JSON.parse(text) }
  },

  node(id: string): Node | undefined {
    const [row] = rowsIfAny(
      `select ${NODE} from cardinal_nodes where id = ?`,
      requireText(id, 'the id of a node'),
    )
    return row && toNode(row)
  },

  /** Removes a node with all edges from it and to it; false: there was none. */
  removeNode(id: string): boolean {
    const sql = 'delete from cardinal_nodes where id = ?'
    return change(sql, requireText(id, 'the id of a node'))
  },

  /** Nodes of a type, or all, by id. `where` compares properties as a pattern does. */
  nodes(about: { readonly type?: string; readonly where?: Values; readonly limit?: number } = {}): Node[] {
    const { type, where = {}, limit } = about
    const pattern = {
      chains: [
        {
          name: undefined,
          nodes: [{ name: 'n', types: type === undefined ? [] : [type], conditions: [] }],
          edges: [],
        },
      ],
      where: new Map([['n', Object.keys(where).map((property) => equals(property, where[property]))]]),
    }
    const query = queryOf(pattern, where, atMost(limit), 'order by n0')
    const found = rowsIfAny(query.sql, ...query.values).map(([id]) => id as string)
    const known = nodesById(limited(found, limit))
    return found.map((id) => known.get(id) as Node)
  },

  /**
   * Makes an edge between two nodes that are there, or replaces the properties of the one that is. A second
   * edge of that type between them has another `key`. `NoSuchNode` names the one that is missing.
   */
  putEdge(
    from: string,
    type: string,
    to: string,
    properties: Properties = {},
    { key = '' }: { key?: string } = {},
  ): Edge {
    const text = encode(properties)
    requireText(type, 'the type of an edge')
    for (const id of [from, to])
      if (!graph.node(id)) throw new GraphError('NoSuchNode', `there is no node \`${id}\``)
    const sql =
      'insert into cardinal_edges(source, type, target, key, properties) values (?, ?, ?, ?, ?) on conflict(source, type, target, key) do update set properties = excluded.properties'
    change(sql, from, type, to, key, text)
    return graph.edge(from, type, to, { key }) as Edge
  },

  edge(from: string, type: string, to: string, { key = '' }: { key?: string } = {}): Edge | undefined {
    const sql = `select ${EDGE} from cardinal_edges where source = ? and type = ? and target = ? and key = ?`
    const [row] = rowsIfAny(sql, from, type, to, key)
    return row && toEdge(row)
  },

  /** Removes an edge; false: there was none. */
  removeEdge(from: string, type: string, to: string, { key = '' }: { key?: string } = {}): boolean {
    const sql = 'delete from cardinal_edges where source = ? and type = ? and target = ? and key = ?'
    return change(sql, from, type, to, key)
  },

  /** What is one edge away, with that edge; in the order in which edges were made. */
  neighbours(
    id: string,
    follow: Follow & { readonly type?: string; readonly limit?: number } = {},
  ): { node: Node; edge: Edge }[] {
    const found = edgesFrom([requireText(id, 'the id of a node')], follow)
    const nodes = nodesById(new Set(found.map(({ to }) => to)))
    const all = found.map(({ edge, to }) => ({ node: nodes.get(to) as Node, edge }))
    const wanted = follow.type === undefined ? all : all.filter(({ node }) => node.type === follow.type)
    return limited(wanted.slice(0, atMost(follow.limit)), follow.limit)
  },

  /** Every node that can be reached within `depth` edges (32 if left out), nearest first, each once. */
  reach(
    id: string,
    follow: Follow & { readonly depth?: number; readonly limit?: number } = {},
  ): { node: Node; depth: number }[] {
    const limit = atMost(follow.limit)
    const found: [string, number][] = []
    if (limit > 0)
      spread(
        requireText(id, 'the id of a node'),
        follow,
        follow.depth ?? DEPTH,
        (to, hops) => found.push([to, hops]) >= limit,
      )
    const nodes = nodesById(found.map(([to]) => to))
    return found.map(([to, depth]) => ({ node: nodes.get(to) as Node, depth }))
  },

  /** A path of the fewest edges, `depth` at most (32 if left out); of several the one of the oldest edges. */
  shortestPath(
    from: string,
    to: string,
    follow: Follow & { readonly depth?: number } = {},
  ): Path | undefined {
    const [start] = nodesById([requireText(from, 'the id of a node')]).values()
    if (!start) return undefined
    if (from === to) return { nodes: [start], edges: [] }
    const came = spread(from, follow, follow.depth ?? DEPTH, (id) => id === to)
    const edges: Edge[] = []
    const ids = [to]
    for (let at = came.get(to); at; at = came.get(at.from)) {
      edges.unshift(at.edge)
      ids.unshift(at.from)
    }
    if (edges.length === 0) return undefined
    const nodes = nodesById(ids)
    return { nodes: ids.map((id) => nodes.get(id) as Node), edges }
  },

  /**
   * What fits a pattern, such as `(a:person {id: $who})-[k:knows*1..3]->(b) where b.born >= 1980`: one object
   * a match, by the names of the pattern. No edge is passed twice in a match. Their order is SQLite's own.
   *
   * `limit`: so many at most; without it more than 100,000 are `TooMany`.
   */
  match(pattern: string, values: Values = {}, { limit }: { readonly limit?: number } = {}): Match[] {
    const query = queryOf(parsePattern(pattern), values, atMost(limit))
    const found = limited(rowsIfAny(query.sql, ...query.values), limit)
    const named = found.map((row) => ({ row, ...namesOf(query, row) }))
    const edges = edgesById(new Set(named.flatMap(({ trail }) => trail)))
    const ids = new Set(found.flatMap((row) => row.slice(0, query.nodeCount) as string[]))
    for (const { from, to } of edges.values()) ids.add(from).add(to)
    const nodes = nodesById(ids)
    const edgeOf = (id: number) => edges.get(id) as Edge
    const nodeOf = (id: unknown) => nodes.get(id as string) as Node
    return named.map(({ row, edgesOf }) => {
      const match: Match = {}
      for (const [name, index] of query.nodes) if (!name.startsWith(' ')) match[name] = nodeOf(row[index])
      for (const [name, { index, list }] of query.edges) {
        const passed = edgesOf(index, index + 1).map(edgeOf)
        match[name] = list ? passed : (passed[0] as Edge)
      }
      for (const [name, { start, from, to }] of query.paths) {
        const passed = edgesOf(from, to).map(edgeOf)
        match[name] = { nodes: along(row[start] as string, passed).map(nodeOf), edges: passed }
      }
      return match
    })
  },
}

function equals(property: string, value: unknown) {
  return {
    property,
    operator: value === null ? ('is null' as const) : ('=' as const),
    term: { given: property },
  }
}

/** The nodes that edges lead through, one after the other. */
function along(start: string, edges: readonly Edge[]): string[] {
  const ids = [start]
  for (const { from, to } of edges) ids.push(ids.at(-1) === from ? to : from)
  return ids
}
