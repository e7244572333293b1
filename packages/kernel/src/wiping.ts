/**
 * A wipe by the host (R18): an agent loses its memory and its inbox, and only then what bound it beyond
 * its birth. Its address, its children and what was taken of its budgets stay.
 *
 * Two entries: from `wiping` on nothing of it runs, nothing new is taken in, and what it has out comes to
 * its end; `wiped` is its second birth. A crash in between goes on where it was.
 */
import { isStopped, join, wipe } from '@cardinal/cards'
import type { LiveAgent, Surroundings } from './agent.ts'
import type { AuthorityMeta } from './authority-wire.ts'
import { KernelError } from './errors.ts'
import { influenceGiven } from './given-home.ts'
import { owed } from './turn-entry.ts'
import { birthEvent } from './wire.ts'

const RETRY_MS = 1000

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: KernelError) => void
}

/** A home that is in the log, for an agent that begins anew with it. */
export interface NewHome {
  readonly payload: Buffer
  /** Whether the agent's own program has set it up. */
  readonly setUp: 'same' | 'other'
}

export class Wiping {
  readonly #around: Surroundings
  readonly #agent: LiveAgent
  /** Who waits for the end of it. */
  #waiting: Waiting[] = []
  #going = false
  /** With what it begins anew; left out: with nothing. */
  #given: NewHome | undefined

  constructor(around: Surroundings, agent: LiveAgent) {
    this.#around = around
    this.#agent = agent
  }

  /** Resolves when the agent has begun anew, durably; rejects if it is stopped or put away before that. */
  begin(principal: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#agent.betweenTurns(() => {
        this.beginNow(principal).then(resolve, reject)
        this.#agent.pump()
      })
    })
  }

  /** The same in the place of a turn, whose end then goes on with it. */
  beginNow(principal: string, given?: NewHome): Promise<void> {
    const agent = this.#agent
    if (agent.state.stopped || isStopped(agent.standing.world, agent.standing.row))
      return Promise.reject(stopped(agent))
    // Two that mean the same wait for one end; of two that do not, the later one comes again.
    if (agent.state.wiping && (given ?? this.#given)) return Promise.reject(wipingError(agent))
    this.#given = given
    const done = new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }))
    if (!agent.state.wiping) {
      const out = [...agent.state.effects.keys()]
      agent.append('wiping', { by: principal, ...owed(agent.state, out) }, [])
      for (const id of out) agent.outgoing.abandon(id)
      this.#around.ctx.crashPoint('wipe.begun')
    }
    return done
  }

  /**
   * Ends what callers wait for; when nothing is out any more, the agent begins anew, with nothing or with a
   * home that was given. Undefined: it does not yet.
   */
  goOn(): 'empty' | 'given' | undefined {
    // The end of an invocation looks for something to do, and comes here again.
    if (this.#going) return undefined
    this.#going = true
    try {
      return this.#goOn()
    } finally {
      this.#going = false
    }
  }

  #goOn(): 'empty' | 'given' | undefined {
    const agent = this.#agent
    const { state, standing } = agent
    for (const id of [...state.invocations.keys()])
      agent.ending.end(id, 'Cancelled', 'Wiped', 'the host wiped the agent')
    if (state.effects.size > 0 || agent.outgoing.busy) return undefined
    const { held, births } = standing.row
    const gave = [...held].filter((card) => !births.includes(card)).map((card) => card.id)
    const meta: AuthorityMeta = gave.length > 0 ? { gave } : {}
    wipe(standing.world, standing.row)
    standing.beganAnew()
    const { births: cards } = state.holding
    const given = this.#given
    this.#given = undefined
    // What was read into it binds whoever has it from here on.
    if (given) join(standing.row, influenceGiven(given.payload))
    const { pos } = given
      ? agent.append('wiped', { ...meta, home: 1 }, [
          birthEvent(agent.address, cards, given.setUp),
          given.payload,
        ])
      : agent.append('wiped', meta, [birthEvent(agent.address, cards)])
    this.#around.ctx.crashPoint('wipe.done')
    for (const { resolve } of this.#waiting.splice(0)) this.#around.ctx.log.whenDurable(pos, resolve)
    this.#around.lowered(agent.address.tenant)
    return given ? 'given' : 'empty'
  }

  /** The agent will not begin anew: it is stopped, or put away. */
  giveUp(): void {
    const agent = this.#agent
    const error = agent.state.stopped
      ? stopped(agent)
      : new KernelError('Unavailable', 'Closing', `\`${agent.name}\` is being put away; look at it again`)
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }
}

/** What is taken in between would be lost: whoever brings it is told to come again. */
export function wipingError({ name, state }: Pick<LiveAgent, 'name' | 'state'>): KernelError | undefined {
  if (!state.wiping) return undefined
  const message = `\`${name}\` is being wiped, and takes nothing in before it begins anew`
  return new KernelError('Unavailable', 'Wiping', message, { retryAfterMs: RETRY_MS })
}

export function requireNotWiping(agent: Pick<LiveAgent, 'name' | 'state'>): void {
  const error = wipingError(agent)
  if (error) throw error
}

function stopped({ name }: LiveAgent): KernelError {
  return new KernelError('Stopped', 'Stopped', `\`${name}\` is stopped, and stays so`)
}
