/** Which tools an agent has, how they are shown, and the types that programs get of them. */
import type { ChildProcess } from 'node:child_process'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { applyPrograms, functionTool, openTestKernel, programFile } from '../support/kernel.ts'

const MANIFEST = `apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: default, name: bank.pay }
spec:
  about: "pay somebody\\u001b[2J */ at once"
  effect: once
  in:
    type: object
    properties:
      to: { type: string, maxLength: 34, description: who is paid }
      amount: { type: number, minimum: 0 }
      note: { anyOf: [{ type: string }, { type: "null" }], default: null }
      currency: { type: string, enum: [EUR, USD], default: EUR }
    required: [to, amount]
  out: { type: object, properties: { id: { type: string }, parts: { type: array, items: { type: integer } } }, required: [id] }
  http: { method: POST, url: "https://bank.example/pay", body: json }
---
apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: default, name: bank.look }
spec:
  effect: read
  in: { type: object, properties: {} }
  http: { method: GET, url: "https://bank.example/rows" }
---
apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: lister }
spec:
  program: ./lister.ts
  card: { now: [{ tool: bank.look, args: {} }, { tool: llm.chat, resource: x }, { tool: mail.send }] }
`

describe('tools', () => {
  const { folder, run, begin, end, remove } = commandLine()
  let node: ChildProcess
  beforeAll(async () => {
    fs.copyFileSync(programFile('lister.ts'), path.join(folder, 'lister.ts'))
    fs.writeFileSync(path.join(folder, 'cardinal.yaml'), MANIFEST)
    node = (await begin(['dev', '--port', '0'], /applied default\/lister/)).child
  })
  afterAll(async () => {
    await end(node)
    remove()
  })

  it('are those that the cards of an agent let it call, and no more', () => {
    const listed = JSON.parse(run(['invoke', 'lister/a', 'list']).out)
    expect(listed.map(({ name }: { name: string }) => name)).toEqual(['bank.look'])
    expect(run(['tools', 'list', 'lister/a']).out).toMatch(/^bank\.look {2}read {2}bank\.look\n$/)
    const all = run(['tools', 'list']).out
    expect(all).toMatch(/bank\.pay +once/)
    expect(all).toContain('http.fetch')
    expect(all).not.toContain('\u001b')
  })

  it('are shown as a command line says it', () => {
    expect(run(['tools', 'show', 'bank.pay']).out).toBe(`bank.pay: pay somebody [2J */ at once

usage: bank.pay --to STRING --amount NUMBER [--note STRING] [--currency EUR|USD]

  --to STRING         who is paid; at most 34 characters
  --amount NUMBER     at least 0
  --note STRING
  --currency EUR|USD  "EUR" if left out

effect: once; asks a person unless its grant says otherwise
arguments go to: bank.example
`)
    expect(run(['tools', 'show', 'bank.play'])).toMatchObject({
      status: 3,
      err: expect.stringContaining('NoSuchTool'),
    })
  })

  it('have types that TypeScript takes, and that find a mistake', () => {
    expect(run(['types']).out).toBe('wrote cardinal-tools.d.ts\n')
    const check = (body: string) => {
      fs.writeFileSync(
        path.join(folder, 'use.ts'),
        `import { tool } from '@cardinal/sdk'\nimport './cardinal-tools.d.ts'\nexport async function use() {\n${body}\n}\n`,
      )
      const sdk = path.join(import.meta.dirname, '../../packages/sdk-ts/src/index.ts')
      fs.writeFileSync(
        path.join(folder, 'tsconfig.json'),
        JSON.stringify({
          compilerOptions: {
            strict: true,
            noEmit: true,
            module: 'nodenext',
            target: 'es2024',
            lib: ['es2024', 'dom'],
            types: [],
            allowImportingTsExtensions: true,
            skipLibCheck: true,
            paths: { '@cardinal/sdk': [sdk] },
          },
          files: ['use.ts', 'cardinal-tools.d.ts'],
        }),
      )
      const tsc = path.join(import.meta.dirname, '../../node_modules/typescript/bin/tsc')
      const { stdout } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' })
      return stdout
        .split('\n')
        .filter((line) => line.includes('use.ts'))
        .join('\n')
    }
    expect(
      check(
        "  const { id } = await tool('bank.pay', { to: 'ann', amount: 5, currency: 'EUR' })\n  const text: string = id\n  return text",
      ),
    ).toBe('')
    expect(check("  return await tool('bank.pay', { to: 'ann', amount: 'five' })")).toMatch(
      /not assignable to type 'number'/,
    )
    expect(
      check(
        "  const { id } = await tool('bank.pay', { to: 'ann', amount: 5 })\n  const n: number = id\n  return n",
      ),
    ).toMatch(/not assignable to type 'number'/)
  })
})

describe('the tools of an agent', () => {
  it('end with the card that names them, and are on record as it was told', async () => {
    const tools = [functionTool('db.read', 'read', () => 1), functionTool('db.write', 'once', () => 1)]
    const lister = { name: 'lister', file: programFile('lister.ts') }
    const t = await openTestKernel([{ ...lister, now: ['{ tool: db.*, args: "*" }'] }], { tools })
    const names = async () => {
      const reply = await t.call('acme/lister/a', 'list')
      return ((reply as { value: { name: string }[] }).value ?? []).map(({ name }) => name)
    }
    expect(await names()).toEqual(['db.read', 'db.write'])
    await applyPrograms(t.kernel, [{ ...lister, now: ['{ tool: db.read, args: "*" }'] }])
    expect(await names()).toEqual(['db.read'])
    expect((await t.kernel.audit()).mismatches).toEqual([])
    await t.kernel.replay('acme/lister/a')
    await t.close()
  })
})
