/** From YAML text to manifests: parsed once, here; every error names file, line, column and field. */
import {
  CardError,
  type DefaultsOf,
  exactNumber,
  expandGrantTexts,
  parseCard,
  type RootCard,
} from '@cardinal/cards'
import { defaultsAmong, isDeniable, type ToolDeclaration } from '@cardinal/tools'
import { type Document, isNode, LineCounter, parseAllDocuments, visit } from 'yaml'
import {
  type AgentDocument,
  KINDS,
  type NetworkDocument,
  type ToolDocument,
  type ZoneDocument,
} from './document.ts'
import { ManifestError } from './errors.ts'
import { declarationOf, ToolProblem } from './tools.ts'

export interface AgentManifest {
  readonly kind: 'Agent'
  readonly file: string
  readonly tenant: string
  readonly name: string
  readonly program: string
  readonly card: RootCard
  /** The card as written, to be parsed anew from the record. */
  readonly cardSource: unknown
  readonly timeoutMs: number
  readonly idleMs: number
  readonly idempotency: readonly { host: string; method: string[]; header: string }[]
}

export interface ZoneManifest {
  readonly kind: 'Zone'
  readonly file: string
  readonly name: string
  readonly hosts: readonly string[]
  readonly ranges: readonly string[]
}

export interface ToolManifest {
  readonly kind: 'Tool'
  readonly file: string
  readonly tenant: string
  readonly declaration: ToolDeclaration
}

/** Where no agent goes, whatever its card says: hosts as `a.example` or `*.example`, and ranges. */
interface NetworkManifest {
  readonly kind: 'Network'
  readonly file: string
  readonly name: string
  readonly deny: readonly string[]
}

export type Manifest = AgentManifest | ZoneManifest | NetworkManifest | ToolManifest

export interface ParseOptions {
  /** What a tool of a tenant fills in; those that the same documents declare are known besides. */
  readonly defaultsOf: (tool: string, tenant: string) => ReturnType<DefaultsOf>
  readonly isRange: (text: string) => boolean
}

const DEFAULT_TIMEOUT_MS = 3_600_000
const DEFAULT_IDLE_MS = 30_000

interface Source {
  readonly file: string
  readonly document: Document
  readonly lines: LineCounter
}

export interface ManifestFile {
  readonly file: string
  readonly text: string
}

/** Parses all documents of a file. Anchors, merge keys, duplicate keys and unknown fields are errors. */
export function parseManifests(text: string, file: string, options: ParseOptions): Manifest[] {
  return parseFiles([{ file, text }], options)
}

/** Parses files that belong together: a card may name a tool that any of them declares. */
export function parseFiles(files: readonly ManifestFile[], options: ParseOptions): Manifest[] {
  const shapes = files.flatMap(({ text, file }) => shapesOf(text, file))
  const tools = shapes.map(({ document, source }) =>
    document.kind === 'Tool' ? toolOf(document, source) : undefined,
  )
  const defaultsOf: ParseOptions['defaultsOf'] = (tool, tenant) => {
    const own = tools.flatMap((t) => (t?.tenant === tenant ? t.declaration : []))
    return defaultsAmong(tool, own) ?? options.defaultsOf(tool, tenant)
  }
  return shapes.map(({ document, source }, i) => {
    if (document.kind === 'Agent') return agentOf(document, source, { ...options, defaultsOf })
    if (document.kind === 'Network') return networkOf(document, source)
    return document.kind === 'Zone' ? zoneOf(document, source, options) : (tools[i] as ToolManifest)
  })
}

interface Shape {
  readonly document: AgentDocument | ZoneDocument | NetworkDocument | ToolDocument
  readonly source: Source
}

function shapesOf(text: string, file: string): Shape[] {
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, {
    strict: true,
    uniqueKeys: true,
    merge: false,
    lineCounter: lines,
  })
  if (!Array.isArray(documents)) return []
  return documents
    .filter((d) => d.contents !== null || d.errors.length > 0)
    .map((document) => shapeOf({ file, document, lines }))
}

