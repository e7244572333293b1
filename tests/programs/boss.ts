/** An agent that makes others and talks to them: what it does is said by its caller. */
import {
  Agent,
  agent,
  cards,
  declassify,
  type Narrow,
  type Opts,
  offers,
  sleep,
  spawn,
  tool,
} from '@cardinal/sdk'

interface Child {
  readonly key?: string
  readonly card: Narrow | Narrow[]
  readonly keep?: boolean
}

type Caller = Record<string, (args: unknown, o?: Opts) => Promise<unknown>>

interface Error2 {
  readonly name: string
  readonly code: string
  readonly by?: string
  readonly message: string
}

function shown(error: unknown): object {
  const { name, code, by, message } = error as Error2
  return { error: name, code, ...(by !== undefined && { by }), message }
}

export default class Boss extends Agent {
  static methods = {
    spawn: {},
    call: {},
    calls: {},
    gather: {},
    tool: {},
    judge: {},
    bits: {},
    verdict: {},
    tools: {},
    derive: {},
    offer: {},
    take: {},
    drop: {},
    revoke: {},
    explain: {},
    held: { shared: true },
    late: {},
    nap: { shared: true },
    own: { authority: 'own' as const },
    open: { admits: '*' as const },
    serial: {},
    many: {},
  }
  got: unknown[] = []

  async spawn({ type = 'boss', ...child }: Child & { type?: string }) {
    try {
      return (await spawn<object>(type, child)).address
    } catch (error) {
      return shown(error)
    }
  }

  /** Calls a method of another agent and shows what came of it. */
  async call({
    to,
    method,
    args,
    opts,
    under,
  }: {
    to: string
    method: string
    args?: unknown
    opts?: Opts
    under?: Narrow
  }) {
    const [type = '', key = ''] = to.split('/')
    const other = agent<object>(type, key) as unknown as Caller
    try {
      const narrow = under ? { under: await this.card.derive(under) } : {}
      return { ok: await other[method]?.(args ?? null, { ...opts, ...narrow }) }
    } catch (error) {
      return shown(error)
    }
  }

  /** Reads what it must not tell, and answers with what its card lets out. */
  async judge({ value }: { value: string }) {
    await tool('db.read', {})
    return declassify(value)
  }

  async verdict({ value, by }: { value: string; by: Narrow }) {
    await tool('db.read', {})
    return declassify(value, { via: await this.card.derive(by) })
  }

  /** Not an answer by itself. */
  bits() {
    return { hidden: declassify('yes') }
  }

  /** Calls several at once, each by its whole address. */
  async calls({ all }: { all: { name: string; method: string }[] }) {
    return Promise.all(
      all.map(async ({ name, method }) => {
        const key = name.split('/').at(-1) as string
        const type = name.slice(0, -key.length - 1)
        try {
          return await (agent<object>(type, key) as unknown as Caller)[method]?.(null)
        } catch (error) {
          return shown(error)
        }
      }),
    )
  }

  /** Makes one child a task, calls each, and tells how many answered what. */
  async gather({
    tasks,
    method,
    args,
    timeout = '20s',
  }: {
    tasks: Narrow[]
    method: string
    args: unknown[]
    timeout?: `${number}${'ms' | 's'}`
  }) {
    const children = await Promise.all(tasks.map((card) => spawn<object>('boss', { card })))
    const settled = await Promise.allSettled(
      children.map((child, i) => (child as unknown as Caller)[method]?.(args[i], { timeout })),
    )
    return settled.map((one) => (one.status === 'fulfilled' ? { ok: one.value } : shown(one.reason)))
  }

  /** Spawns and calls so many children within one invocation. */
  async many({ n, card, args }: { n: number; card: Narrow; args: unknown }) {
    const replies = await Promise.all(
      Array.from({ length: n }, async () => {
        const child = (await spawn<object>('boss', { card })) as unknown as Caller
        return child.tool?.(args)
      }),
    )
    return replies.length
  }

  async tool({ name, args, via }: { name: string; args: unknown; via?: number }) {
    try {
      const card = via === undefined ? undefined : cards()[via]
      return { ok: await tool(name, args, card ? { via: card } : {}) }
    } catch (error) {
      return shown(error)
    }
  }

  async tools({ all }: { all: { name: string; args: unknown }[] }) {
    return Promise.all(all.map((one) => this.tool(one)))
  }

  async own(args: { name: string; args: unknown }) {
    return this.tool(args)
  }

  async open(args: { name: string; args: unknown }) {
    return this.tool(args)
  }

  async serial({ to, method, args }: { to?: string; method?: string; args?: unknown }) {
    if (to === undefined) return 'done'
    return this.call({ to, method: method ?? 'serial', ...(args !== undefined && { args }) })
  }

  async derive({ from = 0, narrow }: { from?: number; narrow: Narrow }) {
    try {
      const card = await cards()[from]?.derive(narrow)
      return { ok: card?.id }
    } catch (error) {
      return shown(error)
    }
  }

  async offer({ to, narrow, from = 0 }: { to: string; narrow: Narrow; from?: number }) {
    try {
      await cards()[from]?.offer({ address: to }, narrow)
      return { ok: true }
    } catch (error) {
      return shown(error)
    }
  }

  /** Looks at the first offer and takes it, with a digest of its own if one is given. */
  async take({ expect, allowLoss }: { expect?: string; allowLoss?: boolean }) {
    const [offer] = offers()
    if (!offer) return { none: true }
    try {
      const seen = await offer.preview()
      const card = await offer.accept({ expect: expect ?? seen.digest, ...(allowLoss && { allowLoss }) })
      return { ok: card.id, now: seen.now, from: offer.from.address }
    } catch (error) {
      return shown(error)
    }
  }

  async drop({ card }: { card: number }) {
    await cards()[card]?.drop()
    return true
  }

  async revoke({ card }: { card: number }) {
    try {
      await cards()[card]?.revoke()
      return { ok: true }
    } catch (error) {
      return shown(error)
    }
  }

  async explain({ tool, args }: { tool: string; args: never }) {
    return this.card.explain(tool, args)
  }

  held() {
    return cards().map((card) => card.id)
  }

  /** Answers at once; what it was asked for happens later, by a timer and a promise of its own. */
  async nap({ duration }: { duration: `${number}h` }) {
    await sleep(duration)
    return 'rested'
  }

  async late({ name, args, after }: { name: string; args: unknown; after: `${number}ms` }) {
    void (async () => {
      await sleep(after)
      this.got.push(await this.tool({ name, args }))
    })()
    return 'later'
  }
}
