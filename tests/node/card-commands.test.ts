/** The commands about cards and approvals, as people type them. */
import type { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { programFile } from '../support/kernel.ts'

const shell = commandLine()
const { folder } = shell
const cardinal = (...args: string[]) => shell.run(args)
const MANIFEST = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: boss }
spec:
  program: ./boss.ts
  card:
    limits: { depth: 2 }
    now:
      - { tool: http.fetch, host: "*.acme.example", path: "*" }
      - { tool: http.fetch, host: 127.0.0.1, path: /, ask: [approver] }
      - { tool: agent.*, resource: "*", method: "*" }
`

let node: ChildProcess

/** What a command prints as JSON; it must succeed. */
function data<T>(...args: string[]): T {
  const { status, out, err } = cardinal('--format', 'json', ...args)
  expect(status, err).toBe(0)
  return JSON.parse(out) as T
}

interface Card {
  readonly id: string
  readonly now: { tool: string; host?: string }[]
}

beforeAll(async () => {
  fs.copyFileSync(programFile('boss.ts'), path.join(folder, 'boss.ts'))
  fs.writeFileSync(path.join(folder, 'boss.yaml'), MANIFEST)
  node = (await shell.begin(['dev', '--port', '0'], /applied/)).child
  expect(cardinal('invoke', 'boss/ann', 'held').status).toBe(0)
})
afterAll(async () => {
  expect(cardinal('audit').out).toMatch(/^as recorded/)
  await shell.end(node)
  shell.remove()
})

const fetchOf = (url: string) =>
  JSON.stringify({ name: 'http.fetch', args: { method: 'GET', url, headers: [] } })

describe('the commands about cards', () => {
  it('list and show a card, and mint one like it with less egress, which binds its agent', () => {
    const [birth] = data<Card[]>('cards', 'list', '--agent', 'default/boss/ann')
    expect(data<Card>('cards', 'get', birth?.id ?? '').now.map((g) => g.tool)).toEqual([
      'agent.*',
      'http.fetch',
      'http.fetch',
    ])
    const minted = data<Card>(
      'cards',
      'mint',
      '--like',
      birth?.id ?? '',
      '--egress',
      '*.eu.acme.example',
      '--expires',
      '8h',
      '--attach',
    )
    expect(minted.now.flatMap((g) => g.host ?? [])).toEqual(['*.eu.acme.example'])
    const explain = (url: string) =>
      data<{ verdict: string; by?: string }>(
        'cards',
        'explain',
        'boss/ann',
        'http.fetch',
        JSON.stringify({ method: 'GET', url, headers: [] }),
      )
    expect(explain('https://a.eu.acme.example/')).toMatchObject({ verdict: 'allow' })
    expect(explain('https://a.acme.example/')).toMatchObject({ verdict: 'refuse', by: 'ceiling' })
  })

  it('derive below a card, show the tree, say what a revocation would reach, and revoke', () => {
    expect(cardinal('invoke', 'boss/bob', 'held').status).toBe(0)
    const [birth] = data<Card[]>('cards', 'list', '--agent', 'default/boss/bob')
    const id = birth?.id ?? ''
    const derived = data<Card>(
      'cards',
      'derive',
      id,
      '--grant',
      'http.fetch host=a.acme.example path=/x',
      '--limit',
      'calls=3',
    )
    expect(cardinal('cards', 'tree', id).out).toContain(derived.id)
    expect(cardinal('cards', 'derive', id, '--limit', 'calls=1', '--limit', 'calls=5000')).toMatchObject({
      status: 2,
      err: expect.stringMatching(/`calls` stands there twice/),
    })
    const usage = cardinal('--format', 'json', 'cards', 'mint')
    expect({ ...usage, err: JSON.parse(usage.err.split('\n')[0] as string) }).toMatchObject({
      status: 2,
      err: { class: 'Usage', message: expect.stringContaining('--like') },
    })
    expect(cardinal('cards', 'derive', id, '--grant', 'http.fetch host=evil.example path=/')).toMatchObject({
      status: 4,
      err: expect.stringMatching(/wider than the card/),
    })
    expect(cardinal('cards', 'revoke', derived.id, '--dry-run').out).toMatch(
      /^would revoke 1 cards of 1 agents\n {2}default\/boss\/bob\n$/,
    )
    expect(data<Card & { live: boolean }>('cards', 'get', derived.id).live).toBe(true)
    expect(cardinal('cards', 'revoke', derived.id).status).toBe(0)
    expect(data<Card & { live: boolean }>('cards', 'get', derived.id).live).toBe(false)
    expect(cardinal('cards', 'revoke', 'card_none')).toMatchObject({
      status: 3,
      err: expect.stringMatching(/no card/),
    })
  })

  it('confine an agent to hosts, list that, and lift it', () => {
    cardinal('invoke', 'boss/cem', 'held')
    const { id } = data<{ id: string }>('cards', 'confine', 'default/boss/cem', '--egress', 'x.acme.example')
    expect(data<{ id: string }[]>('cards', 'confine').map((row) => row.id)).toContain(id)
    const refused = data<{ value: { by?: string } }>(
      'invoke',
      'boss/cem',
      'tool',
      fetchOf('https://y.acme.example/'),
    )
    expect(refused.value ?? refused).toMatchObject({ by: 'flow' })
    expect(cardinal('cards', 'confine', '--lift', id).status).toBe(0)
    expect(cardinal('cards', 'confine', 'default/boss/cem')).toMatchObject({
      status: 2,
      err: expect.stringMatching(/--egress/),
    })
  })

  it('export a card that anybody verifies, until it is revoked', () => {
    cardinal(
      'invoke',
      'boss/dan',
      'spawn',
      '{"keep":true,"card":{"only":[{"tool":"http.fetch","host":"a.acme.example","path":"/"}]}}',
    )
    const [child] = data<Card[]>('cards', 'list', '--agent', 'default/boss/dan.1')
    const root = cardinal('cards', 'export', child?.id ?? '')
    // The birth card above it asks a person: that cannot leave.
    expect(root).toMatchObject({ status: 4, err: expect.stringMatching(/asks a person/) })
    expect(cardinal('cards', 'export', '--revoked').status).toBe(0)
  })
})

describe('the commands about approvals', () => {
  it('list, show, approve by digest, and deny', () => {
    const first = cardinal('invoke', 'boss/eve', 'tool', fetchOf('https://127.0.0.1/'), '--detach').out.trim()
    const list = () => data<{ id: string; digest: string; effect: string }[]>('approvals', 'list')
    let open = list()
    for (let i = 0; i < 50 && open.length === 0; i++) open = list()
    const [ask] = open
    expect(ask?.effect).toMatch(/^default\/boss\/eve@/)
    const shown = cardinal('approvals', 'show', ask?.id ?? '').out
    expect(shown).toContain('https://127.0.0.1/')
    expect(shown).toMatch(/whose words +all text in quotes is the agent’s/)
    expect(cardinal('approvals', 'approve', ask?.id ?? '', '--digest', 'ffff')).toMatchObject({
      status: 5,
      err: expect.stringMatching(/not the digest/),
    })
    expect(
      cardinal('approvals', 'approve', ask?.id ?? '', '--digest', ask?.digest.slice(0, 6) ?? '').status,
    ).toBe(0)
    expect(cardinal('why', ask?.effect ?? '').out).toMatch(/^approved +by operator as approver, \d{4}-/m)
    // Approved, and the door still refuses an address of this machine.
    expect(cardinal('result', first, '--wait', '10').out).toMatch(/EgressDenied/)
    const second = cardinal(
      'invoke',
      'boss/eve',
      'tool',
      fetchOf('https://127.0.0.1/'),
      '--detach',
    ).out.trim()
    open = list()
    for (let i = 0; i < 50 && open.length === 0; i++) open = list()
    expect(cardinal('approvals', 'deny', open[0]?.id ?? '', '--why', 'no').status).toBe(0)
    expect(cardinal('result', second, '--wait', '10').out).toMatch(/Denied/)
    expect(cardinal('approvals', 'show', 'ap_99')).toMatchObject({ status: 3 })
  })
})
