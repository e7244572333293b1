/** What rows 6 and 7 measure: calls between agents, and a parent that gathers what its children did. */
import { Agent, agent, spawn } from '@cardinal/sdk'

export default class Family extends Agent {
  static methods = { answer: {}, calls: {}, post: {}, gather: {} }

  answer() {
    return 1
  }

  async calls({ n, to }: { n: number; to: string }) {
    const other = agent(Family, to)
    for (let i = 0; i < n; i++) await other.answer()
    return n
  }

  async post({ url }: { url: string }) {
    const answer = await fetch(url, { method: 'POST', body: this.key })
    return answer.status
  }

  async gather({ n, port }: { n: number; port: number }) {
    const replies = await Promise.all(
      Array.from({ length: n }, async (_, i) => {
        const path = `/of/${i}`
        const only = [
          {
            tool: 'http.fetch',
            scheme: ['http'],
            host: '127.0.0.1',
            port: [port],
            method: ['POST'],
            path,
            args: { body: '*' },
          },
        ]
        const child = await spawn(Family, { card: { only, limits: { calls: 1 } } })
        return child.post({ url: `http://127.0.0.1:${port}${path}` })
      }),
    )
    return replies.filter((status) => status === 200).length
  }
}
