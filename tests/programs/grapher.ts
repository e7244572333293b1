/** Does what it is told with its graph, and with a table and a file beside it. */
import fs from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { Agent } from '@cardinal/sdk'
import { graph } from '@cardinal/sdk/graph'

const db = new DatabaseSync('home.db')

export default class Grapher extends Agent {
  static methods = { do: {}, both: {}, grow: {} }

  do({ steps }: { steps: [keyof typeof graph, ...unknown[]][] }) {
    return steps.map(([name, ...args]) => {
      try {
        return { ok: (graph[name] as (...args: unknown[]) => unknown)(...args) ?? null }
      } catch (error) {
        const { code, message } = error as { code?: string; message: string }
        return { error: { code, message } }
      }
    })
  }

  /** A table, a file and the graph in one transaction. */
  both({ commit }: { commit: boolean }) {
    db.exec('create table if not exists notes(text text)')
    db.exec('begin')
    graph.putNode('in', 'kept')
    db.exec("insert into notes values ('in')")
    fs.appendFileSync('/notes.txt', 'in')
    db.exec(commit ? 'commit' : 'rollback')
    const { n } = db.prepare('select count(*) n from notes').get() as { n: number }
    return { node: graph.node('in') ?? null, n, file: fs.existsSync('/notes.txt') }
  }

  /** A chain of so many nodes, and what takes how long to ask. */
  grow({ n }: { n: number }) {
    db.exec('begin')
    for (let i = 0; i < n; i++) {
      graph.putNode(`n${i}`, 'link', { i })
      if (i > 0) graph.putEdge(`n${i - 1}`, 'next', `n${i}`)
    }
    db.exec('commit')
    return {
      reached: graph.reach('n0', { depth: n }).length,
      path: graph.shortestPath('n0', `n${n - 1}`, { depth: n })?.edges.length,
      matches: graph.match('(a:link)-[:next*3]->(b) where a.i >= $from', { from: n - 10 }).length,
    }
  }
}
