/** An agent with all that agents have: a loop over a model, tools that it calls, files and rows that it keeps. */
import fs from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { Agent, tool } from '@cardinal/sdk'

interface Message {
  readonly role: string
  readonly content: string
}

export default class Full extends Agent {
  static methods = { work: {} }
  readonly messages: Message[] = [
    { role: 'system', content: 'You keep the books of a small bank. '.repeat(20) },
  ]

  async work({ steps }: { steps: number }) {
    const db = new DatabaseSync('books.db')
    db.exec('create table if not exists steps(at integer, said text)')
    for (let i = 0; i < steps; i++) {
      this.messages.push({
        role: 'user',
        content: `step ${i}: ${'what was paid to whom, and why? '.repeat(10)}`,
      })
      const { text } = await tool('llm.chat', { model: 'writer', messages: this.messages })
      this.messages.push({ role: 'assistant', content: String(text) })
      await tool('bench.step', { i })
      fs.writeFileSync(`/step-${i}.txt`, String(text))
      db.prepare('insert into steps values(?, ?)').run(i, String(text))
    }
    return fs.readdirSync('/').length
  }
}
