/** Keeps notes in a table, an index of their words, a file and the graph; and calls whatever tool it is told to. */
import fs from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { Agent, Refused, tool } from '@cardinal/sdk'
import { graph } from '@cardinal/sdk/graph'

const db = new DatabaseSync('notes.db')
db.exec('create table notes(text text); create virtual table words using fts5(text)')

export default class Carrier extends Agent {
  static methods = { keep: {}, drop: {}, kept: {}, tool: {} }
  count = 0

  keep({ text }: { text: string }) {
    db.prepare('insert into notes values (?)').run(text)
    db.prepare('insert into words values (?)').run(text)
    fs.appendFileSync('/notes.txt', `${text}\n`)
    graph.putNode(text, 'note')
    return ++this.count
  }

  /** Leaves a hole in the rowids. */
  drop({ text }: { text: string }) {
    return db.prepare('delete from notes where text = ?').run(text).changes
  }

  kept() {
    return {
      count: this.count,
      notes: db.prepare('select rowid, text from notes').all(),
      found: db.prepare("select rowid from words where words match 'two'").all(),
      file: fs.existsSync('/notes.txt') ? fs.readFileSync('/notes.txt', 'utf8') : null,
      nodes: graph.nodes().map(({ id }) => id),
    }
  }

  async tool({ name, args }: { name: string; args: unknown }) {
    try {
      return { ok: await tool(name, args) }
    } catch (error) {
      if (error instanceof Refused) return { refused: error.by }
      throw error
    }
  }
}