function shapeOf(source: Source): Shape {
  const [problem] = source.document.errors
  if (problem)
    throw new ManifestError(
      place(source, problem.pos[0]),
      '',
      (problem.message.split('\n')[0] ?? '').replace(/ at line .*$/, ''),
    )
  let given: unknown
  try {
    given = source.document.toJS({ maxAliasCount: 0 })
  } catch {
    throw new ManifestError(place(source, 0), '', 'anchors and aliases are not allowed')
  }
  visit(source.document, {
    Scalar: (_key, node) => {
      if (typeof node.value !== 'number' || exactNumber(node.source ?? '') !== undefined) return
      const message = `\`${node.source}\` is no plain number that is kept exactly; write it in quotes`
      throw new ManifestError(place(source, node.range?.[0] ?? 0), '', message)
    },
  })
  const odd = ownProto(given, [])
  if (odd) throw at(source, odd, 'unknown field `__proto__`')
  const kind = (given as { kind?: unknown } | null)?.kind
  const schema =
    typeof kind === 'string' && Object.hasOwn(KINDS, kind) ? KINDS[kind as keyof typeof KINDS] : undefined
  if (kind === undefined)
    throw at(
      source,
      [],
      'a document without `kind`; it begins with `apiVersion: cardinal/v1` and `kind: Agent`',
    )
  if (!schema)
    throw at(source, ['kind'], `unknown kind \`${String(kind)}\`; there are ${Object.keys(KINDS).join(', ')}`)
  const parsed = schema.safeParse(given)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined
    const keyIssue = issue?.code === 'invalid_key' ? issue.issues[0]?.message : undefined
    const path = [...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])]
    throw at(
      source,
      path as (string | number)[],
      unknown === undefined ? (keyIssue ?? issue?.message ?? 'not valid') : `unknown field \`${unknown}\``,
    )
  }
  return { document: parsed.data, source }
}

/** Where a document has a key that most readers would lose without a word. */
function ownProto(value: unknown, path: readonly (string | number)[]): (string | number)[] | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (Object.hasOwn(value, '__proto__')) return [...path, '__proto__']
  for (const [key, below] of Object.entries(value)) {
    const found = ownProto(below, [...path, Array.isArray(value) ? Number(key) : key])
    if (found) return found
  }
  return undefined
}

function toolOf(document: ToolDocument, source: Source): ToolManifest {
  try {
    const declaration = declarationOf(document)
    return { kind: 'Tool', file: source.file, tenant: document.metadata.tenant, declaration }
  } catch (error) {
    if (!(error instanceof ToolProblem)) throw error
    throw at(source, ['spec', ...error.path], error.message)
  }
}

function agentOf({ metadata, spec }: AgentDocument, source: Source, options: ParseOptions): AgentManifest {
  if (spec.card === undefined)
    throw at(
      source,
      ['spec'],
      'a card is missing: authority is never assumed; write `card: { now: [] }` for none',
    )
  return {
    kind: 'Agent',
    file: source.file,
    tenant: metadata.tenant,
    name: metadata.name,
    program: spec.program,
    ...cardOf(spec.card, source, (tool) => options.defaultsOf(tool, metadata.tenant)),
    timeoutMs: spec.timeout === undefined ? DEFAULT_TIMEOUT_MS : durationMs(spec.timeout),
    idleMs: spec.idle === undefined ? DEFAULT_IDLE_MS : durationMs(spec.idle),
    idempotency: spec.idempotency ?? [],
  }
}

/** Fields of a grant that this version parses but cannot enforce are refused, never ignored. */
const LATER: Record<string, string> = { secret: 'secrets' }

