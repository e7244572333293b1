/** From YAML text to manifests: parsed once, here; every error names file, line, column and field. */
import {
  CardError,
  type DefaultsOf,
  exactNumber,
  expandGrantTexts,
  parseCard,
  type RootCard,
} from '@cardinal/cards'
import type { MiddlewareDeclaration } from '@cardinal/middleware'
import {
  CHAT_DEFAULTS,
  type Defaulted,
  defaultedOf,
  defaultsAmong,
  isDeniable,
  type McpAccepted,
  type McpServerDeclaration,
  type ModelDeclaration,
  mcpDefaults,
  mcpTools,
  type SecretBinding,
  type ToolDeclaration,
} from '@cardinal/tools'
import { type Document, isNode, LineCounter, parseAllDocuments, visit } from 'yaml'
import type { z } from 'zod'
import { type AgentDocument, KINDS, type NetworkDocument, type ZoneDocument } from './document.ts'
import { durationMs } from './duration.ts'
import { belowSuffix, suffixOf } from './egress.ts'
import { ManifestError } from './errors.ts'
import { type LimitsDeclaration, limitsOf } from './limits.ts'
import { mcpAcceptedOf, mcpServerOf } from './mcp.ts'
import { middlewareOf } from './middleware.ts'
import { modelOf } from './models.ts'
import { ToolProblem } from './problem.ts'
import { wrongSecret } from './secrets.ts'
import { declarationOf } from './tools.ts'

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
  /** Handles that the program knows, and what each stands for. */
  readonly secrets: Readonly<Record<string, SecretBinding>>
  /** Middleware that binds its cards and all that are taken from them. */
  readonly middleware: readonly string[]
}

export interface ZoneManifest {
  readonly kind: 'Zone'
  readonly file: string
  readonly name: string
  readonly hosts: readonly string[]
  readonly ranges: readonly string[]
}

/** A manifest that declares something for a tenant. */
interface Declares<Kind extends string, Declaration> {
  readonly kind: Kind
  readonly file: string
  readonly tenant: string
  readonly declaration: Declaration
}

export type ToolManifest = Declares<'Tool', ToolDeclaration>
export type MiddlewareManifest = Declares<'Middleware', MiddlewareDeclaration>
export type McpServerManifest = Declares<'McpServer', McpServerDeclaration>
/** What was accepted of a server: its package, and its tools as they described themselves. */
type McpToolsManifest = Declares<'McpTools', McpAccepted>
type ModelManifest = Declares<'Model', ModelDeclaration>
type LimitsManifest = Declares<'Limits', LimitsDeclaration>

export type DeclaringManifest =
  | ToolManifest
  | MiddlewareManifest
  | McpServerManifest
  | McpToolsManifest
  | ModelManifest
  | LimitsManifest

/** Where no agent goes, whatever its card says: hosts as `a.example` or `*.example`, and ranges. */
export interface NetworkManifest {
  readonly kind: 'Network'
  readonly file: string
  readonly name: string
  readonly deny: readonly string[]
}

export type Manifest = AgentManifest | ZoneManifest | NetworkManifest | DeclaringManifest

export interface ParseOptions {
  /** What a tool of a tenant fills in; those that the same documents declare are known besides. */
  readonly defaultsOf: (tool: string, tenant: string) => ReturnType<DefaultsOf>
  readonly isRange: (text: string) => boolean
  /** Digests of components that come with these documents, by what names them (`nameOfComponent`). */
  readonly components?: ReadonlyMap<string, string>
}

/** How a component that a document names is known beside it. */
export function nameOfComponent(kind: string, tenant: string, name: string): string {
  return `${kind} ${tenant}/${name}`
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
  // What declares tools comes first: cards are read by it.
  const others = shapes.map(({ document, source }) => otherOf(document, source, options))
  const defaultsOf: ParseOptions['defaultsOf'] = (tool, tenant) =>
    defaultsAmong(tool, defaultedIn(others, tenant)) ?? options.defaultsOf(tool, tenant)
  return shapes.map(({ document, source }, i) =>
    document.kind === 'Agent'
      ? agentOf(document, source, { ...options, defaultsOf })
      : (others[i] as Exclude<Manifest, AgentManifest>),
  )
}

function otherOf(
  document: Shape['document'],
  source: Source,
  options: ParseOptions,
): Exclude<Manifest, AgentManifest> | undefined {
  const { file } = source
  switch (document.kind) {
    case 'Agent':
      return undefined
    case 'Zone':
      return zoneOf(document, source, options)
    case 'Network':
      return networkOf(document, source)
  }
  const { tenant } = document.metadata
  if (document.kind === 'Limits')
    return belowSpec(source, () => ({ kind: 'Limits', file, tenant, declaration: limitsOf(document) }))
  const digestOf = (component: string) => {
    const known = options.components?.get(nameOfComponent(document.kind, tenant, document.metadata.name))
    if (known !== undefined) return known
    throw new ToolProblem(['wasm', 'component'], `the component \`${component}\` was not sent`)
  }
  return belowSpec(source, () => {
    switch (document.kind) {
      case 'Tool':
        return { kind: 'Tool', file, tenant, declaration: declarationOf(document, digestOf) }
      case 'Middleware':
        return { kind: 'Middleware', file, tenant, declaration: middlewareOf(document, digestOf) }
      case 'Model':
        return { kind: 'Model', file, tenant, declaration: modelOf(document) }
      case 'McpServer':
        return { kind: 'McpServer', file, tenant, declaration: mcpServerOf(document) }
      case 'McpTools':
        return { kind: 'McpTools', file, tenant, declaration: mcpAcceptedOf(document) }
    }
  })
}

