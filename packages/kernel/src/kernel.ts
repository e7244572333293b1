/**
 * A running node, as its embedder sees it: open, apply, invoke, look, close.
 *
 * @example
 * const kernel = await openKernel({ data: '.cardinal/data' })
 * await kernel.apply(await readManifests('.'))
 * const { reply } = await kernel.invoke({ address: 'acme/clerk/alice', method: 'status' })
 */
import { randomBytes } from 'node:crypto'
import os from 'node:os'
import type { DefaultsOf } from '@cardinal/cards'
import { type Compiler, Engine, type HomeRows, SQLITE_VERSION, TURNS_VERSION } from '@cardinal/engine'
import type { LimitValues, Manifest } from '@cardinal/manifests'
import type { AuditLine, OwnModule } from '@cardinal/middleware'
import {
  KeySlots,
  Log,
  type LogError,
  openNodeKey,
  type Pos,
  purposeKey,
  type ScannedEntry,
  type SkippedSync,
} from '@cardinal/oplog'
import type { Program } from '@cardinal/sdk/bundle'
import type { Providers, SecretStore, VaultKey } from '@cardinal/secrets'
import {
  defaultsAmong,
  EgressDoor,
  EgressProxy,
  httpFetch,
  infoOf,
  McpServers,
  type OwnFunction,
  type ScriptedModel,
  secretReveal,
  type Tool,
  type ToolInfo,
} from '@cardinal/tools'
import { Admission } from './admission.ts'
import type { LiveAgent } from './agent.ts'
import { Agents } from './agents.ts'
import { type Applied, Applying, type Planned } from './applying.ts'
import { Approvals } from './approvals.ts'
import { Audit, type AuditReport } from './audit.ts'
import { Authority } from './authority.ts'
import type { AuthorityMeta } from './authority-wire.ts'
import { catchUp } from './catch-up.ts'
import { Chains } from './chains.ts'
import { type Clock, systemClock } from './clock.ts'
import { Components } from './components.ts'
import { type Context, SteadyClock, type TurnEvent } from './context.ts'
import { Control } from './control.ts'
import { DeclaredTools } from './declared-tools.ts'
import { Delivery } from './delivery.ts'
import { Derived } from './derived.ts'
import { type Drained, drainSome } from './drain.ts'
import { isClosing, KernelError, wasErased } from './errors.ts'
import { Files } from './files.ts'
import { anchorFile, type Folder, type Lock, layout, lockFolder } from './folder.ts'
import { readAuthority } from './holding.ts'
import { HomeTransfer } from './home-transfer.ts'
import { Homes } from './homes.ts'
import { HostCards } from './host-cards.ts'
import { HostSecrets, openSecrets } from './host-secrets.ts'
import { HostTokens } from './host-tokens.ts'
import { type InvocationId, parseAddress, parseEffectRef, showAddress } from './ids.ts'
import { Images } from './images.ts'
import { type Begun, Intake, type Invoke, type Result } from './intake.ts'
import { Invocations } from './invocations.ts'
import { homeOf, Limits, type ShownLimit, showLimits } from './limits.ts'
import { McpClients } from './mcp-clients.ts'
import { McpLook } from './mcp-look.ts'
import { MemoryFiles } from './memory-files.ts'
import { Meters } from './meters.ts'
import { Pace } from './pace.ts'
import { People } from './people.ts'
import { postJson } from './post-json.ts'
import { Progress } from './progress.ts'
import { Receipts } from './receipts.ts'
import { replay } from './replay.ts'
import type { Reply } from './reply.ts'
import type { RunsOn } from './runs-on.ts'
import { toolsWithin } from './tool-list.ts'
import { defaultsOfAgents, toolRows } from './tool-rows.ts'
import { View } from './view.ts'
import { Waits } from './waits.ts'

