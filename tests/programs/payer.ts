/** Pays, one after the other or all at once; each payment has a subject of its own. */
import { Agent, Indeterminate } from '@cardinal/sdk'

export default class Payer extends Agent {
  static methods = { pay: {}, payAll: {}, fail: {} }
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

  async payAll({ n, port }: { n: number; port: number }) {
    return Promise.all(Array.from({ length: n }, (_, i) => this.one(port, `${this.key}-${i}`)))
  }
}
