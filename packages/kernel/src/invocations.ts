/** Who waits for which invocation, and the answers that are not in derived state yet. */

import type { InvocationId } from './ids.ts'
import type { Reply } from './reply.ts'

const KEPT = 10_000

export class Invocations {
  readonly #waiting = new Map<InvocationId, ((reply: Reply) => void)[]>()
  readonly #recent = new Map<InvocationId, Reply>()

  findReply(id: InvocationId): Reply | undefined {
    return this.#recent.get(id)
  }

  /** The reply, once it is durable. */
  wait(id: InvocationId): Promise<Reply> {
    const known = this.#recent.get(id)
    if (known) return Promise.resolve(known)
    return new Promise((resolve) => {
      const list = this.#waiting.get(id)
      if (list) list.push(resolve)
      else this.#waiting.set(id, [resolve])
    })
  }

  settle(id: InvocationId, reply: Reply): void {
    this.#recent.set(id, reply)
    if (this.#recent.size > KEPT) this.#recent.delete(this.#recent.keys().next().value as InvocationId)
    const list = this.#waiting.get(id)
    this.#waiting.delete(id)
    for (const resolve of list ?? []) resolve(reply)
  }
}
