/**
 * Homes that leave their node as files, and come in as such.
 *
 * What goes in is an input like any other: its bytes are in the agent's log, under the agent's key, before
 * the agent has them, and a replay puts them in again. The agent begins anew with them, and with what the
 * agent that wrote them had read: a home is no way around a flow or a label (threat 72).
 */
import fs from 'node:fs'
import { codec, flowSinksOf, influenceOf, showSinks } from '@cardinal/cards'
import type { NodeKey } from '@cardinal/oplog'
import type { LiveAgent } from './agent.ts'
import type { Agents } from './agents.ts'
import type { Context } from './context.ts'
import { KernelError } from './errors.ts'
import {
  checkHomeFile,
  digestOf,
  encodeHomeHeader,
  type HomeHeader,
  MAX_HEADER_BYTES,
  readHomeHeader,
} from './home-file.ts'
import { parseAddress } from './ids.ts'
import { requireNotWiping } from './wiping.ts'

export interface HomeWish {
  /** The public key of the node that must have signed it, as hex; left out: this node's own. */
  readonly nodeKey?: string | undefined
  /** The agent may have been at work: what it has is wiped first. */
  readonly replace?: boolean | undefined
}

/** What an agent says of its home as it leaves. */
export interface ExportedHome extends Pick<HomeHeader, 'seq' | 'influence' | 'fixed'> {
  /** The first words of its program were said to it. */
  readonly setUp: boolean
}

const MAX_FILE = 4 * 2 ** 30
/** What came from a node that is not this one is anybody's. */
const FOREIGN = 'untrusted'

export class HomeTransfer {
  readonly #ctx: Context
  readonly #agents: Agents
  readonly #nodeKey: NodeKey
  readonly #admit: () => void

  constructor(ctx: Context, agents: Agents, nodeKey: NodeKey, admit: () => void) {
    this.#admit = admit
    this.#ctx = ctx
    this.#agents = agents
    this.#nodeKey = nodeKey
  }

