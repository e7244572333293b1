/** Tries to act by cards that it does not hold. */
import { Agent, type Card, cards, tool } from '@cardinal/sdk'

async function tried(act: () => Promise<unknown>): Promise<unknown> {
  try {
    return { ok: await act() }
  } catch (error) {
    const { name, code, message } = error as { name: string; code?: string; message: string }
    return { error: name, ...(code !== undefined && { code }), message }
  }
}

export default class Forger extends Agent {
  static methods = { id: {}, held: {}, made: {}, proxy: {}, dead: {} }
  kept: Card | undefined

  id() {
    return this.card.id
  }

  held() {
    return tried(() => tool('calc.one', {}, { via: this.card }))
  }

  /** By an object that says an id, as from a message. */
  made({ id }: { id: string }) {
    return tried(() => tool('calc.one', {}, { via: { id } as Card }))
  }

  /** By an object that is a card when it is looked at first, and something else after. */
  proxy() {
    let reads = 0
    const real = this.card
    const sly = new Proxy({} as Card, {
      get: (_target, name) => (reads++ === 0 ? Reflect.get(real, name) : 'another'),
      getPrototypeOf: () => Object.getPrototypeOf(real),
    })
    return tried(() => tool('calc.one', {}, { via: sly }))
  }

  /** By a card that was dropped. */
  async dead() {
    const card = await this.card.derive({ only: [{ tool: 'calc.one' }] })
    await card.drop()
    return { gone: cards().length, used: await tried(() => card.tool('calc.one', {})) }
  }
}
