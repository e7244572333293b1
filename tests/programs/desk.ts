import { Agent, event, tool } from '@cardinal/sdk'

const NOTE = { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] }
const DONE = { type: 'object', properties: { done: { type: 'string' } }, required: ['done'] }

/** What clients of the Model Context Protocol call. */
export default class Desk extends Agent {
  static methods = {
    read: { in: NOTE, out: DONE, about: 'reads what is filed under a text' },
    write: { in: NOTE, out: DONE, about: 'files a text' },
    own: { in: NOTE, authority: 'own' as const },
    upper: { in: { type: 'string' } },
    later: { shared: true },
    picture: { shared: true },
    held: { shared: true },
    closed: {},
  }

  read({ text }: { text: string }) {
    return this.#use('db.read', text)
  }

  write({ text }: { text: string }) {
    return this.#use('db.write', text)
  }

  own({ text }: { text: string }) {
    return this.#use('db.write', text)
  }

  upper(text: string) {
    return text.toUpperCase()
  }

  /** Answers once somebody says something. */
  async later() {
    return { said: await event('said') }
  }

  picture() {
    return { content: [{ type: 'image', data: 'AAAA', mimeType: 'image/png' }] }
  }

  held() {
    return this.card.id
  }

  closed() {
    throw new Error('the desk is closed')
  }

  async #use(name: string, text: string) {
    return { done: (await tool(name as never, { text } as never)) as string }
  }
}
