/**
 * A wipe by the host (R18): an agent loses its memory and its inbox, and only then what bound it beyond
 * its birth. Its address, its children and what was taken of its budgets stay.
 *
 * Two entries: from `wiping` on nothing of it runs, and what it has out comes to its end; `wiped` is its
 * second birth. A crash in between goes on where it was.
 */
import { isStopped, wipe } from '@cardinal/cards'
import type { LiveAgent, Surroundings } from './agent.ts'
import type { AuthorityMeta } from './authority-wire.ts'
import { KernelError } from './errors.ts'
import { birthEvent } from './wire.ts'

/** Resolves when the agent has begun anew, durably. */
export function beginWipe(around: Surroundings, agent: LiveAgent, principal: string): Promise<void> {
  return new Promise((resolve, reject) => {
    agent.betweenTurns(() => {
      if (agent.state.stopped || isStopped(agent.standing.world, agent.standing.row)) {
        reject(new KernelError('Stopped', 'Stopped', `\`${agent.name}\` is stopped, and stays so`))
        return
      }
      agent.wiped.push(() => around.ctx.log.whenDurable(agent.state.tip.pos, resolve))
      if (!agent.state.wiping) {
        const out = [...agent.state.effects.keys()]
        agent.append('wiping', { by: principal }, [])
        for (const id of out) agent.outgoing.abandon(id)
        around.ctx.crashPoint('wipe.begun')
      }
      agent.pump()
    })
  })
}

/** Ends what callers wait for; when nothing is out any more, the agent begins anew. Whether it did. */
export function goOnWiping(around: Surroundings, agent: LiveAgent): boolean {
  const { state, standing } = agent
  for (const id of [...state.invocations.keys()])
    agent.ending.end(id, 'Cancelled', 'Wiped', 'the host wiped the agent')
  // The end of the last one may have gone on here already.
  if (!state.wiping || state.effects.size > 0 || agent.outgoing.busy) return false
  const { held, births } = standing.row
  const gave = [...held].filter((card) => !births.includes(card)).map((card) => card.id)
  const took = births.filter((card) => !held.has(card)).map((card) => card.id)
  const meta: AuthorityMeta = { ...(took.length > 0 && { took }), ...(gave.length > 0 && { gave }) }
  wipe(standing.world, standing.row)
  standing.beganAnew()
  agent.append('wiped', meta, [birthEvent(agent.address, state.holding.births)])
  around.ctx.crashPoint('wipe.done')
  for (const done of agent.wiped.splice(0)) done()
  // Asks below its cards may no longer hold, and whoever waits for it is asked anew.
  around.lowered(agent.address.tenant)
  return true
}
