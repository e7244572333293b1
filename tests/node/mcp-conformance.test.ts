/**
 * The conformance suite of the Model Context Protocol against a node, in both eras. Whatever fails does so
 * for one reason: the feature is not offered. Nodes offer tools; docs/mcp.md says what they do not offer.
 */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { type Api, serveApi } from '@cardinal/kernel'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openTestKernel, programFile, type TestKernel, tempFolder } from '../support/kernel.ts'

const suite = createRequire(import.meta.url).resolve('@modelcontextprotocol/conformance/dist/index.js')
const TOOLS = {
  test_simple_text: 'simpleText',
  test_image_content: 'image',
  test_audio_content: 'audio',
  test_embedded_resource: 'embedded',
  test_multiple_content_types: 'mixed',
  test_error_handling: 'failing',
  json_schema_2020_12_tool: 'schema',
}
/** Prompts, resources, completion, logging, and requests of a server to its client are not offered. */
const NOT_OFFERED = [
  /Method not found/,
  /no tool `test_(elicitation|sampling|tool_with_progress|input_required_result)\w*` is offered/,
  /^Not testable: server (does not list the diagnostic tool|exposes no tool with x-mcp-header)/,
  /^Prerequisite failed: could not get initial InputRequiredResult/,
  /^Expected InputRequiredResult/,
]

interface Check {
  readonly scenario: string
  readonly id: string
  readonly status: 'SUCCESS' | 'FAILURE' | 'WARNING' | 'INFO' | 'SKIPPED'
  readonly errorMessage?: string
}

let t: TestKernel
let api: Api
let token: string

beforeAll(async () => {
  t = await openTestKernel([{ name: 'conformance', file: programFile('conformance.ts'), now: [] }])
  api = await serveApi({ kernel: t.kernel, port: 0 })
  await t.call('conformance/a', 'simpleText', null)
  const [card] = t.kernel.cards.list({ agent: 'acme/conformance/a' }) as { id: string }[]
  const tools = Object.entries(TOOLS).map(([name, method]) => ({ name, agent: 'conformance/a', method }))
  const client = { tenant: 'acme', name: 'suite', card: card?.id as string, tools }
  token = (await t.kernel.mcpClients.add(client, 'it')).token
})
afterAll(async () => {
  await api.close()
  await t.close()
})

/** The suite knows no tokens: this adds one, and lets a test change what is answered. */
async function runSuite(
  revision: string,
  scenarios: readonly string[],
  change = (text: string) => text,
): Promise<Check[]> {
  const proxy = http.createServer((request, response) => {
    const headers = { ...request.headers, authorization: `Bearer ${token}` }
    const passed = http.request(`${api.url}${request.url}`, { method: request.method, headers }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (part) => {
        text += part
      })
      answer.on('end', () => {
        const { 'content-length': _length, 'transfer-encoding': _encoding, ...kept } = answer.headers
        response.writeHead(answer.statusCode ?? 500, kept)
        response.end(change(text))
      })
    })
    passed.on('error', () => response.destroy())
    request.pipe(passed)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const { port } = proxy.address() as { port: number }
  const out = tempFolder()
  try {
    const asked = scenarios.length > 0 ? ['--scenario', ...scenarios] : ['--suite', 'all']
    const url = `http://localhost:${port}/mcp`
    const args = [suite, 'server', '--url', url, '--spec-version', revision, '-o', out, ...asked]
    const child = spawn(process.execPath, args, { stdio: 'ignore' })
    await new Promise((resolve) => child.once('exit', resolve))
    return fs.readdirSync(out).flatMap((folder) => {
      const scenario = folder.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, '')
      const file = path.join(out, folder, 'checks.json')
      const checks = JSON.parse(fs.readFileSync(file, 'utf8')) as Omit<Check, 'scenario'>[]
      return checks.map((check) => ({ ...check, scenario }))
    })
  } finally {
    proxy.close()
    fs.rmSync(out, { recursive: true })
  }
}

const failed = (checks: readonly Check[]) => checks.filter(({ status }) => status === 'FAILURE')
const unexplained = (checks: readonly Check[]) =>
  failed(checks).filter(({ errorMessage = '' }) => !NOT_OFFERED.some((reason) => reason.test(errorMessage)))

const BOTH = [
  'tools-list',
  'tools-call-simple-text',
  'tools-call-image',
  'tools-call-audio',
  'tools-call-embedded-resource',
  'tools-call-mixed-content',
  'tools-call-error',
  'json-schema-2020-12',
  'dns-rebinding-protection',
]
it.each([
  ['2025-11-25', [...BOTH, 'server-initialize', 'ping'], 48],
  ['2026-07-28', [...BOTH, 'http-header-validation', 'input-required-result-unsupported-methods'], 100],
] as const)('%s passes in whatever is offered', { timeout: 120_000 }, async (revision, passed, score) => {
  const checks = await runSuite(revision, [])
  expect(unexplained(checks)).toEqual([])
  const failing = new Set(failed(checks).map(({ scenario }) => scenario))
  const ran = new Set(checks.map(({ scenario }) => scenario))
  for (const scenario of passed) {
    expect(ran).toContain(scenario)
    expect(failing).not.toContain(scenario)
  }
  expect(checks.filter(({ status }) => status === 'SUCCESS').length).toBeGreaterThanOrEqual(score)
})

it('is failed by a server that answers something else', { timeout: 60_000 }, async () => {
  const scenario = ['tools-call-simple-text']
  expect(failed(await runSuite('2025-11-25', scenario))).toEqual([])
  const other = await runSuite('2025-11-25', scenario, (text) =>
    text.replaceAll('"type":"text"', '"type":"txet"'),
  )
  expect(unexplained(other)).not.toEqual([])
})
