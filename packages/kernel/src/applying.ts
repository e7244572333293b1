/** Manifests on a running node: planned, applied, listed by generation, and rolled back. */
import { parseCard, type RootCard } from '@cardinal/cards'
import type {
  AgentManifest,
  Manifest,
  McpServerManifest,
  McpToolsManifest,
  NetworkManifest,
  ZoneManifest,
} from '@cardinal/manifests'
import type { Pos } from '@cardinal/oplog'
import type { Bundle } from '@cardinal/sdk/bundle'
import {
  cliTool,
  declaredTool,
  type McpServers,
  mcpTool,
  mcpToolName,
  mcpTools,
  type Tool,
} from '@cardinal/tools'
import type { Agents } from './agents.ts'
import type { Context } from './context.ts'
import type { AgentWish, Egress, McpWish } from './control.ts'
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
  readonly #http: Tool
  readonly #servers: McpServers

  constructor(
    ctx: Context,
    agents: Agents,
    tools: {
      readonly own: readonly Tool[]
      readonly declared: DeclaredTools
      readonly http: Tool
      readonly servers: McpServers
    },
  ) {
    this.#ctx = ctx
    this.#agents = agents
    this.#own = tools.own
    this.#declared = tools.declared
    this.#http = tools.http
    this.#servers = tools.servers
  }

  /** Applies all or nothing: every program is built before anything is recorded. */
  async apply(manifests: readonly Manifest[], programs: ReadonlyMap<string, Bundle>): Promise<Applied[]> {
    const { control, images, log } = this.#ctx
    requireDistinct(manifests)
    this.#requireMiddleware(manifests)
    this.#requireOneEach(manifests)
    const built = new Map<Manifest, string>()
    for (const manifest of manifests)
      if (manifest.kind === 'Agent')
        built.set(manifest, (await images.build(bundleOf(manifest, programs), manifest.name)).hash)
    // A card that names a tool is parsed again from the record, where the tool must then stand before it.
    // And what an agent names stands before it is named.
    const last = ({ kind }: Manifest) => Number(kind === 'Agent')
    const ordered = [...manifests].sort((a, b) => last(a) - last(b))
    const done = ordered.map((manifest): Applied & { pos: Pos } => {
      const named = { kind: manifest.kind, name: nameOf(manifest) }
      if (manifest.kind === 'Tool')
        return { ...named, ...control.applyTool(manifest.tenant, manifest.declaration) }
      if (manifest.kind === 'Model')
        return { ...named, ...control.applyModel(manifest.tenant, manifest.declaration) }
      if (manifest.kind === 'McpServer' || manifest.kind === 'McpTools')
        return { ...named, ...control.applyMcp(manifest.tenant, mcpWish(manifest)) }
      if (manifest.kind === 'Middleware')
        return { ...named, ...control.applyMiddleware(manifest.tenant, manifest.declaration) }
      if (manifest.kind !== 'Agent') return { ...named, ...control.applyEgress(egressOf(manifest)) }
      return { ...named, ...control.apply(wishOf(manifest, built.get(manifest) as string)) }
    })
    this.#renew(manifests)
    for (const { pos, changed } of done) if (changed) await log.untilDurable(pos)
    return done.map(({ pos: _pos, ...shown }) => shown)
  }

  /** What `apply` of the same would do. Programs are built and thrown away; nothing is recorded. */
  async plan(manifests: readonly Manifest[], programs: ReadonlyMap<string, Bundle>): Promise<Planned[]> {
    const { control, images } = this.#ctx
    requireDistinct(manifests)
    this.#requireMiddleware(manifests)
    this.#requireOneEach(manifests)
    const planned: Planned[] = []
    for (const manifest of manifests) {
      const named = { kind: manifest.kind, name: nameOf(manifest) }
      if (manifest.kind === 'Tool')
        planned.push({ ...named, ...control.nextOfTool(manifest.tenant, manifest.declaration) })
      else if (manifest.kind === 'Model')
        planned.push({ ...named, ...control.nextOfModel(manifest.tenant, manifest.declaration) })
      else if (manifest.kind === 'McpServer' || manifest.kind === 'McpTools')
        planned.push({ ...named, ...control.nextOfMcp(manifest.tenant, mcpWish(manifest)) })
      else if (manifest.kind === 'Middleware')
        planned.push({ ...named, ...control.nextOfMiddleware(manifest.tenant, manifest.declaration) })
      else if (manifest.kind !== 'Agent')
        planned.push({ ...named, changed: control.differs(egressOf(manifest)) })
      else {
        const image = await images.hashOf(bundleOf(manifest, programs), manifest.name)
        const tools = this.#tools(manifest.tenant, manifests)
        planned.push(this.#planned(wishOf(manifest, image), manifest.card, tools))
      }
    }
    return planned
  }

  /** What a type names must be there: where it is not, nothing that the type does would pass. */
  #requireMiddleware(manifests: readonly Manifest[]): void {
    const here = new Set(
      manifests.flatMap((m) => (m.kind === 'Middleware' ? [`${m.tenant}/${m.declaration.name}`] : [])),
    )
    for (const manifest of manifests) {
      if (manifest.kind !== 'Agent') continue
      const { tenant, file } = manifest
      const missing = manifest.middleware.find(
        (name) => !here.has(`${tenant}/${name}`) && !this.#ctx.control.findMiddleware(tenant, name),
      )
      if (missing !== undefined)
        throw new KernelError(
          'Malformed',
          'BadManifest',
          `${file}: there is no middleware \`${tenant}/${missing}\``,
        )
    }
  }

  /** One name, one tool: whoever has a card for it must know which is meant. */
  #requireOneEach(manifests: readonly Manifest[]): void {
    const tenants = new Set(
      manifests.flatMap((m) => (m.kind === 'Tool' || m.kind === 'McpTools' ? [m.tenant] : [])),
    )
    for (const tenant of tenants) {
      const { control } = this.#ctx
      const own = (m: Manifest) => 'tenant' in m && m.tenant === tenant
      const declared = new Set([
        ...control.toolsOf(tenant).map(({ name }) => name),
        ...manifests.flatMap((m) => (own(m) && m.kind === 'Tool' ? [m.declaration.name] : [])),
      ])
      const accepted = new Map(control.acceptedOf(tenant).map((one) => [one.name, one]))
      for (const m of manifests)
        if (own(m) && m.kind === 'McpTools') accepted.set(m.accepted.name, m.accepted)
      const seen = new Set(declared)
      for (const { name, tools } of accepted.values())
        for (const tool of tools) {
          const known = mcpToolName(name, tool.name)
          if (seen.has(known))
            throw new KernelError('Conflict', 'ToolExists', `\`${tenant}\` would have two tools \`${known}\``)
          seen.add(known)
        }
    }
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
    const planned = this.#planned(wish, card, this.#tools(tenant, []))
    if (dryRun) return planned
    const { pos } = control.apply(wish)
    this.#ctx.authority.reroot(tenant, name)
    this.#agents.sunk(tenant)
    await log.untilDurable(pos)
    return planned
  }

  /** The tools of a tenant as they will be once these manifests are applied. */
  #tools(tenant: string, manifests: readonly Manifest[]): Tool[] {
    const next = manifests.flatMap((m) =>
      m.kind === 'Tool' && m.tenant === tenant
        ? [m.declaration.cli ? cliTool(m.declaration) : declaredTool(m.declaration, this.#http)]
        : [],
    )
    const servers = manifests.flatMap((m) =>
      m.kind === 'McpServer' && m.tenant === tenant ? [m.declaration] : [],
    )
    const accepted = manifests.flatMap((m) =>
      m.kind === 'McpTools' && m.tenant === tenant ? [m.accepted] : [],
    )
    for (const one of accepted) {
      const server = servers.find(({ name }) => name === one.name)
      if (server) next.push(...mcpTools(server, one).map((tool) => mcpTool(tool, this.#servers)))
    }
    const all = [...this.#own, ...this.#declared.of(tenant), ...next]
    return [...new Map(all.map((tool) => [tool.name, tool])).values()]
  }

  /** What was applied holds from the next decision on, for whoever is awake and whoever sleeps (R18). */
  #renew(manifests: readonly Manifest[]): void {
    const { authority } = this.#ctx
    const tenants = new Set<string>()
    for (const manifest of manifests) {
      if (!('tenant' in manifest)) continue
      tenants.add(manifest.tenant)
      if (manifest.kind === 'Middleware') continue
      if (manifest.kind !== 'Agent') authority.refresh(manifest.tenant)
      else authority.reroot(manifest.tenant, manifest.name)
    }
    this.#servers.retire(this.#ctx.control.mcpServers())
    for (const tenant of tenants) this.#agents.sunk(tenant)
  }
}

function wishOf(manifest: AgentManifest, image: string): AgentWish {
  const { tenant, name, cardSource, timeoutMs, idleMs, idempotency, secrets, middleware } = manifest
  const handles = Object.keys(secrets).length > 0 ? { secrets } : {}
  const named = middleware.length > 0 ? { middleware } : {}
  const body = { card: cardSource, timeoutMs, idleMs, idempotency, ...handles, ...named }
  return { tenant, name, image, body }
}

function mcpWish(manifest: McpServerManifest | McpToolsManifest): McpWish {
  if (manifest.kind === 'McpServer') return { kind: 'mcp-server', is: manifest.declaration }
  return { kind: 'mcp-tools', is: manifest.accepted }
}

function egressOf(manifest: ZoneManifest | NetworkManifest): Egress {
  const { name } = manifest
  if (manifest.kind === 'Network') return { kind: 'network', is: { name, deny: manifest.deny } }
  return { kind: 'zone', is: { name, hosts: manifest.hosts, ranges: manifest.ranges } }
}

function bundleOf({ tenant, name }: AgentManifest, programs: ReadonlyMap<string, Bundle>): Bundle {
  const bundle = programs.get(`${tenant}/${name}`)
  if (bundle) return bundle
  throw new KernelError('Malformed', 'BadProgram', `the program of \`${tenant}/${name}\` was not sent`)
}

function nameOf(manifest: Manifest): string {
  if (!('tenant' in manifest)) return manifest.name
  const { name } =
    manifest.kind === 'Agent'
      ? manifest
      : manifest.kind === 'McpTools'
        ? manifest.accepted
        : manifest.declaration
  return `${manifest.tenant}/${name}`
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