export interface KernelOptions {
  readonly data: string
  readonly tools?: readonly Tool[]
  readonly clock?: Clock
  /** Beyond these no tenant, type or agent may go, whatever is set for them. */
  readonly limits?: LimitValues
  readonly threads?: number
  /** Connections to one origin at a time. */
  readonly connections?: number
  readonly requestTimeoutMs?: number
  /** Agents awake at once; left out: as many as the mappings of the process allow, some 20,000. */
  readonly maxLive?: number
  /** Memory of the process’s own above which quiet agents are put to sleep; left out: 70 % of what the machine allows. */
  readonly liveBytes?: number
  /** Homes open at once; left out: as many as the descriptors of the process allow. */
  readonly maxOpenHomes?: number
  readonly idleMs?: number
  /** The key of the vault; without one there is no vault, and no secret in it. */
  readonly vaultKey?: VaultKey
  /** Where else secrets come from, by the first segment of their names. */
  readonly secretProviders?: Providers
  /** Models that are functions, by the `model` of a manifest whose provider is `scripted`. */
  readonly models?: ReadonlyMap<string, ScriptedModel>
  /** Told what has come of an effect while it goes on, as the words of a model. */
  readonly onProgress?: (effect: string, text: string) => void
  /**
   * Told what a tool threw instead of answering; the agent is told no more than that it did. Left out: where it
   * was thrown goes to stderr, without its words, which may hold anything.
   */
  readonly onBroken?: (effect: string, tool: string, error: unknown) => void
  /** Where packages of MCP servers lie; left out: none is started here. */
  readonly packages?: string
  /** The operator's own functions, by the name that manifests of tools call them. */
  readonly functions?: ReadonlyMap<string, OwnFunction>
  /** The operator's own middleware, by the name that manifests call it. */
  readonly modules?: ReadonlyMap<string, OwnModule>
  /** Told what went otherwise than it should and did no harm, as a save that cannot be used. Left out: stderr. */
  readonly onNotice?: (text: string) => void
  /** Told of every effect that `audit` stands before, once it has ended. */
  readonly onAudit?: (line: AuditLine) => void
  readonly segmentBytes?: number
  /** Where the head is also kept; left out, a file of the user's state folder. */
  readonly anchors?: readonly string[]
  readonly acceptLoss?: number
  /** How guests are run; they behave the same under all of them. */
  readonly compiler?: Compiler
  readonly crashPoint?: (name: string) => void
  /** Called once when the node can no longer be trusted to go on; end the process. */
  readonly onFatal?: (error: Error) => void
  readonly onTurn?: (event: TurnEvent) => void
  /** Only for the tests that show that the power-cut sweep would notice. */
  readonly skipSync?: SkippedSync
  /** Only for the tests that show what a kernel with another SQLite or another engine does. */
  readonly runsOn?: Partial<RunsOn>
}

interface NodeStats {
  readonly agents: number
  /** Awake. */
  readonly live: number
  /** Agents and cards in memory. */
  readonly rows: number
  /** How far the machine's clock is behind the log: time stands still until it has caught up. */
  readonly clockBehindMs: number
}

const GRACE_MS = 5000
/** Of what an operator reads at once. */
const MAX_ROWS = 10_000
/** An audit lets others work after so many entries. */
const AUDIT_PAUSE = 256

