/** Manifests on a running node: planned, applied, listed by generation, and rolled back. */
import { parseCard, type RootCard } from '@cardinal/cards'
import type {
  AgentManifest,
  DeclaringManifest,
  Manifest,
  NetworkManifest,
  ZoneManifest,
} from '@cardinal/manifests'
import type { Pos } from '@cardinal/oplog'
import type { Program } from '@cardinal/sdk/bundle'
import { type McpServers, mcpToolName, type Tool } from '@cardinal/tools'
import type { Agents } from './agents.ts'
import { type Components, componentDigest } from './components.ts'
import type { Context } from './context.ts'
import type { AgentWish, Egress } from './control.ts'
import type { Declarations, Declaring } from './declarations.ts'
import type { DeclaredTools } from './declared-tools.ts'
import { KernelError } from './errors.ts'
import { type CardPlan, planCard } from './plan.ts'

export interface Applied {
  readonly kind: Manifest['kind']
  readonly name: string
  readonly generation?: number
  readonly changed: boolean
}

/** What an `apply` would do with one document. */
export interface Planned extends Applied {
  /** Of an agent: agents that are decided by its card from then on. */
  readonly agents?: number
  readonly program?: 'new' | 'changed' | 'same'
  readonly card?: CardPlan
}

export interface GenerationRow {
  readonly generation: number
  /** ISO, when it was applied. */
  readonly applied: string
  readonly image: string
  /** The newest is what is in force. */
  readonly current: boolean
}

export class Applying {
  readonly #ctx: Context
  readonly #agents: Agents
  readonly #own: readonly Tool[]
  readonly #declared: DeclaredTools
  readonly #servers: McpServers
  readonly #components: Components

  constructor(
    ctx: Context,
    agents: Agents,
    tools: {
      readonly own: readonly Tool[]
      readonly declared: DeclaredTools
      readonly servers: McpServers
      readonly components: Components
    },
  ) {
    this.#ctx = ctx
    this.#agents = agents
    this.#own = tools.own
    this.#declared = tools.declared
    this.#servers = tools.servers
    this.#components = tools.components
  }

  /** Applies all or nothing: every program is built before anything is recorded. */
  async apply(
    manifests: readonly Manifest[],
    programs: ReadonlyMap<string, Program>,
    components: readonly Buffer[] = [],
  ): Promise<Applied[]> {
    const { control, images, log } = this.#ctx
    this.#require(manifests)
    this.#requireComponents(manifests, components)
    const built = new Map<Manifest, string>()
    for (const manifest of manifests)
      if (manifest.kind === 'Agent')
        built.set(manifest, (await images.build(programOf(manifest, programs), manifest.name)).hash)
    const named = componentsOf(manifests)
    for (const bytes of components) if (named.has(componentDigest(bytes))) await this.#components.keep(bytes)
    // A card that names a tool is parsed again from the record, where the tool must then stand before it.
    // And what an agent names stands before it is named.
    const last = ({ kind }: Manifest) => Number(kind === 'Agent')
    const ordered = [...manifests].sort((a, b) => last(a) - last(b))
    const done = ordered.map((manifest): Applied & { pos: Pos } => {
      const named = { kind: manifest.kind, name: nameOf(manifest) }
      if (declares(manifest)) return { ...named, ...control.declare(manifest.tenant, declaringOf(manifest)) }
      if (manifest.kind !== 'Agent') return { ...named, ...control.applyEgress(egressOf(manifest)) }
      return { ...named, ...control.apply(wishOf(manifest, built.get(manifest) as string)) }
    })
    this.#renew(manifests)
    for (const { pos, changed } of done) if (changed) await log.untilDurable(pos)
    return done.map(({ pos: _pos, ...shown }) => shown)
  }

