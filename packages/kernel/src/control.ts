/**
 * The control plane: tenants, applied generations, zones. All of it is in the log, under the node's
 * own chain; this is that chain folded.
 */
import { codec, type Grant, parseCard, parseRecordJson, type RootCard, type World } from '@cardinal/cards'
import type { MiddlewareDeclaration } from '@cardinal/middleware'
import type { Entry, KeySlots, Log, PayloadKey, Pos, ScannedEntry, Tip } from '@cardinal/oplog'
import { NO_POS, type Seq, ZERO_HASH } from '@cardinal/oplog'
import {
  CHAT_DEFAULTS,
  type Defaulted,
  defaultedOf,
  type McpAccepted,
  type McpServerDeclaration,
  type McpToolDeclaration,
  type ModelDeclaration,
  mcpDefaults,
  mcpTools,
  type Network,
  type SecretBinding,
  type ToolDeclaration,
  type Zone,
} from '@cardinal/tools'
import { appendEntry, type Sink } from './append.ts'
import type { AuthorityMeta, AuthorityPayload } from './authority-wire.ts'
import { KernelError } from './errors.ts'

export const NODE_AGENT = Buffer.alloc(16)

/** What an operator says of the door out. */
export type Egress =
  | { readonly kind: 'zone'; readonly is: Zone }
  | { readonly kind: 'network'; readonly is: Network }

/** How a server is reached, or what was accepted of it. */
export type McpWish =
  | { readonly kind: 'mcp-server'; readonly is: McpServerDeclaration }
  | { readonly kind: 'mcp-tools'; readonly is: McpAccepted }

/** One applied version of an agent's manifest. */
export interface Generation {
  readonly tenant: string
  readonly name: string
  readonly generation: number
  readonly image: string
  readonly card: RootCard
  readonly timeoutMs: number
  readonly idleMs: number
  readonly idempotency: readonly { host: string; method: string[]; header: string }[]
  readonly secrets: Readonly<Record<string, SecretBinding>>
  /** Middleware that stands before whatever is done under its cards, or those taken from them. */
  readonly middleware: readonly string[]
  /** Text that is equal exactly if the manifest and its program are. */
  readonly wish: string
}

export interface AppliedBody {
  readonly card: unknown
  readonly timeoutMs: number
  readonly idleMs: number
  readonly idempotency: Generation['idempotency']
  /** Left out: none. */
  readonly secrets?: Generation['secrets']
  readonly middleware?: Generation['middleware']
}

/** A version of an agent's manifest that is to be applied. */
export interface AgentWish {
  readonly tenant: string
  readonly name: string
  readonly image: string
  readonly body: AppliedBody
}

/** What became of a secret of the vault, and by whom: an operator, or the effect that captured it. */
export interface SecretMeta {
  readonly tenant: string
  readonly name: string
  readonly version: number
  readonly what: string
  readonly by: string
}

interface AppliedMeta {
  readonly tenant: string
  readonly name: string
  readonly generation: number
  readonly image: string
}

/** Where one applied version of an agent's manifest stands. */
interface AppliedRow {
  readonly generation: number
  readonly image: string
  readonly pos: Pos
  readonly timeMs: number
}

/** One applied version of a declared tool or middleware. */
interface Declared<T> {
  readonly generation: number
  readonly declaration: T
  readonly wish: string
}

type DefaultsOf = (tool: string, tenant: string) => ReturnType<Parameters<typeof parseCard>[2]>

/** A confinement by the host, as it is on record. */
export interface ConfinementData {
  readonly id: string
  /** `tenant`, `tenant/type` or `tenant/type/key`. */
  readonly target: string
  readonly ceiling?: readonly Grant[]
  readonly flow?: readonly string[]
}

/** Acts of the host that change rows of cards and nothing here. */
const ROWS_ONLY = new Set(['minted', 'revoked', 'erased'])

