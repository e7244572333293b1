/** A customer's component as middleware: asked before an effect and told its answer, and reaching nothing. */
import type { ComponentRef, RunComponent } from '@cardinal/tools'
import type { Back, Call, Middleware, Step } from './middleware.ts'

export interface OwnComponent extends ComponentRef {
  /** Told with every call. */
  readonly with?: unknown
}

/** What it is asked is `{when, call, value, config}`, and it answers a step, or what becomes of the answer. */
export function component(own: OwnComponent, run: RunComponent): Omit<Middleware, 'name' | 'digest'> {
  const ask = async (asked: object, signal: AbortSignal): Promise<unknown> => {
    const called = await run(own.digest, JSON.stringify({ ...asked, config: own.with ?? null }), own, signal)
    if (!called.done) throw new Error(`${called.kind}: ${called.detail}`)
    if (!called.ok) throw new Error(called.text)
    return JSON.parse(called.text)
  }
  return {
    leaves: true,
    request: (call: Call, signal: AbortSignal) => ask({ when: 'request', call }, signal) as Promise<Step>,
    response: (call: Call, value: unknown, signal: AbortSignal) =>
      ask({ when: 'response', call, value }, signal) as Promise<Back>,
  }
}