function cardOf(
  written: unknown,
  source: Source,
  defaultsOf: DefaultsOf,
): Pick<AgentManifest, 'card' | 'cardSource'> {
  try {
    const given = expandGrantTexts(written, 'spec.card')
    const card = parseCard(given, 'spec.card', defaultsOf)
    for (const side of ['now', 'ever'] as const) {
      const grants = (given as Record<string, unknown>)[side]
      if (!Array.isArray(grants)) continue
      grants.forEach((grant: object, i) => {
        const later = Object.keys(grant).find((key) => Object.hasOwn(LATER, key))
        if (later)
          throw new CardError(
            'BadGrant',
            `spec.card.${side}[${i}].${later}`,
            `\`${later}\` needs ${LATER[later]}, which this version does not have yet`,
          )
        // Of an agent, methods are what its program calls them.
        const { tool, method } = grant as { tool: string; method?: unknown }
        const small = (tool.startsWith('agent.') ? [] : [method].flat()).find((m) =>
          /[a-z]/.test(String(m ?? '')),
        )
        if (small !== undefined)
          throw new CardError(
            'BadGrant',
            `spec.card.${side}[${i}].method`,
            `\`${String(small)}\` would match no request; write \`${String(small).toUpperCase()}\``,
          )
      })
    }
    return { card, cardSource: given }
  } catch (error) {
    if (!(error instanceof CardError)) throw error
    throw at(source, splitPath(error.path), error.message)
  }
}

function zoneOf({ metadata, spec }: ZoneDocument, source: Source, options: ParseOptions): ZoneManifest {
  const bad = spec.ranges.findIndex((range) => !options.isRange(range))
  if (bad >= 0)
    throw at(source, ['spec', 'ranges', bad], `\`${spec.ranges[bad]}\` is no range, as 10.1.0.0/16`)
  return { kind: 'Zone', file: source.file, name: metadata.name, hosts: spec.hosts, ranges: spec.ranges }
}

function networkOf({ metadata, spec }: NetworkDocument, source: Source): NetworkManifest {
  const bad = spec.deny.findIndex((text) => !isDeniable(text))
  if (bad >= 0)
    throw at(
      source,
      ['spec', 'deny', bad],
      `\`${spec.deny[bad]}\` is no host as in URLs (\`*.example.com\`), address, or range (10.1.0.0/16)`,
    )
  return { kind: 'Network', file: source.file, name: metadata.name, deny: spec.deny }
}

function durationMs(text: string): number {
  const unit = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[text.replace(/^[\d.]+/, '') as 'ms']
  return Number.parseFloat(text) * unit
}

function splitPath(path: string): (string | number)[] {
  return path
    .replace(/\[(\d+)\]/g, '.$1')
    .split('.')
    .filter((s) => s !== '')
    .map((s) => (/^\d+$/.test(s) ? Number(s) : s))
}

function place(source: Source, offset: number): { file: string; line: number; col: number } {
  return { file: source.file, ...source.lines.linePos(offset) }
}

/** The error at a field, or at the nearest field above it that is there. */
function at(source: Source, path: readonly (string | number)[], message: string): ManifestError {
  for (let length = path.length; length > 0; length--) {
    const node = source.document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) {
      const shown = path
        .map((p) => (typeof p === 'number' ? `[${p}]` : `.${p}`))
        .join('')
        .replace(/^\./, '')
      return new ManifestError(
        place(source, keyStart(source, path.slice(0, length)) ?? node.range[0]),
        shown,
        message,
      )
    }
  }
  const start = isNode(source.document.contents) ? (source.document.contents.range?.[0] ?? 0) : 0
  return new ManifestError(place(source, start), path.join('.'), message)
}

/** Where the key itself stands, which is where a person looks for a field. */
function keyStart(source: Source, path: readonly (string | number)[]): number | undefined {
  const parent = path.length === 1 ? source.document.contents : source.document.getIn(path.slice(0, -1), true)
  const items = (parent as { items?: { key?: { value?: unknown; range?: [number] } }[] } | undefined)?.items
  const pair = items?.find((item) => item?.key?.value === path.at(-1))
  return pair?.key?.range?.[0]
}