  /** What `apply` of the same would do. Programs are built and thrown away; nothing is recorded. */
  async plan(
    manifests: readonly Manifest[],
    programs: ReadonlyMap<string, Program>,
    components: readonly Buffer[] = [],
  ): Promise<Planned[]> {
    const { control, images } = this.#ctx
    const declarations = this.#require(manifests)
    const declared = this.#declared.from(declarations)
    for (const bytes of components) await this.#components.check(bytes)
    this.#requireComponents(manifests, components)
    const planned: Planned[] = []
    for (const manifest of manifests) {
      const named = { kind: manifest.kind, name: nameOf(manifest) }
      if (declares(manifest))
        planned.push({ ...named, ...control.declarations.next(manifest.tenant, declaringOf(manifest)) })
      else if (manifest.kind !== 'Agent')
        planned.push({ ...named, changed: control.differs(egressOf(manifest)) })
      else {
        const image = await images.hashOf(programOf(manifest, programs), manifest.name)
        const tools = [...this.#own, ...declared.of(manifest.tenant)]
        planned.push(this.#planned(wishOf(manifest, image), manifest.card, tools))
      }
    }
    return planned
  }

  #requireComponents(manifests: readonly Manifest[], given: readonly Buffer[]): void {
    const here = new Set(given.map(componentDigest))
    for (const manifest of manifests) {
      if (manifest.kind !== 'Tool' && manifest.kind !== 'Middleware') continue
      const { wasm, name } = manifest.declaration
      if (!wasm || here.has(wasm.digest) || this.#components.has(wasm.digest)) continue
      throw new KernelError(
        'Malformed',
        'BadComponent',
        `${manifest.file}: the component of \`${name}\` was not sent`,
      )
    }
  }

  /** Refuses what cannot be in force together. What will be declared, once these are applied. */
  #require(manifests: readonly Manifest[]): Declarations {
    requireDistinct(manifests)
    const declaring = manifests
      .filter(declares)
      .map((manifest) => [manifest.tenant, declaringOf(manifest)] as const)
    const next = this.#ctx.control.declarations.with(declaring)
    for (const manifest of manifests) if (manifest.kind === 'Agent') requireMiddleware(manifest, next)
    for (const tenant of new Set(declaring.map(([tenant]) => tenant))) requireOneEach(tenant, next)
    return next
  }

  #planned(wish: AgentWish, card: RootCard, tools: readonly Tool[]): Planned {
    const { control, derived } = this.#ctx
    const { tenant, name, image } = wish
    const before = control.findGeneration(tenant, name)
    derived.apply()
    return {
      kind: 'Agent',
      name: `${tenant}/${name}`,
      ...control.nextOf(wish),
      agents: derived.countOfType(tenant, name),
      program: before === undefined ? 'new' : before.image === image ? 'same' : 'changed',
      card: planCard(card, before?.card, tools),
    }
  }

  /** Every version of a type's manifest, the newest first. */
  generations(tenant: string, name: string): GenerationRow[] {
    const current = this.#ctx.control.requireGeneration(tenant, name).generation
    return this.#ctx.control
      .historyOf(tenant, name)
      .map(({ generation, timeMs, image }) => ({
        generation,
        applied: new Date(timeMs).toISOString(),
        image,
        current: generation === current,
      }))
      .reverse()
  }

  /**
   * Applies an earlier version again, as a new generation. `to` left out is the one before the current.
   * Its card is read by what its tools declare now.
   */
  async rollback(
    tenant: string,
    name: string,
    { to, dryRun = false }: { to?: number | undefined; dryRun?: boolean | undefined },
  ): Promise<Planned> {
    const { control, images, log } = this.#ctx
    const { generation } = control.requireGeneration(tenant, name)
    const wanted = to ?? generation - 1
    const found = control.historyOf(tenant, name).find((one) => one.generation === wanted)
    if (!found)
      throw new KernelError(
        'NotFound',
        'NoSuchGeneration',
        `\`${tenant}/${name}\` has no generation ${wanted}: \`cardinal generations ${tenant}/${name}\``,
      )
    await images.get(found.image)
    if (control.requireGeneration(tenant, name).generation !== generation)
      throw new KernelError(
        'Conflict',
        'AppliedMeanwhile',
        `\`${tenant}/${name}\` was applied meanwhile: look again`,
      )
    const body = control.readApplied(found.pos)
    const wish = { tenant, name, image: found.image, body }
    const card = parseCard(body.card, 'spec.card', (tool) => control.defaultsOf(tool, tenant))
    const planned = this.#planned(wish, card, [...this.#own, ...this.#declared.of(tenant)])
    if (dryRun) return planned
    const { pos } = control.apply(wish)
    this.#ctx.authority.reroot(tenant, name)
    this.#agents.sunk(tenant)
    await log.untilDurable(pos)
    return planned
  }