export class Control {
  readonly #sink: Sink & { readonly log: Log }
  readonly #slots: KeySlots
  readonly #defaultsOf: DefaultsOf
  readonly #generations = new Map<string, Generation>()
  readonly #tenants = new Map<string, PayloadKey>()
  readonly #zones = new Map<string, Zone>()
  readonly #networks = new Map<string, Network>()
  #egressVersion = 0
  readonly #tools = new Map<string, Declared<ToolDeclaration>>()
  readonly #models = new Map<string, Declared<ModelDeclaration>>()
  readonly #modelsOf = new Map<string, readonly ModelDeclaration[]>()
  readonly #servers = new Map<string, Declared<McpServerDeclaration>>()
  readonly #accepted = new Map<string, Declared<McpAccepted>>()
  readonly #mcpTools = new Map<string, readonly McpToolDeclaration[]>()
  readonly #ofTenant = new Map<string, readonly MiddlewareDeclaration[]>()
  readonly #middleware = new Map<string, Declared<MiddlewareDeclaration>>()
  readonly #confinements = new Map<string, ConfinementData>()
  /** The newest version of each secret that was ever on record. */
  readonly #secrets = new Map<string, number>()
  readonly #exported: (readonly [string, string])[] = []
  readonly #history = new Map<string, AppliedRow[]>()
  /** Which SQLite answers from which position on. */
  readonly #sqlite: { readonly pos: Pos; readonly version: string }[] = []
  #tip: Tip = { pos: NO_POS, seq: 0 as Seq, hash: ZERO_HASH }
  #key: PayloadKey | undefined

  constructor(sink: Sink & { readonly log: Log }, slots: KeySlots, defaultsOf: DefaultsOf) {
    this.#sink = sink
    this.#slots = slots
    this.#defaultsOf = defaultsOf
  }

