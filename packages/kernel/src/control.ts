/**
 * The control plane: tenants, applied generations, zones. All of it is in the log, under the node's
 * own chain; this is that chain folded.
 */
import {
  codec,
  type Grant,
  parseCard,
  parseRecordJson,
  type Request,
  type RootCard,
  type World,
} from '@cardinal/cards'
import type { Entry, KeySlots, Log, PayloadKey, Pos, Tip } from '@cardinal/oplog'
import { NO_POS, type Seq, ZERO_HASH } from '@cardinal/oplog'
import type { Network, SecretBinding, Zone } from '@cardinal/tools'
import { appendEntry, type Sink } from './append.ts'
import type { AuthorityMeta, AuthorityPayload } from './authority-wire.ts'
import { Declarations, type Declaring, isDeclarable, type Next, nextAfter } from './declarations.ts'
import { KernelError } from './errors.ts'
import type { RecordedClient } from './mcp-clients.ts'
import type { RecordedPerson } from './people.ts'
import { FIRST_ENGINE, type RunsOn } from './runs-on.ts'

export const NODE_AGENT = Buffer.alloc(16)

/** What an operator says of the door out. */
export type Egress =
  | { readonly kind: 'zone'; readonly is: Zone }
  | { readonly kind: 'network'; readonly is: Network }

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
export const ROWS_ONLY: ReadonlySet<string> = new Set(['minted', 'revoked', 'erased', 'egress'])