  /** What was applied holds from the next decision on, for whoever is awake and whoever sleeps (R18). */
  #renew(manifests: readonly Manifest[]): void {
    const { authority } = this.#ctx
    const tenants = new Set<string>()
    for (const manifest of manifests) {
      if (!('tenant' in manifest)) continue
      tenants.add(manifest.tenant)
      if (manifest.kind === 'Limits') this.#agents.reweigh(manifest.tenant)
      if (manifest.kind === 'Middleware' || manifest.kind === 'Limits') continue
      if (manifest.kind !== 'Agent') authority.refresh(manifest.tenant)
      else authority.reroot(manifest.tenant, manifest.name)
    }
    this.#servers.retire(this.#ctx.control.declarations.mcpServers())
    this.#components.retain(this.#ctx.control.declarations.components())
    for (const tenant of tenants) this.#agents.sunk(tenant)
  }
}

/** Digests of the components that they name. */
function componentsOf(manifests: readonly Manifest[]): ReadonlySet<string> {
  return new Set(
    manifests.flatMap((m) =>
      (m.kind === 'Tool' || m.kind === 'Middleware') && m.declaration.wasm ? [m.declaration.wasm.digest] : [],
    ),
  )
}

function wishOf(manifest: AgentManifest, image: string): AgentWish {
  const { tenant, name, cardSource, timeoutMs, idleMs, idempotency, secrets, middleware } = manifest
  const handles = Object.keys(secrets).length > 0 ? { secrets } : {}
  const named = middleware.length > 0 ? { middleware } : {}
  const body = { card: cardSource, timeoutMs, idleMs, idempotency, ...handles, ...named }
  return { tenant, name, image, body }
}

/** The kind of the log's entry that each of them becomes. */
const DECLARES = {
  Tool: 'tool',
  Model: 'model',
  McpServer: 'mcp-server',
  McpTools: 'mcp-tools',
  Middleware: 'middleware',
  Limits: 'limits',
} as const satisfies Record<DeclaringManifest['kind'], Declaring['kind']>

function declares(manifest: Manifest): manifest is DeclaringManifest {
  return manifest.kind in DECLARES
}

function declaringOf({ kind, declaration }: DeclaringManifest): Declaring {
  return { kind: DECLARES[kind], is: declaration } as Declaring
}

/** What a type names must be there: where it is not, nothing that the type does would pass. */
function requireMiddleware({ tenant, file, middleware }: AgentManifest, next: Declarations): void {
  const missing = middleware.find((name) => !next.find('middleware', tenant, name))
  if (missing === undefined) return
  throw new KernelError(
    'Malformed',
    'BadManifest',
    `${file}: there is no middleware \`${tenant}/${missing}\``,
  )
}

/** One name, one tool: whoever has a card for it must know which is meant. */
function requireOneEach(tenant: string, next: Declarations): void {
  const seen = new Set(next.of('tool', tenant).map(({ name }) => name))
  for (const { name, tools } of next.of('mcp-tools', tenant))
    for (const tool of tools) {
      const known = mcpToolName(name, tool.name)
      if (seen.has(known))
        throw new KernelError('Conflict', 'ToolExists', `\`${tenant}\` would have two tools \`${known}\``)
      seen.add(known)
    }
}

function egressOf(manifest: ZoneManifest | NetworkManifest): Egress {
  const { name } = manifest
  if (manifest.kind === 'Network') return { kind: 'network', is: { name, deny: manifest.deny } }
  return { kind: 'zone', is: { name, hosts: manifest.hosts, ranges: manifest.ranges } }
}

function programOf({ tenant, name }: AgentManifest, programs: ReadonlyMap<string, Program>): Program {
  const program = programs.get(`${tenant}/${name}`)
  if (program) return program
  throw new KernelError('Malformed', 'BadProgram', `the program of \`${tenant}/${name}\` was not sent`)
}

function nameOf(manifest: Manifest): string {
  if (!('tenant' in manifest)) return manifest.name
  return `${manifest.tenant}/${manifest.kind === 'Agent' ? manifest.name : manifest.declaration.name}`
}

function requireDistinct(manifests: readonly Manifest[]): void {
  const seen = new Set<string>()
  for (const manifest of manifests) {
    const name = nameOf(manifest)
    const wish = `${manifest.kind} ${name}`
    if (seen.has(wish))
      throw new KernelError('Malformed', 'BadManifest', `${manifest.file}: \`${name}\` is there twice`)
    seen.add(wish)
  }
}
