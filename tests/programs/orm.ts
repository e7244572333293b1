/** Query builders of others over the agent's home, as their users write them. */
import { Agent } from '@cardinal/sdk'
import Database from 'better-sqlite3'
import { and, desc, sql as drizzleSql, eq, gt } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { type Generated, Kysely, SqliteDialect, sql } from 'kysely'

interface Tables {
  person: { id: Generated<number>; name: string; born: number | null }
  pet: { id: Generated<number>; name: string; owner: number }
}

const raw = new Database('home.db')
raw.pragma('journal_mode = WAL')
const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: raw }) })
const bills = sqliteTable('bills', {
  id: integer('id').primaryKey({ autoIncrement: true }),
  payee: text('payee').notNull(),
  cents: integer('cents').notNull(),
})

export default class Orm extends Agent {
  static methods = { kysely: {}, drizzle: {}, rows: {}, shape: {} }

  async kysely() {
    await db.schema
      .createTable('person')
      .addColumn('id', 'integer', (c) => c.primaryKey())
      .addColumn('name', 'text', (c) => c.notNull().unique())
      .addColumn('born', 'integer')
      .execute()
    await db.schema
      .createTable('pet')
      .addColumn('id', 'integer', (c) => c.primaryKey())
      .addColumn('name', 'text', (c) => c.notNull())
      .addColumn('owner', 'integer', (c) => c.notNull().references('person.id').onDelete('cascade'))
      .execute()
    await db.transaction().execute(async (tx) => {
      const ada = await tx
        .insertInto('person')
        .values({ name: 'Ada', born: 1815 })
        .returning('id')
        .executeTakeFirstOrThrow()
      await tx
        .insertInto('pet')
        .values([
          { name: 'Puff', owner: ada.id },
          { name: 'Byron', owner: ada.id },
        ])
        .execute()
    })
    const undone = await db
      .transaction()
      .execute(async (tx) => {
        await tx.deleteFrom('person').execute()
        await tx.insertInto('pet').values({ name: 'nobody’s', owner: 4711 }).execute()
      })
      .then(
        () => 'kept',
        (error: { code: string }) => error.code,
      )
    const pets = await db
      .selectFrom('pet')
      .innerJoin('person', 'person.id', 'pet.owner')
      .select(['pet.name as pet', 'person.name as owner'])
      .orderBy('pet.name')
      .execute()
    const updated = await db
      .updateTable('person')
      .set({ born: sql`born + 1` })
      .where('name', '=', 'Ada')
      .executeTakeFirst()
    const tables = (await db.introspection.getTables()).map((table) => table.name)
    return { undone, pets, updated: String(updated.numUpdatedRows), tables }
  }

  drizzle() {
    const orm = drizzle(raw)
    raw.exec(
      'create table if not exists bills(id integer primary key autoincrement, payee text not null, cents integer not null)',
    )
    orm
      .insert(bills)
      .values([
        { payee: 'a', cents: 100 },
        { payee: 'b', cents: 250 },
        { payee: 'a', cents: 300 },
      ])
      .run()
    orm.transaction((tx) => {
      tx.update(bills).set({ cents: 99 }).where(eq(bills.payee, 'b')).run()
      try {
        tx.transaction((inner) => {
          inner.delete(bills).run()
          throw new Error('no')
        })
      } catch {}
    })
    return {
      big: orm
        .select()
        .from(bills)
        .where(and(eq(bills.payee, 'a'), gt(bills.cents, 200)))
        .orderBy(desc(bills.id))
        .all(),
      sums: orm
        .select({ payee: bills.payee, sum: drizzleSql<number>`sum(${bills.cents})` })
        .from(bills)
        .groupBy(bills.payee)
        .all(),
    }
  }

  /** Writes, reads and asks for many rows. */
  rows({ count }: { count: number }) {
    raw.exec('create table if not exists many(id integer primary key, at integer, who text, value real)')
    const insert = raw.prepare('insert into many(at, who, value) values (?, ?, ?)')
    raw.transaction(() => {
      for (let i = 0; i < count; i++) insert.run(i, `user-${i % 97}`, i / 7)
    })()
    raw.exec('create index if not exists who on many(who, at)')
    const one = raw.prepare('select value from many where id = ?').pluck()
    let sum = 0
    for (let id = 1; id <= count; id += 10) sum += one.get(id) as number
    let seen = 0
    for (const row of raw.prepare('select * from many').iterate() as Iterable<{ who: string }>)
      if (row.who === 'user-5') seen++
    const top = raw
      .prepare('select who, count(*) n, round(avg(value), 3) v from many group by who order by who limit 2')
      .all()
    return { sum: Math.round(sum), seen, top }
  }

  shape() {
    const errors: string[] = []
    const caught = (act: () => unknown) => {
      try {
        act()
        errors.push('none')
      } catch (error) {
        errors.push(`${(error as Error).name}: ${(error as Error).message}`)
      }
    }
    raw.exec('create table s(a unique, b)')
    const insert = raw.prepare('insert into s values (@a, $b)')
    insert.run({ a: 1, b: 'x' })
    caught(() => insert.run({ a: 1, b: 'x' }))
    caught(() => insert.run({ a: 2 }))
    caught(() => insert.run(1, 2))
    caught(() => raw.prepare('select 1').run())
    caught(() => raw.prepare('delete from s').all())
    caught(() => raw.prepare('select 1; select 2'))
    caught(() => raw.prepare(''))
    caught(() => raw.prepare('select ?').get())
    caught(() => raw.prepare('select ?').get(1, 2))
    caught(() => new Database(':memory:'))
    caught(() => new Database('another.db'))
    caught(() => raw.function('f', () => 1))
    const select = raw.prepare('select a, b from s')
    return {
      errors,
      row: select.get(),
      raw: select.raw().all(),
      pluck: select.raw(false).pluck().all(),
      columns: select.columns().map((c) => c.name),
      simple: raw.pragma('foreign_keys', { simple: true }),
    }
  }
}
