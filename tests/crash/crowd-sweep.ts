/**
 * The crowd sweep: many more agents than may be awake, so that they are saved, put to sleep and woken all the time,
 * and the node is killed, or loses its power, in the middle of that: while they come and go, while everybody who is
 * awake is saved at once, and at each step of a save.
 *
 * The claims: whatever was answered stays; each agent works each round once, by the ledger, by its memory and by its
 * home, which say the same; large memory is whole; `replay` and `verify` pass.
 */
import fs from 'node:fs'
import path from 'node:path'
import { tempFolder } from '../support/kernel.ts'
import { rng } from '../support/seed.ts'
import type { CrowdConfig } from './crowd-node.ts'
import { cutPower, LIBRARY } from './power.ts'
import { type NodeProcess, startNode } from './processes.ts'

export interface CrowdOptions {
  readonly seed: number
  /** How often the node ends without warning. */
  readonly ends: number
  /** What was not synced is lost then. */
  readonly power: boolean
  /** Leaves a sync out: the canary. */
  readonly skipSync?: 'batch'
  readonly onEnd?: (done: number) => void
}

export interface CrowdResult {
  readonly ends: number
  /** Ends by what went on: `coming`, `closing`, or a crash point. */
  readonly points: Record<string, number>
  readonly lostSectors: number
  readonly problems: readonly string[]
}

const PLAIN = 90
const WITH_HOMES = 36
const LARGE = 2
const MAX_LIVE = 24
const ENDS_A_ROUND = 12
const STEPS = ['snapshot.before', 'snapshot.saved', 'turn.appended', 'turn.durable', 'effect.performed']

export async function crowdSweep(options: CrowdOptions): Promise<CrowdResult> {
  const random = rng(options.seed)
  const points: Record<string, number> = {}
  const problems: string[] = []
  let ends = 0
  let lostSectors = 0
  while (ends < options.ends && problems.length === 0) {
    const crowd = new Crowd(options, random)
    try {
      const wanted = Math.min(ENDS_A_ROUND, options.ends - ends)
      for (let i = 0; i < wanted && problems.length === 0; i++) {
        const { at, fatal, lost } = await crowd.endOnce()
        if (fatal !== undefined) problems.push(`end ${i} at ${at}: ${fatal}`)
        points[at] = (points[at] ?? 0) + 1
        lostSectors += lost
        ends++
        options.onEnd?.(ends)
      }
      if (problems.length === 0) problems.push(...(await crowd.check()))
    } finally {
      crowd.remove()
    }
  }
  return { ends, points, lostSectors, problems: problems.map((p) => `seed ${options.seed}: ${p}`) }
}