export interface Kernel {
  readonly publicKey: string
  readonly folder: Folder
  readonly view: View
  readonly cards: HostCards
  readonly tokens: HostTokens
  readonly approvals: Approvals
  readonly files: Files
  readonly transfer: HomeTransfer
  readonly secrets: HostSecrets
  readonly mcp: McpLook
  readonly mcpClients: McpClients
  readonly people: People
  readonly progress: Pick<Progress, 'watch'>
  readonly receipts: Receipts
  readonly applying: Pick<Applying, 'plan' | 'generations'>
  /** `components` are the bytes that tools and middleware name by their digests, where the node has not had them. */
  apply(
    manifests: readonly Manifest[],
    programs: ReadonlyMap<string, Program>,
    components?: readonly Buffer[],
  ): Promise<Applied[]>
  rollback(...of: Parameters<Applying['rollback']>): Promise<Planned>
  invoke(call: Invoke): Promise<{ id: InvocationId; reply: Promise<Reply> }>
  begin(call: Invoke): Promise<Begun>
  result(id: string): Promise<Result>
  /** What callers may ask of an agent, born or not. */
  methods(address: string): ReturnType<Intake['methods']>
  cancel(id: string, why: string): Promise<void>
  emit(address: string, name: string, value: unknown): Promise<void>
  replay(address: string, toSeq?: number): Promise<{ turns: number; entries: number }>
  audit(onProgress?: (entries: number) => void): Promise<AuditReport>
  resolveEffect(ref: string, outcome: 'done' | 'failed', principal: string): Promise<void>
  hold(address: string, held: boolean, principal: string): Promise<void>
  /** Its memory and inbox are gone, and with them what it had read and accepted; its address and budgets stay. */
  wipe(address: string, principal: string): Promise<void>
  erase(address: string): Promise<void>
  /** Reads an agent's home with one statement that cannot write. It is on record who read what. */
  sql(address: string, sql: string, principal: string, maxRows?: number): Promise<HomeRows>
  /** How large a home is, and what SQLite finds wrong with it. */
  checkHome(address: string): ReturnType<LiveAgent['checkHome']>
  /** The tools of a tenant. */
  tools(tenant: string): ToolInfo[]
  /** The tools that an agent's cards let it call. */
  toolsOf(address: string): Promise<ToolInfo[]>
  /** What bounds an agent that was born, and where each limit is set. */
  limitsOf(address: string): Promise<ShownLimit[]>
  /** Puts an agent to sleep that is quiet; whether it sleeps now. */
  suspend(address: string): Promise<boolean>
  /**
   * Saves agents of which turns would have to be repeated, some rows at a call; `next` is where the next call
   * begins, until there is none. Before another version of the kernel, which repeats none of them.
   */
  drain(after?: number): Promise<Drained>
  /** Revokes all birth cards of an agent: it and whoever it made is stopped, for good. */
  end(address: string, principal: string): Promise<void>
  /** What each tool fills in for a grant's missing dimensions. */
  readonly defaultsOf: (tool: string, tenant: string) => ReturnType<DefaultsOf>
  ownPort(port: number): void
  poll(): Promise<void>
  stats(): NodeStats
  /** Timers that are due and have not run. */
  overdue(): number
  /** Whether some agent that is awake has a turn running, an input pending or an effect out. */
  busy(): boolean
  close(): Promise<void>
}

/** Opens the node in a data folder, recovers what was under way, and begins to work. */
export async function openKernel(options: KernelOptions): Promise<Kernel> {
  const folder = layout(options.data)
  const lock = usable(folder.root, () => lockFolder(folder.root))
  const opened: Closer[] = [() => lock.release()]
  try {
    const secrets = await openSecrets(folder.secrets, options.vaultKey, options.secretProviders ?? {})
    opened.push(() => secrets.close())
    return await usable(folder.root, () => new Node(options, folder, lock, secrets, opened)).start()
  } catch (error) {
    for (const close of opened.reverse()) await close()
    throw error
  }
}

/** What the file system says to a folder that cannot be used is an answer and no defect of ours. */
function usable<T>(root: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (error instanceof KernelError || !/^(E[A-Z]+|SQLITE_(CANTOPEN|READONLY|PERM).*)$/.test(code ?? ''))
      throw error
    throw new KernelError(
      'Unavailable',
      'FolderUnusable',
      `\`${root}\` cannot be used as a data folder: ${code}`,
    )
  }
}

type Closer = () => unknown

class Node implements Kernel {
  readonly folder: Folder
  readonly publicKey: string
  readonly view: View
  readonly #lock: Lock
  readonly #clock: SteadyClock
  readonly #ctx: Context
  readonly #agents: Agents
  readonly #intake: Intake
  readonly cards: HostCards
  readonly tokens: HostTokens
  readonly approvals: Approvals
  readonly applying: Applying
  readonly files: Files
  readonly transfer: HomeTransfer
  readonly secrets: HostSecrets
  readonly mcp: McpLook
  readonly mcpClients: McpClients
  readonly people: People
  readonly progress: Progress
  readonly receipts: Receipts
  readonly #door: EgressDoor
  readonly #servers: McpServers
  readonly #own: ReadonlyMap<string, Tool>
  readonly #ownPorts = new Set<number>()
  readonly #fatal: (error: unknown) => void
  #closing = false

