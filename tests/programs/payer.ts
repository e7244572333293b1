/** Pays, one after the other or all at once; each payment has a subject of its own. */
import { Agent, Indeterminate, spawn } from '@cardinal/sdk'

export default class Payer extends Agent {
  static methods = { pay: {}, payAll: {}, fail: {}, payOne: {}, memory: {}, family: {}, lone: {} }
  paid: string[] = []

  private async one(port: number, subject: string) {
    try {
      const answer = await fetch(`http://127.0.0.1:${port}/payees/P/payments`, {
        method: 'POST',
        body: JSON.stringify({ subject, amount: '1.00' }),
      })
      if (!answer.ok) return { subject, failed: answer.status }
      this.paid.push(subject)
      return { subject, id: ((await answer.json()) as { id: string }).id }
    } catch (e) {
      if (e instanceof Indeterminate) return { subject, doubt: e.effect }
      throw e
    }
  }

  async pay({ n, port }: { n: number; port: number }) {
    const results: unknown[] = []
    for (let i = 0; i < n; i++) results.push(await this.one(port, `${this.key}-${i}`))
    return results
  }

  /** Fails its turn, cheaply: more lines than a turn may log. */
  fail() {
    this.paid.push('never')
    for (let i = 0; i < 12_000; i++) console.log(i)
  }

  payOne({ port, subject }: { port: number; subject: string }) {
    return this.one(port, subject)
  }

  memory() {
    return this.paid
  }

  /** Has each payment made by a child of its own, which may make no other. */
  async family({ n, port }: { n: number; port: number }) {
    const grant = {
      tool: 'http.fetch',
      scheme: ['http'],
      host: '127.0.0.1',
      port: [port],
      method: ['POST'],
      path: '/payees/P/payments',
      args: { body: '*' },
    }
    return Promise.all(
      Array.from({ length: n }, async (_, i) => {
        const child = await spawn(Payer, { card: { only: [grant], limits: { calls: 1 } } })
        return child.payOne({ port, subject: `${this.key}-${i}` })
      }),
    )
  }

  /** Makes a child that stays. */
  async lone() {
    return (await spawn(Payer, { card: {}, keep: true, key: `${this.key}.lone` })).address
  }

  async payAll({ n, port }: { n: number; port: number }) {
    return Promise.all(Array.from({ length: n }, (_, i) => this.one(port, `${this.key}-${i}`)))
  }
}
