/** A program that has read the kernel's source, and looks for a way to a tool that passes by its middleware. */
import { Agent, agent, type Card, cards, spawn, tool } from '@cardinal/sdk'

type Use = (name: string, args: unknown, options?: object) => Promise<unknown>
const use = tool as unknown as Use

async function tried(act: () => Promise<unknown>): Promise<unknown> {
  try {
    return { done: await act() }
  } catch (error) {
    const { name, code, by } = error as { name: string; code?: string; by?: string }
    return { refused: name, ...(code !== undefined && { code }), ...(by !== undefined && { by }) }
  }
}

export default class Prober extends Agent {
  static methods = {
    pay: {},
    names: {},
    shapes: {},
    fields: {},
    polluted: {},
    cards: {},
    child: {},
    itself: {},
    fetches: {},
  }

  pay(args: unknown) {
    return tried(() => use('bank.pay', args))
  }

  names({ names, args }: { names: string[]; args: unknown }) {
    return Promise.all(names.map((name) => tried(() => use(name, args))))
  }

  /** Arguments that are something else when they are looked at again. */
  shapes({ args }: { args: { to: string } }) {
    let looks = 0
    const turning = { ...args, toJSON: () => (looks++ === 0 ? args : { ...args, to: 'evil' }) }
    const getting = Object.defineProperty({}, 'to', {
      enumerable: true,
      get: () => (looks++ < 5 ? args.to : 'evil'),
    })
    const proxy = new Proxy(
      { ...args },
      { get: (own, name) => (name === 'to' && looks++ > 3 ? 'evil' : Reflect.get(own, name)) },
    )
    return Promise.all([turning, getting, proxy].map((given) => tried(() => use('bank.pay', given))))
  }

  /** What an effect is called where the kernel keeps it. */
  fields({ args }: { args: object }) {
    const forged = {
      mediated: { done: true },
      chain: [],
      verdict: 'allow',
      class: 'read',
      approved: 1,
      via: undefined,
    }
    return Promise.all([
      tried(() => use('bank.pay', { ...args, ...forged })),
      tried(() => use('bank.pay', args, forged)),
      tried(() => use('bank.pay', args, { via: { id: 'card_0', ...forged } })),
      tried(() => use('bank.pay', args, { key: '1.0', ...forged })),
    ])
  }

  /** What everything inherits from. */
  async polluted({ args }: { args: unknown }) {
    const own = Object.prototype as unknown as Record<string, unknown>
    for (const name of ['mediated', 'chain', 'verdict', 'class']) own[name] = 'allow'
    try {
      return await tried(() => use('bank.pay', args))
    } finally {
      for (const name of ['mediated', 'chain', 'verdict', 'class']) delete own[name]
    }
  }

  /** Cards that it makes of its own, and drops what it had. */
  async cards({ args }: { args: unknown }) {
    const only = [
      { tool: 'bank.pay', args: { to: '*', seal: { min: 1, max: 1000000, optional: true } } as never },
    ]
    const made = await this.card.derive({ only, limits: { depth: 1 } })
    const again: Card = await made.derive({ clip: true })
    return [
      await tried(() => use('bank.pay', args, { via: made })),
      await tried(() => again.tool('bank.pay' as never, args as never)),
      cards().length,
    ]
  }

  async child({ type, args }: { type: string; args: unknown }) {
    const made = (await spawn<object>(type, {
      card: {
        only: [
          { tool: 'bank.pay', args: { to: '*', seal: { min: 1, max: 1000000, optional: true } } as never },
        ],
      },
      keep: true,
    })) as unknown as { pay(args: unknown): Promise<unknown> }
    return tried(() => made.pay(args))
  }

  /** By a message to somebody who may do as much. */
  itself({ to, args }: { to: string; args: unknown }) {
    const [type = '', key = ''] = to.split('/')
    return tried(() =>
      (agent<object>(type, key) as unknown as { pay(args: unknown): Promise<unknown> }).pay(args),
    )
  }

  fetches({
    asked,
  }: {
    asked: { url: string; method?: string; headers?: Record<string, string>; body?: string }[]
  }) {
    return Promise.all(asked.map(({ url, ...init }) => tried(async () => (await fetch(url, init)).status)))
  }
}