  /** `opened` is told how to close each part as soon as it is open, for the case that the next one fails. */
  constructor(options: KernelOptions, folder: Folder, lock: Lock, store: SecretStore, opened: Closer[]) {
    this.folder = folder
    this.#lock = lock
    const nodeKey = openNodeKey(folder.keys)
    this.publicKey = nodeKey.publicHex
    const slots = new KeySlots(folder.keys, nodeKey)
    opened.push(() => slots.close())
    const clock = new SteadyClock(options.clock ?? systemClock)
    this.#clock = clock
    this.#fatal = (error) => {
      if (this.#closing) return
      this.#closing = true
      const onFatal =
        options.onFatal ??
        ((e: Error) => {
          throw e
        })
      onFatal(error instanceof Error ? error : new Error(String(error)))
    }
    const scanned: ScannedEntry[] = []
    // What rows hold is not read again; whether the log holds what they were made from is.
    let durable = (): Pos => 0 as Pos
    const derived = new Derived(folder.derived, folder.saves, () => durable())
    opened.push(() => derived.close())
    const log = Log.open({
      folder: folder.log,
      nodeKey,
      keySlots: slots,
      anchors: options.anchors ?? [anchorFile(nodeKey.node)],
      onFatal: (error: LogError) => this.#fatal(error),
      known: derived.applied,
      onEntry: (entry) => scanned.push(entry),
      now: clock.nowMs,
      ...(options.segmentBytes !== undefined && { segmentBytes: options.segmentBytes }),
      ...(options.acceptLoss !== undefined && { acceptLoss: options.acceptLoss }),
      ...(options.skipSync && { skipSync: options.skipSync }),
    })
    opened.push(() => log.abandon())
    clock.notBefore(scanned.at(-1)?.header.timeMs ?? 0)
    durable = () => log.durable
    catchUp(derived, log, scanned, options.acceptLoss === log.end)
    const onNotice = options.onNotice ?? ((text: string) => process.stderr.write(`cardinal: ${text}\n`))
    const threads = options.threads ?? os.availableParallelism()
    const cache = { folder: folder.cache, key: purposeKey(nodeKey, 'cardinal.artefacts.1') }
    const engine = new Engine({ threads, compiler: options.compiler ?? 'optimized', cache })
    opened.push(() => engine.close())
    const control: Control = new Control({ log, derived, clock }, slots, this.defaultsOf)
    const door = new EgressDoor({
      policy: {
        zones: () => control.zones(),
        networks: () => control.networks(),
        version: () => control.egressVersion,
        ownPorts: () => this.#ownPorts,
      },
      connections: options.connections ?? 64,
      timeoutMs: options.requestTimeoutMs ?? 30_000,
    })
    this.#door = door
    const http = httpFetch(door)
    const components = new Components(folder.components, engine)
    const proxy = new EgressProxy(door, folder.doors)
    const servers = new McpServers({
      door,
      proxy,
      noteEgress: (tenant, server) => (request, verdict) =>
        log.untilDurable(control.noteEgress(tenant, server, request, verdict)),
      packages: options.packages,
    })
    this.#servers = servers
    const chains = new Chains(control, {
      post: (url, body, signal) => postJson(http, url, body, signal),
      audit: options.onAudit ?? (() => {}),
      module: (name) => options.modules?.get(name),
      component: (...of) => components.run(...of),
    })
    const own = new Map([http, secretReveal(), ...(options.tools ?? [])].map((tool) => [tool.name, tool]))
    this.#own = own
    const declared = new DeclaredTools(control.declarations, {
      http,
      servers,
      proxy,
      chat: { door, scripted: (name) => options.models?.get(name) },
      functions: (name) => options.functions?.get(name),
      component: (...of) => components.run(...of),
    })
    const findTool = (tenant: string, name: string) => own.get(name) ?? declared.find(tenant, name)
    const authority = new Authority({
      derived,
      control,
      nowMs: clock.nowMs,
      read: (agent, pos) => readOwn({ log, derived, slots, control }, agent, pos),
      defaultsOf: (tenant) => (tool) => this.defaultsOf(tool, tenant),
      toolsOf: (tenant) => toolRows([...own.values(), ...declared.of(tenant)]),
    })
    this.secrets = new HostSecrets({ control, log, clock }, store)
    this.progress = new Progress(options.onProgress ?? (() => {}))
    const limits = new Limits(() => control.declarations, options.limits ?? {})
    this.#ctx = {
      log,
      derived,
      secrets: this.secrets,
      engine,
      images: new Images(folder.images, engine, onNotice),
      memoryFiles: new MemoryFiles(folder.memory),
      homes: new Homes(folder.homes, engine, this.#fatal, options.maxOpenHomes),
      control,
      slots,
      authority,
      chains,
      meters: new Meters(derived),
      waits: new Waits(),
      findTool,
      toolsOf: (tenant) => [...own.values(), ...declared.of(tenant)],
      isStopped: (agent) => this.#agents.isStopped(agent),
      clock,
      limits,
      admission: new Admission(limits, derived),
      runsOn: { engine: TURNS_VERSION, sqlite: SQLITE_VERSION, ...options.runsOn },
      secret: purposeKey(nodeKey, 'cardinal.kernel.1'),
      crashPoint: options.crashPoint ?? (() => {}),
      onTurn: options.onTurn ?? (() => {}),
      onNotice,
      progress: this.progress,
      pace: new Pace(),
      onBroken: options.onBroken ?? tellBroken,
    }
    control.restore(derived.nodeEntries(), derived.nodeTip())
    this.secrets.reconcile()
    const invocations = new Invocations()
    this.#agents = new Agents(
      {
        ctx: this.#ctx,
        released: (id, reply) => invocations.settle(id, reply),
        dispatch: (agent, effect) => delivery.dispatch(agent, effect),
        answered: (answer) => delivery.answered(answer),
        fatal: this.#fatal,
      },
      {
        most: options.maxLive,
        memoryBytes: options.liveBytes,
        ...(options.idleMs !== undefined && { idleMs: options.idleMs }),
      },
    )
    this.view = new View(this.#ctx)
    this.mcp = new McpLook(this.#ctx, servers)
    this.mcpClients = new McpClients(this.#ctx)
    this.people = new People(this.#ctx)
    this.receipts = new Receipts(this.#ctx, this.view, folder.log, this.publicKey)
    const delivery = new Delivery(this.#ctx, this.#agents, this.view, this.#fatal)
    const parts = { own: [...own.values()], declared, servers, components }
    this.applying = new Applying(this.#ctx, this.#agents, parts)
    this.cards = new HostCards(this.#ctx, this.#agents)
    this.tokens = new HostTokens(this.#ctx, this.cards, purposeKey(nodeKey, 'cardinal.cards.1'))
    this.approvals = new Approvals(this.#ctx, this.#agents, this.view)
    this.#intake = new Intake(this.#ctx, this.#agents, invocations, this.view)
    this.files = new Files(this.#intake, () => this.#admit())
    this.transfer = new HomeTransfer(this.#ctx, this.#agents, nodeKey, () => this.#admit())
    if (options.acceptLoss !== undefined) control.note('loss-accepted', { end: options.acceptLoss })
  }

  async start(): Promise<Kernel> {
    await this.#agents.start()
    return this
  }

  async apply(...of: Parameters<Applying['apply']>): Promise<Applied[]> {
    this.#admit()
    return this.applying.apply(...of)
  }

  async rollback(...of: Parameters<Applying['rollback']>): Promise<Planned> {
    this.#admit()
    return this.applying.rollback(...of)
  }

  /** Takes in an invocation. It is acknowledged (`id` may be shown) only when this resolves: then it is durable. */
  async invoke(call: Invoke): Promise<{ id: InvocationId; reply: Promise<Reply> }> {
    const { id, reply, acknowledged } = await this.begin(call)
    await acknowledged()
    return { id, reply }
  }

  /**
   * Takes in an invocation for a caller who waits for the reply, which is durable with all that led
   * to it. Whoever shows the id without the reply awaits `acknowledged` first.
   */
  async begin(call: Invoke): Promise<Begun> {
    this.#admit()
    return this.#intake.begin(call)
  }

  result(id: string): Promise<Result> {
    return this.#intake.result(id)
  }

  methods(address: string): ReturnType<Intake['methods']> {
    return this.#intake.methods(address)
  }

  cancel(id: string, why: string): Promise<void> {
    return this.#intake.cancel(id, why)
  }

  async emit(address: string, name: string, value: unknown): Promise<void> {
    this.#admit()
    return this.#intake.emit(address, name, value)
  }

  /** Repeats an agent's whole recorded life beside it, from birth, and compares every turn. */
  async replay(address: string, toSeq?: number): Promise<{ turns: number; entries: number }> {
    const parsed = parseAddress(address)
    const row = await this.view.requireRow(parsed)
    const ctx = this.#ctx
    const image = await ctx.images.get(row.image)
    const identity = { address: row.address, birth: row.birth, key: this.view.keyOf(row), lane: 0 }
    const tip = { pos: row.pos, seq: row.seq, hash: row.hash }
    const scratch = ctx.homes.scratchOf(row.birth, randomBytes(8).toString('hex'))
    try {
      const done = await replay(ctx, identity, image, tip, {
        scratch,
        ...(toSeq !== undefined && { toSeq }),
      })
      ctx.engine.drop(done.instance)
      return { turns: done.turns, entries: done.state.tip.seq }
    } finally {
      await ctx.homes.remove(scratch)
    }
  }

  /** Decides everything anew that was ever decided here, from the log alone, and compares. */
  async audit(onProgress: (entries: number) => void = () => {}): Promise<AuditReport> {
    const { log, slots, images } = this.#ctx
    const { end } = log
    await log.untilDurable((end - 1) as Pos)
    const audit = new Audit({
      slots,
      images,
      own: this.#own,
      defaultsOf: (control) => (tool, tenant) =>
        defaultsOfAgents(tool) ??
        this.#own.get(tool)?.defaults ??
        defaultsAmong(tool, control.declarations.defaultedOf(tenant)),
    })
    let taken = 0
    for (const pos of log.positions()) {
      await audit.take(log.read(pos))
      if (++taken % AUDIT_PAUSE === 0) {
        onProgress(taken)
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    const { derived } = this.#ctx
    derived.apply()
    // Others may have gone on meanwhile: then rows are ahead of what was read.
    if (!derived.behind && (derived.applied?.pos ?? 0) < end) audit.compareTaken([...derived.counters()])
    return audit.report
  }

  /** An operator says what became of an effect in doubt. It is recorded; the agent was told `Indeterminate` already. */
  async resolveEffect(ref: string, outcome: 'done' | 'failed', principal: string): Promise<void> {
    const { address, effect } = parseEffectRef(ref)
    const agent = await this.#intake.requireBorn(address)
    this.#ctx.derived.apply()
    const doubt = this.#ctx.derived.listDoubts().find((d) => d.address === agent.name && d.effect === effect)
    if (!doubt) throw new KernelError('NotFound', 'NoSuchEffect', `\`${ref}\` is not in doubt`)
    if (doubt.resolved)
      throw new KernelError('Conflict', 'AlreadyResolved', `\`${ref}\` was resolved as ${doubt.resolved}`)
    const tip = agent.append('resolved', { effect, outcome, principal }, [])
    await this.#ctx.log.untilDurable(tip.pos)
    this.#ctx.derived.apply()
  }

  /** Freezes an agent, which takes inputs in and runs nothing, or lets it go on. */
  async hold(address: string, held: boolean, principal: string): Promise<void> {
    const agent = await this.#intake.requireBorn(parseAddress(address))
    if (agent.state.stopped || this.#ctx.isStopped(agent.name))
      throw new KernelError('Stopped', 'Stopped', `\`${agent.name}\` is stopped, and stays so`)
    await agent.hold(held, principal)
  }

  async sql(address: string, sql: string, principal: string, maxRows = MAX_ROWS): Promise<HomeRows> {
    const agent = await this.#intake.requireBorn(parseAddress(address))
    const found = await agent.look(sql, principal, (ask) => ask(sql, Math.min(maxRows, MAX_ROWS)))
    if ('error' in found) throw new KernelError('Malformed', 'BadSql', found.error)
    return found
  }

  async checkHome(address: string): ReturnType<LiveAgent['checkHome']> {
    const agent = await this.#intake.requireBorn(parseAddress(address))
    return agent.checkHome()
  }

  tools(tenant: string): ToolInfo[] {
    return this.#ctx.toolsOf(tenant).map(infoOf)
  }

  async toolsOf(address: string): Promise<ToolInfo[]> {
    const agent = await this.#intake.requireBorn(parseAddress(address))
    const { world, row } = agent.standing.actor()
    return toolsWithin(world, row, this.#ctx.toolsOf(row.tenant))
  }

  async limitsOf(address: string): Promise<ShownLimit[]> {
    const at = parseAddress(address)
    await this.view.requireRow(at)
    const limits = this.#ctx.limits.of(at)
    const births = this.#ctx.authority.of(at.tenant).agents.get(showAddress(at))?.births ?? []
    return showLimits({ ...limits, home: homeOf(limits, births) })
  }

  async wipe(address: string, principal: string): Promise<void> {
    const agent = await this.#intake.requireBorn(parseAddress(address))
    await agent.wipe(principal)
  }

  erase(address: string): Promise<void> {
    return this.#agents.erase(parseAddress(address))
  }

  async suspend(address: string): Promise<boolean> {
    const at = parseAddress(address)
    await this.view.requireRow(at)
    const agent = this.#agents.findLive(at)
    if (agent) {
      // A turn that was just answered may be at saving still.
      await new Promise<void>((resolve) => agent.betweenTurns(resolve))
      await this.#agents.suspend(agent)
    }
    return this.#agents.findLive(at) === undefined
  }

  drain(after = 0): Promise<Drained> {
    return drainSome(this.#ctx, this.#agents, after)
  }

  async end(address: string, principal: string): Promise<void> {
    const row = await this.view.requireRow(parseAddress(address))
    if (row.erased) throw wasErased(row.address)
    for (const { name } of this.#ctx.derived.birthCards(row.id)) await this.cards.revoke(name, principal)
  }

  /** New work is refused while the node closes or its disk is full; what is open goes on. */
  #admit(): void {
    if (this.#closing) throw isClosing()
    if (this.#ctx.log.low || this.#ctx.homes.waiting.size > 0)
      throw new KernelError('Unavailable', 'DiskFull', 'the disk is full; nothing new is accepted', {
        retryAfterMs: 5000,
      })
  }

  readonly defaultsOf: Kernel['defaultsOf'] = (tool, tenant) =>
    defaultsOfAgents(tool) ??
    this.#ctx.findTool(tenant, tool)?.defaults ??
    defaultsAmong(tool, this.#ctx.control.declarations.defaultedOf(tenant))

  ownPort(port: number): void {
    this.#ownPorts.add(port)
  }

  poll(): Promise<void> {
    return this.#agents.pollDue()
  }

  busy(): boolean {
    return this.#agents.busy()
  }

  overdue(): number {
    return this.#ctx.derived.countDue(this.#ctx.clock.nowMs())
  }

  stats(): NodeStats {
    const { derived, authority } = this.#ctx
    const { behindMs } = this.#clock
    return {
      agents: derived.countAgents(),
      live: this.#agents.liveCount,
      rows: authority.rows,
      clockBehindMs: behindMs,
    }
  }

  /** Ends turns, saves everybody, and makes everything durable. Effects still out after the grace are recovered at the next start. */
  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    await this.#agents.close(GRACE_MS)
    await this.#ctx.homes.close()
    await this.#ctx.log.close()
    this.#ctx.derived.apply()
    this.#ctx.derived.close()
    this.#ctx.engine.close()
    await this.#servers.close()
    await this.#door.close()
    this.secrets.close()
    this.#ctx.slots.close()
    this.#lock.release()
  }
}

function tellBroken(effect: string, tool: string, error: unknown): void {
  const { name, stack = '' } = error instanceof Error ? error : { name: typeof error }
  const frames = stack.split('\n').filter((line) => /^ +at /.test(line))
  process.stderr.write(`cardinal: ${tool} broke down in ${effect}: ${name}\n${frames.join('\n')}\n`)
}

type Own = Pick<Context, 'log' | 'derived' | 'slots' | 'control'>

/** What an entry says of authority; undefined if the key of whoever wrote it is gone. */
function readOwn({ log, derived, slots, control }: Own, agent: string | undefined, pos: Pos) {
  let key = control.key
  if (agent !== undefined) {
    const row = derived.findAgent(parseAddress(agent))
    if (!row || row.erased) return undefined
    key = slots.open(row.slot, control.tenantKey(row.tenant))
  }
  const entry = log.read(pos)
  const { auth } = JSON.parse(entry.header.meta) as AuthorityMeta
  if (agent !== undefined && auth !== 1) return {}
  return key && readAuthority(entry.payloads(() => key))
}