export class Control {
  readonly #sink: Sink & { readonly log: Log }
  readonly #slots: KeySlots
  readonly #defaultsOf: DefaultsOf
  readonly #generations = new Map<string, Generation>()
  readonly #tenants = new Map<string, PayloadKey>()
  readonly #zones = new Map<string, Zone>()
  readonly #networks = new Map<string, Network>()
  #egressVersion = 0
  readonly #declarations = new Declarations()
  /** Tenants of which some type ever named middleware. */
  readonly #namesMiddleware = new Set<string>()
  readonly #confinements = new Map<string, ConfinementData>()
  /** The newest version of each secret that was ever on record. */
  readonly #secrets = new Map<string, number>()
  readonly #mcpClients = new Map<string, RecordedClient>()
  #vaultKey: string | undefined
  readonly #people = new Map<string, RecordedPerson>()
  readonly #exported: (readonly [string, string])[] = []
  readonly #history = new Map<string, AppliedRow[]>()
  /** What turns run on from which position on. */
  readonly #ranOn: Record<keyof RunsOn, { readonly pos: Pos; readonly version: string }[]> = {
    engine: [{ pos: NO_POS, version: FIRST_ENGINE }],
    sqlite: [],
  }
  #tip: Tip = { pos: NO_POS, seq: 0 as Seq, hash: ZERO_HASH }
  #key: PayloadKey | undefined

  constructor(sink: Sink & { readonly log: Log }, slots: KeySlots, defaultsOf: DefaultsOf) {
    this.#sink = sink
    this.#slots = slots
    this.#defaultsOf = defaultsOf
  }

  /** Folds the node's own entries, which rows name. Those that only concern rows are not read. */
  restore(entries: readonly { readonly pos: Pos; readonly hash: Buffer }[], tip: Tip | undefined): void {
    for (const { pos, hash } of entries) {
      const entry = this.#sink.log.read(pos)
      if (!entry.hash.equals(hash))
        throw new KernelError(
          'Corrupt',
          'LogCorrupt',
          `the entry at position ${pos}, of the node itself, is not the one that rows were made from`,
        )
      this.take(entry)
    }
    if (tip) this.#tip = tip
  }

  /** Folds one of the node's own entries. */
  take(entry: Entry): void {
    const { pos } = entry
    this.#tip = { pos, seq: entry.header.seq, hash: entry.hash }
    if (ROWS_ONLY.has(entry.header.kind)) return
    const meta = JSON.parse(entry.header.meta) as Record<string, unknown>
    if (entry.header.kind === 'node') this.#key = this.#slots.open(meta.slot as number)
    else if (entry.header.kind === 'secret') this.#foldSecret(meta as unknown as SecretMeta)
    else if (entry.header.kind === 'vault-key') this.#vaultKey = meta.id as string
    else if (entry.header.kind === 'sqlite' || entry.header.kind === 'engine')
      this.#ranOn[entry.header.kind].push({ pos, version: meta.version as string })
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
    if (isDeclarable(kind)) {
      const { tenant, generation } = meta as unknown as AppliedMeta
      this.#declarations.fold(tenant, { kind, is: body } as Declaring, generation)
    }
    if (kind === 'confined') this.#confinements.set((body as ConfinementData).id, body as ConfinementData)
    if (kind === 'mcp-client')
      this.#mcpClients.set(`${meta.tenant}/${meta.name}`, body as unknown as RecordedClient)
    if (kind === 'mcp-client-removed') this.#mcpClients.delete(`${meta.tenant}/${meta.name}`)
    if (kind === 'person') this.#people.set(`${meta.tenant}/${meta.name}`, body as unknown as RecordedPerson)
    if (kind === 'person-removed') this.#people.delete(`${meta.tenant}/${meta.name}`)
    if (kind === 'exported') this.#exported.push(...(body as { blocks: [string, string][] }).blocks)
    if (kind === 'lifted') this.#confinements.delete((body as ConfinementData).id)
    if (kind !== 'applied') return
    const { tenant, name, generation, image } = meta as unknown as AppliedMeta
    const { card, timeoutMs, idleMs, idempotency, secrets = {}, middleware = [] } = body as AppliedBody
    const parsed = parseCard(card, 'spec.card', (tool) => this.#defaultsOf(tool, tenant))
    const wish = wishText({ image, body: body as AppliedBody })
    if (middleware.length > 0) this.#namesMiddleware.add(tenant)
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

  /** What manifests declare beside agents. */
  get declarations(): Omit<Declarations, 'fold'> {
    return this.#declarations
  }

  /** Records a declaration if it is new. Durable once the returned position is. */
  declare(tenant: string, declaring: Declaring): Next & { readonly pos: Pos } {
    const { generation, changed } = this.#declarations.next(tenant, declaring)
    if (changed) this.#record(declaring.kind, { tenant, name: declaring.is.name, generation }, declaring.is)
    return { generation, changed, pos: this.#tip.pos }
  }

  /** Whether a manifest of some type of a tenant ever named middleware, be it there or not. */
  namesMiddleware(tenant: string): boolean {
    return this.#namesMiddleware.has(tenant)
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

  listMcpClients(): readonly RecordedClient[] {
    return [...this.#mcpClients.values()]
  }

  findMcpClient(tenant: string, name: string): RecordedClient | undefined {
    return this.#mcpClients.get(`${tenant}/${name}`)
  }

  addMcpClient(client: RecordedClient, by: string): Pos {
    const { tenant, name, card } = client
    this.#record('mcp-client', { tenant, name, card, by }, client)
    return this.#tip.pos
  }

  removeMcpClient(tenant: string, name: string, by: string): Pos {
    this.#record('mcp-client-removed', { tenant, name, by }, {})
    return this.#tip.pos
  }

  listPeople(): readonly RecordedPerson[] {
    return [...this.#people.values()]
  }

  findPerson(tenant: string, name: string): RecordedPerson | undefined {
    return this.#people.get(`${tenant}/${name}`)
  }

  addPerson(person: RecordedPerson, by: string): Pos {
    const { tenant, name, roles, card } = person
    this.#record('person', { tenant, name, roles, card, by }, person)
    return this.#tip.pos
  }

  removePerson(tenant: string, name: string, by: string): Pos {
    this.#record('person-removed', { tenant, name, by }, {})
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
  nextOf({ tenant, name, ...wish }: AgentWish): Next {
    const before = this.findGeneration(tenant, name)
    return nextAfter(before, wishText(wish))
  }

  /** Whether this is another zone or network than the one of its name that is in force. */
  differs({ kind, is }: Egress): boolean {
    const known = (kind === 'zone' ? this.#zones : this.#networks).get(is.name)
    return JSON.stringify(known) !== JSON.stringify(is)
  }

  /** Records a wish if it is new. Durable once the returned position is. */
  apply(wish: AgentWish): Next & { readonly pos: Pos } {
    const { tenant, name, image, body } = wish
    const { generation, changed } = this.nextOf(wish)
    if (changed) this.#record('applied', { tenant, name, generation, image }, body)
    return { generation, changed, pos: this.#tip.pos }
  }

  applyEgress(egress: Egress): { changed: boolean; pos: Pos } {
    const changed = this.differs(egress)
    if (changed) this.#record(egress.kind, { name: egress.is.name }, egress.is)
    return { changed, pos: this.#tip.pos }
  }

  /** What a turn at this position ran on. */
  ranOn(what: keyof RunsOn, pos: Pos): string {
    return this.#ranOn[what].findLast((since) => since.pos < pos)?.version ?? 'unknown'
  }

  /** Before the first turn that runs on this: whoever repeats it must be of the same. */
  noteRunsOn(what: keyof RunsOn, version: string): void {
    const known = this.#ranOn[what]
    if (known.at(-1)?.version !== version) known.push({ pos: this.note(what, { version }), version })
  }

  /** By which key the vault is wrapped from here on; the key itself is nowhere on record. */
  noteVaultKey(id: string): void {
    if (this.#vaultKey === id) return
    this.note('vault-key', { id, ...(this.#vaultKey !== undefined && { before: this.#vaultKey }) })
    this.#vaultKey = id
  }

  /** Records an administrator's act that changes nothing here. */
  note(kind: string, meta: Record<string, unknown>): Pos {
    this.#append(kind, meta, [])
    return this.#tip.pos
  }

  /** What a server in the sandbox asks of the world, as its own card decided it. */
  noteEgress(tenant: string, server: string, { args, ...request }: Request, verdict: string): Pos {
    this.#requireKey()
    const payload = Buffer.from(JSON.stringify({ ...request, args: [...args] }))
    this.#append('egress', { tenant, server, verdict }, [payload])
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