class Crowd {
  readonly #options: CrowdOptions
  readonly #random: () => number
  readonly #folder = tempFolder()
  readonly #base: CrowdConfig
  readonly #names = [
    ...Array.from({ length: PLAIN }, (_, i) => `p${i}`),
    ...Array.from({ length: WITH_HOMES }, (_, i) => `h${i}`),
    ...Array.from({ length: LARGE }, (_, i) => `m${i}`),
  ]
  /** How many rounds each was heard to have worked. */
  readonly #heard = new Map<string, number>(this.#names.map((name) => [name, 0]))

  /** Answers that nobody should have had. */
  readonly #wrong: string[] = []

  constructor(options: CrowdOptions, random: () => number) {
    this.#options = options
    this.#random = random
    const data = path.join(this.#folder, 'data')
    this.#base = {
      data,
      anchor: path.join(data, 'anchor'),
      ledger: path.join(this.#folder, 'ledger'),
      maxLive: MAX_LIVE,
      idleMs: random() < 0.5 ? 0 : 30,
      ...(options.skipSync && { skipSync: options.skipSync }),
    }
  }

  #start(crash: Partial<CrowdConfig> = {}): NodeProcess {
    const { data } = this.#base
    const journal = path.join(this.#folder, 'journal')
    const env = this.#options.power
      ? { LD_PRELOAD: LIBRARY, POWERCUT_FOLDER: data, POWERCUT_JOURNAL: journal }
      : {}
    return startNode({ ...this.#base, ...crash }, env, 'crowd-node.ts')
  }

  /** Runs a node until it ends without warning. */
  async endOnce(): Promise<{ at: string; fatal: string | undefined; lost: number }> {
    const random = this.#random
    const step = random() < 0.4 ? (STEPS[Math.floor(random() * STEPS.length)] as string) : undefined
    const closing = step === undefined && random() < 0.5
    const node = this.#start(step ? { crashAt: step, crashOn: 1 + Math.floor(random() * 150) } : {})
    if (await node.ready) {
      const worked = this.#work(node)
      if (closing) {
        await Promise.race([worked, sleep(random() * 1500)])
        void node.ask({ op: 'close' }).catch(() => {})
        setTimeout(() => node.kill(), random() * 60)
      } else {
        const timer = setTimeout(() => node.kill(), step ? 2500 : random() * 1500)
        await node.exited
        clearTimeout(timer)
      }
    }
    await node.exited
    const lost = this.#options.power
      ? cutPower(this.#base.data, path.join(this.#folder, 'journal'), random, random()).sectors
      : 0
    return { at: step ?? (closing ? 'closing' : 'coming'), fatal: node.fatal(), lost }
  }

  /** Everybody works one round more than it was heard to have, all at once, in an order drawn anew. */
  async #work(node: NodeProcess): Promise<void> {
    const order = this.#names
      .map((name) => ({ name, at: this.#random() }))
      .sort((a, b) => a.at - b.at)
      .map(({ name }) => name)
    await Promise.all(
      order.map(async (agent) => {
        const round = (this.#heard.get(agent) as number) + 1
        const answer = await node.ask({ op: 'work', agent, round }).catch(() => undefined)
        const reply = answer?.reply as { ok: boolean; value: number } | undefined
        if (reply?.ok === true && reply.value === round) this.#heard.set(agent, round)
        // Whoever finds no room, or a node that closes, is told so and comes again.
        else if (reply || (answer?.error && !/^(Busy|Unavailable)$/.test(answer.error.class)))
          this.#wrong.push(`${agent} was answered ${JSON.stringify(answer)} in round ${round}`)
      }),
    )
  }

  async check(): Promise<string[]> {
    const node = this.#start()
    if (!(await node.ready)) return [`the last start failed: ${node.fatal()}`]
    const problems = [...this.#wrong]
    const most = Math.max(...this.#heard.values()) + 1
    for (let tries = 0; [...this.#heard.values()].some((heard) => heard < most); tries++) {
      // Those ahead wait for those behind.
      const behind = this.#names.filter((name) => (this.#heard.get(name) as number) < most)
      problems.push(...(await this.#catchUp(node, behind)))
      if (problems.length > 0 || tries > 50) return [...problems, `${behind.length} were never answered`]
    }
    for (const agent of this.#names) problems.push(...(await this.#checkBooks(node, agent, most)))
    const verified = await node.ask({ op: 'verify' })
    if (verified.ok !== true) problems.push(`verify: ${JSON.stringify(verified)}`)
    await node.ask({ op: 'close' })
    await node.stop()
    return [...problems, ...this.#checkLedger(most)]
  }

  async #catchUp(node: NodeProcess, behind: readonly string[]): Promise<string[]> {
    const problems: string[] = []
    await Promise.all(
      behind.map(async (agent) => {
        const round = (this.#heard.get(agent) as number) + 1
        const { reply, error } = await node.ask({ op: 'work', agent, round })
        const { ok, value } = (reply ?? {}) as { ok?: boolean; value?: number }
        if (ok && value === round) this.#heard.set(agent, round)
        else if (error?.class !== 'Busy')
          problems.push(`${agent}, round ${round}: ${JSON.stringify(error ?? reply)}`)
      }),
    )
    return problems
  }

  async #checkBooks(node: NodeProcess, agent: string, most: number): Promise<string[]> {
    const { reply, error } = await node.ask({ op: 'books', agent })
    const books = (reply as { value?: { rounds: number[]; stored: number[]; whole: boolean } } | undefined)
      ?.value
    if (!books) return [`${agent} has no books: ${JSON.stringify(error ?? reply)}`]
    const all = JSON.stringify(Array.from({ length: most }, (_, i) => i + 1))
    const right = JSON.stringify(books.rounds) === all && JSON.stringify(books.stored) === all && books.whole
    const replayed = await node.ask({ op: 'replay', agent })
    return [
      ...(right ? [] : [`the books of ${agent}, after ${most} rounds: ${JSON.stringify(books)}`]),
      ...(replayed.error ? [`replay of ${agent}: ${replayed.error.message}`] : []),
    ]
  }

  /** What came again under its key is one; what came under two keys was done twice. */
  #checkLedger(most: number): string[] {
    const lines = fs.readFileSync(this.#base.ledger, 'utf8').trimEnd().split('\n')
    const keys = new Map<string, Set<string>>()
    for (const line of lines) {
      const { who, round, key } = JSON.parse(line) as { who: string; round: number; key: string }
      const name = `${who}, round ${round}`
      keys.set(name, (keys.get(name) ?? new Set()).add(key))
    }
    const problems = [...keys].flatMap(([name, of]) =>
      of.size === 1 ? [] : [`${name} was done ${of.size} times`],
    )
    const wanted = this.#names.length * most
    return keys.size === wanted ? problems : [...problems, `${keys.size} of ${wanted} were done`]
  }

  remove(): void {
    fs.rmSync(this.#folder, { recursive: true, force: true })
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