  /** Folds the node's own entries, found by the scan. Those that only concern rows are not read. */
  restore(scanned: readonly ScannedEntry[]): void {
    for (const { pos, header, hash } of scanned) {
      if (ROWS_ONLY.has(header.kind)) this.#tip = { pos, seq: header.seq, hash }
      else this.take(this.#sink.log.read(pos))
    }
  }

  /** Folds one of the node's own entries. */
  take(entry: Entry): void {
    const { pos } = entry
    this.#tip = { pos, seq: entry.header.seq, hash: entry.hash }
    if (ROWS_ONLY.has(entry.header.kind)) return
    const meta = JSON.parse(entry.header.meta) as Record<string, unknown>
    if (entry.header.kind === 'node') this.#key = this.#slots.open(meta.slot as number)
    else if (entry.header.kind === 'secret') this.#foldSecret(meta as unknown as SecretMeta)
    else if (entry.header.kind === 'sqlite') this.#sqlite.push({ pos, version: meta.version as string })
    else if (entry.header.kind === 'tenant')
      this.#tenants.set(meta.name as string, this.#slots.open(meta.slot as number))
    else
      this.#fold(
        entry.header.kind,
        meta,
        entry.payloads(() => this.#key as PayloadKey),
        entry.header.timeMs,
      )
  }

  #fold(kind: string, meta: Record<string, unknown>, payloads: readonly Buffer[], timeMs: number): void {
    const body = payloads[0] ? parseRecordJson(payloads[0].toString()) : undefined
    if (kind === 'zone') this.#zones.set((body as Zone).name, body as Zone)
    if (kind === 'network') this.#networks.set((body as Network).name, body as Network)
    if (kind === 'zone' || kind === 'network') this.#egressVersion++
    if (kind === 'tool') {
      const { tenant, name, generation } = meta as unknown as AppliedMeta
      const wish = JSON.stringify(body)
      this.#tools.set(`${tenant}/${name}`, { generation, declaration: body as ToolDeclaration, wish })
    }
    if (kind === 'model') {
      const { tenant, name, generation } = meta as unknown as AppliedMeta
      const wish = JSON.stringify(body)
      this.#models.set(`${tenant}/${name}`, { generation, declaration: body as ModelDeclaration, wish })
      this.#modelsOf.delete(tenant)
    }
    if (kind === 'mcp-server' || kind === 'mcp-tools') {
      const { tenant, name, generation } = meta as unknown as AppliedMeta
      const wish = JSON.stringify(body)
      const declared = { generation, wish }
      if (kind === 'mcp-server')
        this.#servers.set(`${tenant}/${name}`, { ...declared, declaration: body as McpServerDeclaration })
      else this.#accepted.set(`${tenant}/${name}`, { ...declared, declaration: body as McpAccepted })
      this.#mcpTools.delete(tenant)
    }
    if (kind === 'middleware') {
      const { tenant, name, generation } = meta as unknown as AppliedMeta
      const wish = JSON.stringify(body)
      this.#middleware.set(`${tenant}/${name}`, {
        generation,
        declaration: body as MiddlewareDeclaration,
        wish,
      })
      this.#ofTenant.delete(tenant)
    }
    if (kind === 'confined') this.#confinements.set((body as ConfinementData).id, body as ConfinementData)
    if (kind === 'exported') this.#exported.push(...(body as { blocks: [string, string][] }).blocks)
    if (kind === 'lifted') this.#confinements.delete((body as ConfinementData).id)
    if (kind !== 'applied') return
    const { tenant, name, generation, image } = meta as unknown as AppliedMeta
    const { card, timeoutMs, idleMs, idempotency, secrets = {}, middleware = [] } = body as AppliedBody
    const parsed = parseCard(card, 'spec.card', (tool) => this.#defaultsOf(tool, tenant))
    const wish = wishText({ image, body: body as AppliedBody })
    const rows = this.#history.get(`${tenant}/${name}`) ?? []
    this.#history.set(`${tenant}/${name}`, [...rows, { generation, image, pos: this.#tip.pos, timeMs }])
    this.#generations.set(`${tenant}/${name}`, {
      tenant,
      name,
      generation,
      image,
      card: parsed,
      timeoutMs,
      idleMs,
      idempotency,
      secrets,
      middleware,
      wish,
    })
  }

  #foldSecret({ tenant, name, version }: SecretMeta): void {
    const at = `${tenant} ${name}`
    this.#secrets.set(at, Math.max(version, this.#secrets.get(at) ?? 0))
  }

  /** The newest version of a secret that is on record; 0: none ever was. */
  secretVersion(tenant: string, name: string): number {
    return this.#secrets.get(`${tenant} ${name}`) ?? 0
  }

  /** Records what became of a secret; its value is not on record. */
  noteSecret(meta: SecretMeta): Pos {
    this.#foldSecret(meta)
    return this.note('secret', { ...meta })
  }

  zones(): readonly Zone[] {
    return [...this.#zones.values()]
  }

  networks(): readonly Network[] {
    return [...this.#networks.values()]
  }

  /** Grows with every change of zones and networks. */
  get egressVersion(): number {
    return this.#egressVersion
  }

  /** The declaration of a tool that is in force for a tenant now. */
  findTool(tenant: string, name: string): ToolDeclaration | undefined {
    return this.#tools.get(`${tenant}/${name}`)?.declaration
  }

  /** The tools that are declared for a tenant. */
  toolsOf(tenant: string): ToolDeclaration[] {
    return [...this.#tools].filter(([at]) => at.startsWith(`${tenant}/`)).map(([, tool]) => tool.declaration)
  }

  /** The tools of MCP servers that were accepted for a tenant; the same list until one of them changes. */
  mcpToolsOf(tenant: string): readonly McpToolDeclaration[] {
    const known = this.#mcpTools.get(tenant)
    if (known) return known
    const found = [...this.#accepted].flatMap(([at, { declaration }]) => {
      const server = at.startsWith(`${tenant}/`) ? this.#servers.get(at)?.declaration : undefined
      return server ? mcpTools(server, declaration) : []
    })
    this.#mcpTools.set(tenant, found)
    return found
  }

  /** The models that are declared for a tenant; the same list until one of them changes. */
  modelsOf(tenant: string): readonly ModelDeclaration[] {
    const known = this.#modelsOf.get(tenant)
    if (known) return known
    const found = [...this.#models].flatMap(([at, { declaration }]) =>
      at.startsWith(`${tenant}/`) ? [declaration] : [],
    )
    this.#modelsOf.set(tenant, found)
    return found
  }

  nextOfModel(tenant: string, declaration: ModelDeclaration): { generation: number; changed: boolean } {
    return next(this.#models.get(`${tenant}/${declaration.name}`), JSON.stringify(declaration))
  }

  applyModel(
    tenant: string,
    declaration: ModelDeclaration,
  ): { generation: number; changed: boolean; pos: Pos } {
    const { generation, changed } = this.nextOfModel(tenant, declaration)
    if (changed) this.#record('model', { tenant, name: declaration.name, generation }, declaration)
    return { generation, changed, pos: this.#tip.pos }
  }

  /** What was accepted of servers for a tenant, whether they are declared yet or not. */
  acceptedOf(tenant: string): McpAccepted[] {
    return [...this.#accepted].flatMap(([at, { declaration }]) =>
      at.startsWith(`${tenant}/`) ? [declaration] : [],
    )
  }

  /** The servers behind accepted tools, of all tenants. */
  mcpServers(): ReadonlySet<McpServerDeclaration> {
    const tenants = new Set([...this.#accepted.keys()].map((at) => at.slice(0, at.indexOf('/'))))
    return new Set([...tenants].flatMap((tenant) => this.mcpToolsOf(tenant).map(({ server }) => server)))
  }

  /** Everything that is declared for a tenant, with what grants for it fill in. */
  defaultedOf(tenant: string): Defaulted[] {
    return [
      ...this.toolsOf(tenant).map(defaultedOf),
      ...this.mcpToolsOf(tenant).map((tool) => ({ name: tool.name, defaults: mcpDefaults(tool) })),
      ...(this.modelsOf(tenant).length > 0 ? [{ name: 'llm.chat', defaults: CHAT_DEFAULTS }] : []),
    ]
  }

  nextOfMcp(tenant: string, wish: McpWish): { generation: number; changed: boolean } {
    const known = wish.kind === 'mcp-server' ? this.#servers : this.#accepted
    return next(known.get(`${tenant}/${wish.is.name}`), JSON.stringify(wish.is))
  }

  applyMcp(tenant: string, wish: McpWish): { generation: number; changed: boolean; pos: Pos } {
    const { generation, changed } = this.nextOfMcp(tenant, wish)
    if (changed) this.#record(wish.kind, { tenant, name: wish.is.name, generation }, wish.is)
    return { generation, changed, pos: this.#tip.pos }
  }

  /** The middleware that is declared for a tenant; the same list until one of it changes. */
  middlewareOf(tenant: string): readonly MiddlewareDeclaration[] {
    const known = this.#ofTenant.get(tenant)
    if (known) return known
    const found = [...this.#middleware].flatMap(([at, { declaration }]) =>
      at.startsWith(`${tenant}/`) ? [declaration] : [],
    )
    this.#ofTenant.set(tenant, found)
    return found
  }

  findMiddleware(tenant: string, name: string): MiddlewareDeclaration | undefined {
    return this.#middleware.get(`${tenant}/${name}`)?.declaration
  }

  /** Whether the manifest of some type of a tenant names middleware, be it there or not. */
  namesMiddleware(tenant: string): boolean {
    for (const one of this.#generations.values())
      if (one.tenant === tenant && one.middleware.length > 0) return true
    return false
  }

  nextOfMiddleware(
    tenant: string,
    declaration: MiddlewareDeclaration,
  ): { generation: number; changed: boolean } {
    return next(this.#middleware.get(`${tenant}/${declaration.name}`), JSON.stringify(declaration))
  }

  applyMiddleware(
    tenant: string,
    declaration: MiddlewareDeclaration,
  ): { generation: number; changed: boolean; pos: Pos } {
    const { generation, changed } = this.nextOfMiddleware(tenant, declaration)
    if (changed) this.#record('middleware', { tenant, name: declaration.name, generation }, declaration)
    return { generation, changed, pos: this.#tip.pos }
  }

  generations(): readonly Generation[] {
    return [...this.#generations.values()]
  }

  findGeneration(tenant: string, type: string): Generation | undefined {
    return this.#generations.get(`${tenant}/${type}`)
  }

  requireGeneration(tenant: string, type: string): Generation {
    const found = this.findGeneration(tenant, type)
    if (!found)
      throw new KernelError('NotFound', 'NoSuchType', `no agent type \`${tenant}/${type}\` is applied`)
    return found
  }

  /** The host's standing confinements that bind somebody in a tenant. */
  confinements(tenant: string): World['confinements'] {
    return [...this.#confinements.values()]
      .filter(({ target }) => target.split('/')[0] === tenant)
      .map(({ target, ceiling, flow }) => ({
        target,
        ceiling: ceiling && codec.decodeBound(ceiling),
        flow: flow && codec.decodeFlow({ sinks: flow }).sinks,
      }))
  }

  /** Blocks of exported tokens: the card of each, and its revocation id. */
  listExported(): readonly (readonly [card: string, revocationId: string])[] {
    return this.#exported
  }

  exported(blocks: readonly (readonly [string, string])[], by: string): Pos {
    this.#record('exported', { cards: blocks.map(([card]) => card), by }, { blocks })
    return this.#tip.pos
  }

  listConfinements(): ConfinementData[] {
    return [...this.#confinements.values()]
  }

  confine(row: ConfinementData, by: string): Pos {
    this.#record('confined', { id: row.id, target: row.target, by }, row)
    return this.#tip.pos
  }

  lift(id: string, by: string): Pos {
    this.#record('lifted', { id, by }, { id })
    return this.#tip.pos
  }

  /** Records cards that the host minted for an agent; their bounds stand in the payload. */
  minted(meta: AuthorityMeta & { readonly by: string }, body: AuthorityPayload): Pos {
    this.#record('minted', { ...meta }, body)
    return this.#tip.pos
  }

  /** The key of the node's own payloads. */
  get key(): PayloadKey | undefined {
    return this.#key
  }

  /** The tenant's key, made at its first use. */
  tenantKey(tenant: string): PayloadKey {
    const known = this.#tenants.get(tenant)
    if (known) return known
    this.#requireKey()
    const key = this.#slots.create()
    this.#append('tenant', { name: tenant, slot: key.slot }, [])
    this.#tenants.set(tenant, key)
    return key
  }

  /** Every applied version of a type's manifest, the oldest first. */
  historyOf(tenant: string, type: string): readonly AppliedRow[] {
    return this.#history.get(`${tenant}/${type}`) ?? []
  }

  /** What an earlier version said. */
  readApplied(pos: Pos): AppliedBody {
    const [body] = this.#sink.log.read(pos).payloads(() => this.#key as PayloadKey)
    return parseRecordJson((body as Buffer).toString()) as AppliedBody
  }

  /** What a grant for a tool fills in. */
  get defaultsOf(): DefaultsOf {
    return this.#defaultsOf
  }

  /** The generation that a wish is or would be. */
  nextOf({ tenant, name, ...wish }: AgentWish): { generation: number; changed: boolean } {
    const before = this.findGeneration(tenant, name)
    return next(before, wishText(wish))
  }

  nextOfTool(tenant: string, declaration: ToolDeclaration): { generation: number; changed: boolean } {
    return next(this.#tools.get(`${tenant}/${declaration.name}`), JSON.stringify(declaration))
  }

  /** Whether this is another zone or network than the one of its name that is in force. */
  differs({ kind, is }: Egress): boolean {
    const known = (kind === 'zone' ? this.#zones : this.#networks).get(is.name)
    return JSON.stringify(known) !== JSON.stringify(is)
  }

  /** Records a wish if it is new. Durable once the returned position is. */
  apply(wish: AgentWish): { generation: number; changed: boolean; pos: Pos } {
    const { tenant, name, image, body } = wish
    const { generation, changed } = this.nextOf(wish)
    if (changed) this.#record('applied', { tenant, name, generation, image }, body)
    return { generation, changed, pos: this.#tip.pos }
  }

  applyTool(
    tenant: string,
    declaration: ToolDeclaration,
  ): { generation: number; changed: boolean; pos: Pos } {
    const { generation, changed } = this.nextOfTool(tenant, declaration)
    if (changed) this.#record('tool', { tenant, name: declaration.name, generation }, declaration)
    return { generation, changed, pos: this.#tip.pos }
  }

  applyEgress(egress: Egress): { changed: boolean; pos: Pos } {
    const changed = this.differs(egress)
    if (changed) this.#record(egress.kind, { name: egress.is.name }, egress.is)
    return { changed, pos: this.#tip.pos }
  }

  /** The SQLite that answered a turn at this position. */
  sqliteAt(pos: Pos): string {
    return this.#sqlite.findLast((since) => since.pos < pos)?.version ?? 'unknown'
  }

  /** Before the first turn of this kernel that uses a home: who repeats it must be of the same SQLite. */
  noteSqlite(version: string): void {
    if (this.#sqlite.at(-1)?.version === version) return
    this.#sqlite.push({ pos: this.note('sqlite', { version }), version })
  }

  /** Records an administrator's act that changes nothing here. */
  note(kind: string, meta: Record<string, unknown>): Pos {
    this.#append(kind, meta, [])
    return this.#tip.pos
  }

  #record(kind: string, meta: Record<string, unknown>, body: unknown): void {
    this.#requireKey()
    const payload = Buffer.from(JSON.stringify(body))
    this.#append(kind, meta, [payload])
    this.#fold(kind, meta, [payload], this.#sink.clock.nowMs())
  }

  #requireKey(): PayloadKey {
    if (!this.#key) {
      this.#key = this.#slots.create()
      this.#append('node', { slot: this.#key.slot }, [])
    }
    return this.#key
  }

  #append(kind: string, meta: Record<string, unknown>, payloads: readonly Buffer[]): void {
    const who = { birth: NODE_AGENT, ...(this.#key && { key: this.#key }) }
    this.#tip = appendEntry(this.#sink, who, this.#tip, kind, meta, payloads)
  }
}

function wishText({ image, body }: Pick<AgentWish, 'image' | 'body'>): string {
  return JSON.stringify([image, body])
}

function next(
  before: { readonly generation: number; readonly wish: string } | undefined,
  wish: string,
): { generation: number; changed: boolean } {
  if (before?.wish === wish) return { generation: before.generation, changed: false }
  return { generation: (before?.generation ?? 0) + 1, changed: true }
}
