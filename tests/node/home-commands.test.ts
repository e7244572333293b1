/** `cardinal sql` and `cardinal files` as an operator types them. */
import type { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'

const PROGRAM = `import { Agent } from '@cardinal/sdk'
import { DatabaseSync } from 'node:sqlite'
const db = new DatabaseSync('notes.db')
db.exec('create table if not exists notes(id integer primary key, text text)')
export default class Notes extends Agent {
  static methods = { add: {} }
  add({ text }: { text: string }) {
    return db.prepare('insert into notes(text) values (?)').run(text).lastInsertRowid
  }
}
`
const MANIFEST = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: notes }
spec: { program: ./notes.ts, files: { /begun/with.txt: ./begun.txt }, card: { now: [] } }
`

describe('cardinal sql and files', () => {
  const { folder, run, begin, end, remove } = commandLine()
  let node: ChildProcess
  beforeAll(async () => {
    fs.writeFileSync(path.join(folder, 'notes.ts'), PROGRAM)
    fs.writeFileSync(path.join(folder, 'cardinal.yaml'), MANIFEST)
    fs.writeFileSync(path.join(folder, 'begun.txt'), 'as the manifest says')
    node = (await begin(['dev', '--port', '0'], /applied/)).child
    expect(run(['invoke', 'notes/ann', 'add', '{"text":"milk"}']).out).toBe('1\n')
    expect(run(['invoke', 'notes/ann', 'add', '{"text":"tea\\u001b[2J"}']).out).toBe('2\n')
  })
  afterAll(async () => {
    await end(node)
    remove()
  })

  it('are saved by `drain`, which says how many', () => {
    expect(run(['drain'])).toMatchObject({
      status: 0,
      out: expect.stringMatching(/^drained +1 agents saved, 0 left\n$/),
    })
  })

  it('prints rows as a table or as JSON, and nothing that moves the cursor', () => {
    expect(run(['sql', 'notes/ann', 'select id, text from notes order by id'])).toMatchObject({
      status: 0,
      out: 'id  text\n1   milk\n2   tea\\x1b[2J\n',
    })
    expect(JSON.parse(run(['sql', 'notes/ann', 'select 1 one, null n', '--format', 'json']).out)).toEqual({
      columns: ['one', 'n'],
      rows: [[1, null]],
      more: false,
    })
    expect(run(['sql', 'notes/ann', 'select id from notes', '--limit', '1']).out).toMatch(/more than 1 rows/)
    fs.writeFileSync(path.join(folder, 'q.sql'), 'select count(*) n from notes')
    expect(run(['sql', 'notes/ann', '@q.sql']).out).toBe('n\n2\n')
  })

  it('checks a home, and says how large it is', () => {
    expect(run(['sql', 'notes/ann', '--check']).out).toMatch(
      /^\d+ bytes, \d+ in its write-ahead log; nothing is wrong\n$/,
    )
    expect(
      JSON.parse(run(['agents', 'get', 'notes/ann', '--format', 'json']).out).home.bytes,
    ).toBeGreaterThan(0)
  })

  it('is on record', () => {
    run(['sql', 'notes/ann', 'select 42'])
    expect(run(['history', 'notes/ann']).out).toMatch(/operator read its home/)
  })

  const mistakes: [string, string[], number, RegExp][] = [
    ['a statement that writes', ['sql', 'notes/ann', 'delete from notes'], 2, /would write/],
    ['SQL that is none', ['sql', 'notes/ann', 'selec'], 2, /syntax error/],
    ['no statement', ['sql', 'notes/ann'], 2, /say what to read/],
    ['an agent that was never born', ['sql', 'notes/bob', 'select 1'], 3, /no agent/],
    ['a file that is not there', ['sql', 'notes/ann', '@no.sql'], 3, /cannot be read/],
    ['a limit that is none', ['sql', 'notes/ann', 'select 1', '--limit', '0'], 2, /whole number/],
  ]
  for (const [name, args, status, says] of mistakes)
    it(`answers ${name} with exit code ${status}`, () => {
      const done = run(args)
      expect(done.err).toMatch(says)
      expect([done.status, done.out]).toEqual([status, ''])
    })

  it('puts, lists, prints and fetches files', () => {
    fs.writeFileSync(path.join(folder, 'rates.csv'), 'CHF,1.07\n')
    expect(run(['files', 'put', 'notes/ann', 'rates.csv'])).toMatchObject({
      status: 0,
      out: '/rates.csv  9 bytes\n',
    })
    expect(run(['files', 'put', 'notes/ann', 'rates.csv', '/in/']).out).toBe('/in/rates.csv  9 bytes\n')
    expect(run(['files', 'put', 'notes/ann', '-', '/in/given'], folder, 'given').out).toBe(
      '/in/given  5 bytes\n',
    )
    expect(run(['files', 'ls', 'notes/ann']).out).toMatch(
      /^\S+Z {5}begun\/\n\S+Z {5}in\/\n\S+Z {2}9 {2}rates.csv\n$/,
    )
    expect(JSON.parse(run(['files', 'ls', 'notes/ann', '/in', '--format', 'json']).out)).toMatchObject({
      path: '/in',
      entries: [
        { name: 'given', size: 5 },
        { name: 'rates.csv', size: 9 },
      ],
    })
    expect(run(['files', 'ls', 'notes/ann', '/in/rates.csv']).out).toMatch(/ {2}9 {2}rates.csv\n$/)
    expect(run(['files', 'cat', 'notes/ann', '/in/rates.csv']).out).toBe('CHF,1.07\n')
    expect(run(['files', 'get', 'notes/ann', '/in/rates.csv'])).toMatchObject({
      status: 5,
      err: expect.stringContaining('FileExists'),
    })
    expect(run(['files', 'get', 'notes/ann', '/in/rates.csv', 'copy.csv']).out).toBe('copy.csv  9 bytes\n')
    expect(fs.readFileSync(path.join(folder, 'copy.csv'), 'utf8')).toBe('CHF,1.07\n')
    expect(run(['files', 'get', 'notes/ann', '/in/rates.csv', '--force']).status).toBe(0)
    expect(run(['files', 'cat', 'notes/ann', '/none']).err).toContain('no file `/none`')
    expect(run(['files', 'put', 'notes/ann', 'none.csv']).err).toContain('`none.csv` does not exist')
    expect(run(['files', 'put', 'notes/ann', '.']).err).toContain('is no file')
    expect(run(['files', 'put', 'notes/ann', '-'])).toMatchObject({ status: 2 })
  })

  it('takes a home out of the node and into another agent, and says offline whose it is', () => {
    expect(run(['home', 'export', 'notes/ann', 'ann.home'])).toMatchObject({
      status: 0,
      out: expect.stringMatching(/^ann.home {2}\d+ bytes\n$/),
    })
    expect(run(['home', 'export', 'notes/ann', 'ann.home']).err).toContain('FileExists')
    expect(run(['home', 'import', 'notes/bob', 'ann.home']).out).toMatch(
      /^default\/notes\/bob begins anew with the home of default\/notes\/ann \(\d+ bytes\)\n$/,
    )
    expect(run(['sql', 'notes/bob', 'select text from notes where id = 1']).out).toBe('text\nmilk\n')
    expect(run(['home', 'import', 'notes/ann', 'ann.home']).err).toContain('InUse')
    expect(run(['home', 'import', 'notes/ann', 'ann.home', '--replace']).status).toBe(0)
    const key = fs
      .readFileSync(path.join(folder, 'ann.home'))
      .toString('latin1')
      .match(/"node":"([0-9a-f]{64})"/)?.[1] as string
    const said = run(['home', 'inspect', 'ann.home', '--key', key])
    expect(said).toMatchObject({ status: 0, out: expect.stringContaining('home of   default/notes/ann') })
    expect(said.out).toContain('labels    untrusted')
    expect(
      run(['home', 'inspect', 'ann.home', '--key', key.replace(/^./, (c) => (c === '0' ? '1' : '0'))]).err,
    ).toContain('WrongKey')
    expect(run(['home', 'inspect', 'ann.home', '--key', 'x']).status).toBe(2)
    expect(run(['home', 'inspect', 'none.home', '--key', key]).err).toContain('NoSuchFile')
  })

  it('begins with the files of the manifest, and names what is wrong with one', () => {
    expect(run(['files', 'cat', 'notes/ann', '/begun/with.txt']).out).toBe('as the manifest says')
    const at = path.join(folder, 'odd')
    fs.mkdirSync(at)
    const plan = (files: string) => {
      fs.writeFileSync(
        path.join(at, 'cardinal.yaml'),
        MANIFEST.replace(/files: \{.*?\}/, `files: ${files}`).replace('./notes', '../notes'),
      )
      return run(['plan', 'odd'])
    }
    expect(plan('{ /a.txt: ../begun.txt }')).toMatchObject({
      status: 0,
      out: expect.stringContaining('changed program'),
    })
    expect(plan('{ /a.txt: ./none.txt }')).toMatchObject({
      status: 2,
      err: expect.stringMatching(/the file `.\/none.txt` of `default\/notes` cannot be read: ENOENT/),
    })
    expect(plan('{ a.txt: ../begun.txt }')).toMatchObject({
      status: 2,
      err: expect.stringMatching(/cardinal.yaml:4:.*a path from the root/),
    })
    expect(plan('{ /a/../b.txt: ../begun.txt }').status).toBe(2)
    expect(plan('3').status).toBe(2)
  })
})
