/** Clients of the Model Context Protocol from the command line: let in, listed, ended. */
import type { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { programFile } from '../support/kernel.ts'

const MANIFEST = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: conformance }
spec: { program: ./conformance.ts, card: { now: [] } }
`

describe('cardinal mcp clients', () => {
  const { folder, run, begin, end, remove } = commandLine()
  let node: ChildProcess
  let card: string
  const add = (name: string, ...tools: string[]) =>
    run(['mcp', 'clients', 'add', name, '--card', card, '--tool', ...tools, '--format', 'json'])
  const ask = (url: string, token: string) =>
    fetch(url, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
    })

  beforeAll(async () => {
    fs.copyFileSync(programFile('conformance.ts'), path.join(folder, 'conformance.ts'))
    fs.writeFileSync(path.join(folder, 'cardinal.yaml'), MANIFEST)
    node = (await begin(['dev', '--port', '0'], /applied default\/conformance/)).child
    expect(run(['invoke', 'conformance/ann', 'simpleText']).status).toBe(0)
    const [only] = JSON.parse(run(['cards', 'list', '--agent', 'conformance/ann', '--format', 'json']).out)
    card = only.id
  }, 60_000)
  afterAll(async () => {
    await end(node)
    remove()
  })

  it('lets one in, shows what it may call, and ends it', async () => {
    const added = add('desk', 'conformance/ann:simpleText', 'picture=conformance/ann:image')
    expect(added).toMatchObject({ status: 0, err: '' })
    const { url, token } = JSON.parse(added.out)
    const listed = run(['mcp', 'clients', 'list'])
    expect(listed.out).toMatch(/default\/desk +card_\w+ +simpleText +default\/conformance\/ann:simpleText/)
    expect(listed.out).toMatch(/picture +default\/conformance\/ann:image/)
    expect(listed.out).not.toContain(token)
    expect(await (await ask(url, token)).text()).toContain('"simpleText"')
    expect(run(['mcp', 'clients', 'rm', 'desk']).out).toBe('removed default/desk\n')
    expect((await ask(url, token)).status).toBe(401)
  })

  it('says what is wrong with a tool, a method, a card and a name, and adds nothing', () => {
    const wrong = (...tools: string[]) => add('odd', ...tools)
    expect(wrong('conformance/ann')).toMatchObject({
      status: 2,
      err: expect.stringContaining('type/key:method'),
    })
    expect(wrong('conformance/ann:none')).toMatchObject({
      status: 3,
      err: expect.stringContaining('NoSuchMethod'),
    })
    expect(wrong('none/ann:image')).toMatchObject({ status: 3, err: expect.stringContaining('NoSuchType') })
    expect(add('Odd', 'conformance/ann:image')).toMatchObject({
      status: 2,
      err: expect.stringContaining('BadClient'),
    })
    const missing = run(['mcp', 'clients', 'add', 'odd', '--tool', 'conformance/ann:image'])
    expect(missing).toMatchObject({ status: 2, err: expect.stringContaining('--card') })
    expect(run(['mcp', 'clients', 'rm', 'odd']).status).toBe(3)
    expect(run(['mcp', 'clients', 'list', '--format', 'json']).out.trim()).toBe('[]')
  })
})
