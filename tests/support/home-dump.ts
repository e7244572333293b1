/** Everything that an agent has stored, as rows: tables of full-text indexes, files and the graph among them. */
import type { TestKernel } from './kernel.ts'

export async function dumpHome(t: TestKernel, agent: string): Promise<string> {
  const rows = async (sql: string) => (await t.kernel.sql(agent, sql, 'test')).rows
  const schema = await rows('select type, name, tbl_name, sql from sqlite_schema order by type, name')
  const lines = schema.map((row) => JSON.stringify(row))
  for (const [type, name, , sql] of schema as [string, string, string, string | null][]) {
    if (type !== 'table' || /^create virtual/i.test(sql ?? '')) continue
    const quoted = `"${name.replaceAll('"', '""')}"`
    const bare = /\bwithout\s+rowid\s*$/i.test(sql ?? '')
    for (const row of await rows(
      `select ${bare ? '' : 'rowid, '}* from ${quoted} order by ${bare ? '1, 2' : 'rowid'}`,
    ))
      lines.push(`${name} ${JSON.stringify(row)}`)
  }
  return lines.join('\n')
}
