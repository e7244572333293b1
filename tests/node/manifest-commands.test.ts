/** What a platform team types to deploy, look, and go back; and what the host does with agents. */
import type { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { programFile } from '../support/kernel.ts'

const shell = commandLine()
const { folder } = shell
const cardinal = (...args: string[]) => shell.run(args)
const TOOL = `apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: default, name: ledger.read }
spec:
  http: { method: GET, url: "https://ledger.acme.example/accounts/{client}" }
  in: { type: object, properties: { client: { type: string } }, required: [client] }
  about: reads an account
  effect: read
  yields: [private]
`
const agents = ['{ tool: agent.*, resource: "*", method: "*" }']
const manifest = (grants: readonly string[]) => `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: boss }
spec:
  program: ./boss.ts
  card:
    limits: { depth: 2 }
    now:
${[...grants, ...agents].map((grant) => `      - ${grant}`).join('\n')}
---
${TOOL}`
const FETCH = '{ tool: http.fetch, host: a.example, path: "*" }'
const WIDER = '{ tool: http.fetch, host: "*.example", path: "*" }'

let node: ChildProcess

function write(...grants: string[]): void {
  fs.writeFileSync(path.join(folder, 'boss.yaml'), manifest(grants))
}

function verdict(host: string): string {
  const args = JSON.stringify({ method: 'GET', url: `https://${host}/`, headers: [] })
  const { out, err } = cardinal('--format', 'json', 'cards', 'explain', 'boss/ann', 'http.fetch', args)
  expect(err).toBe('')
  return (JSON.parse(out) as { verdict: string }).verdict
}

beforeAll(async () => {
  fs.copyFileSync(programFile('boss.ts'), path.join(folder, 'boss.ts'))
  node = (await shell.begin(['serve', '--port', '0'], /listening/)).child
})
afterAll(async () => {
  expect(cardinal('audit').out).toMatch(/^as recorded/)
  await shell.end(node)
  shell.remove()
})

describe('a plan', () => {
  it('shows a new card in full form, and applies nothing', () => {
    write(FETCH)
    const { status, out, err } = cardinal('plan', '.')
    expect({ status, err }).toEqual({ status: 0, err: 'nothing is applied yet: `cardinal apply .`\n' })
    expect(out).toMatch(/^Agent default\/boss {2}generation 1, new program$/m)
    expect(out).toMatch(
      /^ {2}\+ now and ever http\.fetch scheme=https host=a\.example port=443 method=GET,HEAD path=\* labels=\* /m,
    )
    expect(out).toContain('Tool default/ledger.read  generation 1')
    expect(cardinal('generations', 'boss')).toMatchObject({ status: 3 })
    expect(cardinal('apply', '.').status).toBe(0)
    expect(cardinal('plan', '.').out).toBe(
      'Agent default/boss  unchanged\nTool default/ledger.read  unchanged\n',
    )
  })

  it('warns of grants that allow nothing, and shows limits that change', () => {
    write('{ tool: db.reed, args: "*" }')
    fs.writeFileSync(
      path.join(folder, 'boss.yaml'),
      fs
        .readFileSync(path.join(folder, 'boss.yaml'), 'utf8')
        .replace('depth: 2', 'depth: 1')
        .replace('agent.*, ', 'agent.*, ask: [boss], '),
    )
    const { out } = cardinal('plan')
    expect(out).toMatch(/^ {2}! no tool is there that `db\.reed` names$/m)
    expect(out).toMatch(/^ {2}! `agent\.\*` asks a person, which acts between agents cannot/m)
    expect(out).toMatch(/^ {2}- limits {7}\{"depth":2\}\n {2}\+ limits {7}\{"depth":1\}$/m)
    write(FETCH)
    expect(cardinal('plan').out).toContain('unchanged')
  })

  it('shows what a changed card gains and loses, whom it decides, and warns', () => {
    for (const who of ['ann', 'bob']) expect(cardinal('invoke', `boss/${who}`, 'held').status).toBe(0)
    // A child lives by its parent's cards: what it may do follows, and it is not counted again.
    expect(cardinal('invoke', 'boss/bob', 'spawn', '{"keep":true,"card":{}}').status).toBe(0)
    write(WIDER, '{ tool: ledger.read, args: { client: { len: 9 } }, labels: [] }')
    const { out } = cardinal('plan')
    expect(out).toMatch(/^Agent default\/boss {2}generation 2, decides 2 agents that live$/m)
    expect(out).toMatch(/^ {2}- now and ever http\.fetch scheme=https host=a\.example/m)
    expect(out).toMatch(/^ {2}\+ now and ever http\.fetch scheme=https host=\*\.example/m)
    expect(out).toMatch(/^ {2}! `ledger\.read` yields private, which its own grant does not clear/m)
    expect(out).toMatch(/^ {2}! what was read under a flow that is left out .* also go to \*\.example/m)
    expect(verdict('b.example')).toBe('refuse')
    // Neither warning where the grant clears what its tool yields, and no sink is gained.
    write(FETCH, '{ tool: ledger.read, args: { client: { len: 9 } }, labels: [private, untrusted] }')
    expect(cardinal('plan').out).not.toMatch(/^ {2}! `ledger/m)
    write(FETCH, '{ tool: http.fetch, host: a.example, path: /, method: [POST], args: { body: "*" } }')
    expect(cardinal('plan').out).not.toContain('!')
  })
})

describe('generations', () => {
  it('are listed, gone back to by number or by one, as new generations, and decide at once', () => {
    write(WIDER)
    expect(cardinal('apply').status).toBe(0)
    expect(verdict('b.example')).toBe('allow')
    const dry = cardinal('rollback', 'boss', '--dry-run')
    expect(dry.out).toMatch(/^ {2}- now and ever http\.fetch scheme=https host=\*\.example/m)
    expect(dry.err).toBe('nothing is rolled back yet; leave out `--dry-run`\n')
    expect(verdict('b.example')).toBe('allow')
    expect(cardinal('rollback', 'boss').out).toMatch(/^Agent default\/boss {2}generation 3/)
    expect(verdict('b.example')).toBe('refuse')
    expect(verdict('a.example')).toBe('allow')
    expect(cardinal('rollback', 'default/boss', '--to', '2').status).toBe(0)
    expect(verdict('b.example')).toBe('allow')
    const listed = cardinal('generations', 'boss').out.trim().split('\n')
    expect(listed.map((line) => line.split(/\s+/)[0])).toEqual(['GENERATION', '4', '3', '2', '1'])
    expect(listed[1]).toMatch(/in force$/)
    expect(cardinal('rollback', 'boss', '--to', '4').out).toBe('Agent default/boss  unchanged\n')
    expect(cardinal('rollback', 'boss', '--to', '9').err).toContain('[NoSuchGeneration]')
    expect(cardinal('rollback', 'nobody').err).toContain('[NoSuchType]')
  })
})

describe('the host', () => {
  it('confines with or without `cards`, as people type it', () => {
    expect(cardinal('confine', 'boss/ann', '--egress', 'b.example').out).toMatch(
      /^confined default\/boss\/ann/,
    )
    const [row] = JSON.parse(cardinal('--format', 'json', 'cards', 'confine').out) as { id: string }[]
    expect(verdict('a.example')).toBe('refuse')
    expect(cardinal('confine', '--lift', row?.id ?? '').status).toBe(0)
    expect(verdict('a.example')).toBe('allow')
    // Whoever is in a hurry must not believe that somebody is confined.
    const wrong = [
      ['--egress', 'b.example', 'boss/ann'],
      ['--egress', 'b.example'],
      ['boss/ann', '--type', 'default/boss', '--egress', 'b.example'],
      ['--type', 'default/boss', '--tenant', 'default', '--egress', 'b.example'],
      ['boss/ann'],
    ]
    for (const args of wrong)
      expect(cardinal('cards', 'confine', ...args), args.join(' ')).toMatchObject({
        status: 2,
        err: expect.stringContaining('[Usage]'),
      })
    expect(cardinal('cards', 'confine').out).not.toContain('boss')
  })

  it('sees whom an agent made, puts it to sleep, wipes it and ends it', () => {
    const child = JSON.stringify({ keep: true, card: { limits: { depth: 1 } } })
    expect(cardinal('invoke', 'boss/ann', 'spawn', child).status).toBe(0)
    expect(cardinal('invoke', 'boss/ann.1', 'spawn', JSON.stringify({ keep: true, card: {} })).status).toBe(0)
    const tree = () => cardinal('agents', 'tree', 'boss/ann').out.split('\n')
    expect(tree().map((line) => line.replace(/ {2}\w+$/, ''))).toEqual([
      'default/boss/ann',
      '  default/boss/ann.1',
      '    default/boss/ann.1.1',
      '',
    ])
    const told = cardinal('history', 'boss/ann', '--tree').out
    for (const who of ['ann', 'ann.1', 'ann.1.1']) expect(told).toContain(`default/boss/${who}     1 `)
    expect(told.indexOf('boss/ann.1     1')).toBeLessThan(told.indexOf('boss/ann.1.1     1'))
    expect(cardinal('agents', 'limits', 'boss/ann').out).toMatch(/^memory +256MiB +the node$/m)
    expect(cardinal('agents', 'suspend', 'boss/ann').out).toBe('suspended boss/ann\n')
    expect(cardinal('agents', 'wipe', 'boss/ann').err).toContain('add `--yes` to wipe `boss/ann`')
    expect(cardinal('agents', 'wipe', 'boss/ann', '--yes').out).toBe('wiped boss/ann\n')
    expect(cardinal('agents', 'end', 'boss/ann.1').err).toContain('add `--yes` to end `boss/ann.1`')
    expect(cardinal('agents', 'end', 'boss/ann.1', '--yes').out).toBe('ended boss/ann.1\n')
    expect(tree().map((line) => /stopped$/.test(line))).toEqual([false, true, true, false])
    expect(cardinal('agents', 'wipe', 'boss/ann.1', '--yes').err).toContain('[Stopped]')
    expect(cardinal('invoke', 'boss/ann.1', 'held').err).toContain('[Stopped]')
    expect(cardinal('invoke', 'boss/ann', 'held').status).toBe(0)
    for (const verb of ['tree', 'suspend'])
      expect(cardinal('agents', verb, 'boss/nobody').err).toContain('[NoSuchAgent]')
  })
})
