/**
 * Pays, one after the other or all at once; each payment has a subject of its own.
 *
 * Half of them keep books in their home too: with every payment, money goes from a table to a field and to a
 * file. What is in all together never changes, and every payment that memory knows has its row and its line.
 */
import fs from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { Agent, Indeterminate, spawn } from '@cardinal/sdk'

const db = new DatabaseSync('books.db')
db.exec(`create table paid(subject text primary key, amount integer not null);
  create table purse(cents integer not null); insert into purse values (1000)`)
const pay = db.prepare('insert into paid values (?, ?)')
const take = db.prepare('update purse set cents = cents - ?')

export default class Payer extends Agent {
  static methods = { books: {}, pay: {}, payAll: {}, fail: {}, payOne: {}, memory: {}, family: {}, lone: {} }
  paid: string[] = []
  pocket = 0

  private get keepsBooks() {
    return !/[13579]$/.test(this.key)
  }

  private book(subject: string) {
    this.paid.push(subject)
    if (!this.keepsBooks) return
    const amount = 1 + Math.floor(Math.random() * 5)
    db.exec('begin')
    pay.run(subject, amount)
    take.run(2 * amount)
    db.exec('commit')
    this.pocket += amount
    fs.appendFileSync('/jar.txt', `${subject} ${amount}\n`)
  }

  /** What is in memory and what is in the home. */
  books() {
    if (!this.keepsBooks) return { paid: this.paid.length }
    const { rows, spent } = db
      .prepare('select count(*) rows, coalesce(sum(amount), 0) spent from paid')
      .get() as {
      rows: number
      spent: number
    }
    const { cents } = db.prepare('select cents from purse').get() as { cents: number }
    const lines = fs.existsSync('/jar.txt') ? fs.readFileSync('/jar.txt', 'utf8').trimEnd().split('\n') : []
    const jar = lines.reduce((sum, line) => sum + Number(line.split(' ')[1]), 0)
    return {
      paid: this.paid.length,
      rows,
      lines: lines.length,
      spent,
      pocket: this.pocket,
      jar,
      purse: cents,
    }
  }

  private async one(port: number, subject: string) {
    try {
      const answer = await fetch(`http://127.0.0.1:${port}/payees/P/payments`, {
        method: 'POST',
        body: JSON.stringify({ subject, amount: '1.00' }),
      })
      if (!answer.ok) return { subject, failed: answer.status }
      this.book(subject)
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
