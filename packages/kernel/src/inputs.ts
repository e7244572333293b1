/** Which of an agent's pending inputs its next turn takes. */
import { assert } from './errors.ts'
import type { InvocationId } from './ids.ts'
import type { AgentState, PendingInput } from './state.ts'

const MAX_BATCH = 256

/**
 * What the next turn delivers: one invocation's inputs at a time, so that a turn that fails takes
 * nobody else with it. A method that is not shared waits until no other such is under way.
 */
export function chooseInputs(state: AgentState): PendingInput[] {
  const busy = state.ending.size > 0 || [...state.invocations.values()].some((i) => i.delivered && !i.shared)
  const ready = (input: PendingInput) => {
    if (input.kind === 'birth') return false
    if (input.kind !== 'invoke') return true
    const invocation = state.invocations.get(input.invocation as InvocationId)
    assert(invocation, 'a pending invocation is open')
    return invocation.shared || !busy
  }
  const birth = state.pending[0]?.kind === 'birth' ? [state.pending[0]] : []
  const first = state.pending.find(ready)
  if (!first) return []
  if (first.kind === 'invoke') return [...birth, first]
  const same = state.pending.filter(
    (p) => p.kind !== 'invoke' && p.kind !== 'birth' && p.invocation === first.invocation,
  )
  return [...birth, ...same.slice(0, MAX_BATCH)]
}