/** What is wrong below `spec` is said with its place. */
function belowSpec<T>(source: Source, act: () => T): T {
  try {
    return act()
  } catch (error) {
    if (!(error instanceof ToolProblem)) throw error
    throw at(source, ['spec', ...error.path], error.message)
  }
}

/** Tools of a tenant that these documents declare, with what grants for them fill in. */
function defaultedIn(manifests: readonly (Manifest | undefined)[], tenant: string): Defaulted[] {
  const servers = manifests.flatMap((m) =>
    m?.kind === 'McpServer' && m.tenant === tenant ? [m.declaration] : [],
  )
  const hasModels = manifests.some((m) => m?.kind === 'Model' && m.tenant === tenant)
  const chat = hasModels ? [{ name: 'llm.chat', defaults: CHAT_DEFAULTS }] : []
  return manifests
    .flatMap((m): Defaulted[] => {
      if (m?.kind === 'Tool' && m.tenant === tenant) return [defaultedOf(m.declaration)]
      if (m?.kind !== 'McpTools' || m.tenant !== tenant) return []
      const server = servers.find(({ name }) => name === m.declaration.name)
      return server
        ? mcpTools(server, m.declaration).map((tool) => ({ name: tool.name, defaults: mcpDefaults(tool) }))
        : []
    })
    .concat(chat)
}

interface Shape {
  readonly document: z.infer<(typeof KINDS)[keyof typeof KINDS]>
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

function agentOf({ metadata, spec }: AgentDocument, source: Source, options: ParseOptions): AgentManifest {
  if (spec.card === undefined)
    throw at(
      source,
      ['spec'],
      'a card is missing: authority is never assumed; write `card: { now: [] }` for none',
    )
  const secrets = handlesOf(spec.secrets ?? {}, source)
  return {
    kind: 'Agent',
    file: source.file,
    tenant: metadata.tenant,
    name: metadata.name,
    program: spec.program,
    ...cardOf(spec.card, source, secrets, (tool) => options.defaultsOf(tool, metadata.tenant)),
    timeoutMs: spec.timeout === undefined ? DEFAULT_TIMEOUT_MS : durationMs(spec.timeout),
    idleMs: spec.idle === undefined ? DEFAULT_IDLE_MS : durationMs(spec.idle),
    idempotency: spec.idempotency ?? [],
    secrets,
    middleware: spec.middleware ?? [],
  }
}

function handlesOf(
  given: NonNullable<AgentDocument['spec']['secrets']>,
  source: Source,
): AgentManifest['secrets'] {
  for (const [handle, binding] of Object.entries(given)) {
    const wrong = wrongSecret(binding.ref, binding.tool === 'http.fetch' ? binding.slot : undefined)
    if (wrong) throw at(source, ['spec', 'secrets', handle, wrong.field], wrong.message)
    if (binding.tool !== 'http.fetch') continue
    const { host } = binding
    if (!URL.canParse(`https://${host}`) || new URL(`https://${host}`).host !== host)
      throw at(source, ['spec', 'secrets', handle, 'host'], `\`${host}\` is no host as it stands in URLs`)
  }
  return given
}

function cardOf(
  written: unknown,
  source: Source,
  secrets: AgentManifest['secrets'],
  defaultsOf: DefaultsOf,
): Pick<AgentManifest, 'card' | 'cardSource'> {
  try {
    const given = withSecrets(expandGrantTexts(written, 'spec.card'), secrets)
    const card = parseCard(given, 'spec.card', defaultsOf)
    for (const side of ['now', 'ever'] as const) {
      const grants = (given as Record<string, unknown>)[side]
      if (!Array.isArray(grants)) continue
      grants.forEach((grant: object, i) => {
        // Of an agent, methods are what its program calls them.
        const { tool, method } = grant as { tool: string; method?: unknown }
        const suffix = suffixOf(grant)
        if (suffix !== undefined)
          throw new CardError('BadGrant', `spec.card.${side}[${i}].host`, belowSuffix(suffix))
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

/** Grants name handles as the program does; a card is of secrets, whatever some program calls them. */
function withSecrets(card: unknown, secrets: AgentManifest['secrets']): unknown {
  if (typeof card !== 'object' || card === null) return card
  const grants = (given: unknown) =>
    Array.isArray(given) ? given.map((grant) => named(grant, secrets)) : given
  return Object.fromEntries(
    Object.entries(card).map(([key, value]) => [
      key,
      key === 'now' || key === 'ever' ? grants(value) : value,
    ]),
  )
}

function named(grant: unknown, secrets: AgentManifest['secrets']): unknown {
  const { secret } = (grant ?? {}) as { secret?: unknown }
  const known = typeof secret === 'string' && Object.hasOwn(secrets, secret) ? secrets[secret] : undefined
  return known ? { ...(grant as object), secret: known.ref } : grant
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