  /**
   * Writes the home of an agent, as it is between two turns, into a new file. It is on record that it
   * left before anything of it does. `NoHome`: the agent has stored nothing.
   */
  async export(
    address: string,
    principal: string,
  ): Promise<{ readonly file: string; readonly header: HomeHeader }> {
    const agent = await this.#agents.find(parseAddress(address))
    if (!agent) throw new KernelError('NotFound', 'NoSuchAgent', `no agent \`${address}\``)
    const database = this.#ctx.homes.spool()
    const file = this.#ctx.homes.spool()
    try {
      const { seq, setUp, influence, fixed } = await agent.exportHome(database, principal)
      const header: HomeHeader = {
        format: 1,
        node: this.#nodeKey.publicHex,
        tenant: agent.address.tenant,
        address: agent.name,
        birth: agent.identity.birth.toString('hex'),
        seq,
        image: setUp ? agent.image.hash : '',
        exported: new Date(this.#ctx.clock.nowMs()).toISOString(),
        sqlite: this.#ctx.runsOn.sqlite,
        ...(await digestOf(database)),
        influence,
        fixed,
      }
      fs.writeFileSync(file, encodeHomeHeader(header, this.#nodeKey.privateKey))
      await fs.promises.appendFile(file, fs.createReadStream(database))
      return { file, header }
    } catch (error) {
      fs.rmSync(file, { force: true })
      throw this.#ctx.homes.toTell(error, address)
    } finally {
      fs.rmSync(database, { force: true })
    }
  }

  /**
   * Lets an agent begin anew with a home that was exported: it is born for it if it never was. Resolves
   * when that is durable; after a crash before that the agent is as it was, or empty if it was replaced.
   *
   * `InUse`: the agent has been at work, and nobody said to replace that. `OtherTenant`: nothing crosses
   * tenants. `NoSpace`: its card does not let its home be so large.
   */
  async import(
    address: string,
    bytes: AsyncIterable<Uint8Array>,
    wish: HomeWish,
    principal: string,
  ): Promise<HomeHeader> {
    this.#admit()
    const at = parseAddress(address)
    const file = this.#ctx.homes.spool()
    const database = this.#ctx.homes.spool()
    try {
      const born = await this.#agents.find(at)
      await spool(bytes, file, (header) => born && requireFit(born, header, wish))
      const own = this.#nodeKey.publicHex
      const home = await checkHomeFile(file, wish.nodeKey ?? own)
      if (home.header.tenant !== at.tenant)
        throw new KernelError('Refused', 'OtherTenant', `this is a home of tenant \`${home.header.tenant}\``)
      await fs.promises.writeFile(database, fs.createReadStream(file, { start: home.at }))
      const problems = await this.#ctx.engine.checkExport(database)
      if (problems.length > 0) throw new KernelError('Malformed', 'BadHomeFile', problems.join('; '))
      const agent = await this.#agents.require(at)
      requireFit(agent, home.header, wish)
      const influence = home.header.node === own ? home.header.influence : foreign(home.header)
      await agent.importHome({ ...home, influence, database }, principal, () =>
        requireFit(agent, home.header, wish),
      )
      return home.header
    } catch (error) {
      throw this.#ctx.homes.toTell(error, address)
    } finally {
      fs.rmSync(file, { force: true })
      fs.rmSync(database, { force: true })
    }
  }
}

/** Keeps what comes as far as its header says that it goes: nobody fills the disk with what no home may take. */
async function spool(
  bytes: AsyncIterable<Uint8Array>,
  file: string,
  check: (header: HomeHeader) => void,
): Promise<void> {
  let most = MAX_HEADER_BYTES
  let head: Buffer | undefined = Buffer.alloc(0)
  let taken = 0
  async function* bounded() {
    for await (const piece of bytes) {
      taken += piece.length
      if (head) {
        head = Buffer.concat([head, piece])
        const found = readHomeHeader(head)
        if (found) {
          if (found.header.bytes > MAX_FILE) throw tooLarge()
          check(found.header)
          most = found.at + found.header.bytes
          head = undefined
        }
      }
      if (taken > most) throw tooLarge()
      yield piece
    }
  }
  await fs.promises.writeFile(file, bounded())
}

function tooLarge(): KernelError {
  return new KernelError(
    'Malformed',
    'BadHomeFile',
    'the file is longer than its header says, or than any home may be',
  )
}

function foreign({ fixed }: HomeHeader): HomeHeader['influence'] {
  return { ...fixed, labels: [...new Set([...(fixed.labels ?? []), FOREIGN])].sort() }
}

function requireFit(agent: LiveAgent, header: HomeHeader, { replace }: HomeWish): void {
  const { state, name } = agent
  if (state.stopped) throw new KernelError('Stopped', 'Stopped', `\`${name}\` is stopped`)
  if (state.held) throw new KernelError('Conflict', 'Held', `\`${name}\` is held`)
  requireNotWiping(agent)
  if (header.bytes > agent.homeBytes)
    throw new KernelError(
      'Refused',
      'NoSpace',
      `the home of \`${name}\` may have ${agent.homeBytes} bytes, and this one has ${header.bytes}`,
    )
  if ((state.turns > 0 || state.invocations.size > 0) && !replace)
    throw new KernelError('Conflict', 'InUse', `\`${name}\` has been at work; what it has would be lost`)
}

/** What the agent of a row had read, as its home is signed with: with what moves, and as it stands now. */
export function influenceToSign(
  world: Parameters<typeof influenceOf>[0],
  row: Parameters<typeof influenceOf>[1],
): Pick<HomeHeader, 'influence' | 'fixed'> {
  const influence = codec.encodeInfluence(influenceOf(world, row))
  const { labels } = influence
  return { influence, fixed: { sinks: [...showSinks(flowSinksOf(world, row))], ...(labels && { labels }) } }
}
