/** A plan knows the tools that its own manifests declare, and those that they complete. */
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { isRange } from '@cardinal/tools'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

let t: TestKernel
beforeAll(async () => {
  t = await openTestKernel([])
})
afterAll(() => t.close())

const head = (kind: string, name: string) =>
  `apiVersion: cardinal/v1\nkind: ${kind}\nmetadata: { tenant: acme, name: ${name} }\n`
const MODEL = `${head('Model', 'small')}spec: { provider: scripted, model: echo }\n`
const SERVER = `${head('McpServer', 'notes')}spec: { http: { url: "http://127.0.0.1:9/mcp" } }\n`
const TOOLS = `${head('McpTools', 'notes')}spec: { tools: [{ name: read, inputSchema: { type: object } }] }\n`
const agent = (grant: string) =>
  `${head('Agent', 'teller')}spec:\n  program: x\n  card:\n    now:\n      - ${grant}\n`
const CHAT = agent('{ tool: llm.chat, resource: small }')
const READ = agent('{ tool: notes.read }')

async function warnings(...texts: string[]): Promise<readonly string[] | undefined> {
  const manifests = parseManifests(texts.join('---\n'), 'plan.yaml', {
    isRange,
    defaultsOf: t.kernel.defaultsOf,
  })
  const programs = new Map([['acme/teller', await bundleProgram(programFile('teller.ts'))]])
  const planned = await t.kernel.applying.plan(manifests, programs)
  return planned.find(({ kind }) => kind === 'Agent')?.card?.warnings
}

it('of a model that comes with it, and says where there is none', async () => {
  expect(await warnings(MODEL, CHAT)).toEqual([])
  expect(await warnings(CHAT)).toEqual(['no tool is there that `llm.chat` names'])
})

it('of what is accepted of a server that is there, and of one that comes with it', async () => {
  expect(await warnings(TOOLS, READ)).toEqual(['no tool is there that `notes.read` names'])
  expect(await warnings(SERVER, TOOLS, READ)).toEqual([])
  const [server] = parseManifests(SERVER, 'mcp.yaml', { isRange, defaultsOf: t.kernel.defaultsOf })
  await t.kernel.apply([server as never], new Map())
  expect(await warnings(TOOLS, READ)).toEqual([])
})

it('changes nothing', async () => {
  await warnings(MODEL, CHAT)
  expect(t.kernel.tools('acme').map(({ name }) => name)).not.toContain('llm.chat')
})
