/**
 * A node with tools of every kind, that kills itself where it is told to.
 *
 *   node kinds-node.ts '{"data":…,"anchor":…,"packages":…}'
 */
import fs from 'node:fs'
import { openKernel } from '@cardinal/kernel'
import { type McpServerManifest, nameOfComponent, parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { isRange, ownFunction } from '@cardinal/tools'
import { stringify } from 'yaml'
import { componentDigest } from '../../packages/kernel/src/components.ts'
import { answerLines, killMyself, say } from './lines.ts'

interface Config {
  readonly data: string
  readonly anchor: string
  readonly packages: string
}

type Asked =
  /** Manifests, with one component for all tools that are one, and one program for all agents. */
  | { readonly op: 'apply'; readonly text: string; readonly component: string; readonly program: string }
  /** Declares an MCP server, with the tools that it has now. */
  | { readonly op: 'accept'; readonly name: string; readonly spec: string }
  /** Ends this process when it comes to this point. */
  | { readonly op: 'arm'; readonly point: string }
  | { readonly op: 'use'; readonly address: string; readonly key: string; readonly args: object }
  /** The answer of an invocation, and how many effects this process has performed by then. */
  | { readonly op: 'wait'; readonly id: string }
  | { readonly op: 'doubts' }
  | { readonly op: 'resolve'; readonly effect: string }
  | { readonly op: 'audit'; readonly address: string }

const config = JSON.parse(process.argv[2] as string) as Config
const acme = { apiVersion: 'cardinal/v1', tenant: 'acme' }
let armed: string | undefined
let performed = 0

function crashPoint(name: string): void {
  if (name === 'effect.performed') performed++
  if (name === armed) killMyself()
}

/** Tells the service of what must arrive with one key. */
const own = ownFunction(`module.exports = async (_args, { key }) => {
  await fetch(process.env.SERVICE_OF_THE_TEST, { headers: { 'idempotency-key': key } })
  return { done: true }
}`)

const kernel = await openKernel({
  data: config.data,
  anchors: [config.anchor],
  packages: config.packages,
  models: new Map([['echo', () => ({ text: 'said' })]]),
  functions: new Map([['own', own]]),
  crashPoint,
  onFatal: (error) => {
    say({ fatal: error.message })
    process.exit(70)
  },
})
say({ ready: true })

async function accept(name: string, spec: string): Promise<object> {
  const parse = (text: string) => parseManifests(text, 'mcp.yaml', { isRange, defaultsOf: kernel.defaultsOf })
  const metadata = { tenant: acme.tenant, name }
  const text = `apiVersion: ${acme.apiVersion}\nkind: McpServer\nmetadata: ${JSON.stringify(metadata)}\nspec: ${spec}\n`
  const [server] = parse(text) as McpServerManifest[]
  const { integrity, tools } = await kernel.mcp.look(server as McpServerManifest, 'it')
  const pinned = { apiVersion: acme.apiVersion, kind: 'McpTools', metadata, spec: { integrity, tools } }
  const documents = parse(`${text}---\n${stringify(pinned, { aliasDuplicateObjects: false })}`)
  await kernel.apply(documents, new Map())
  return {}
}

async function apply(text: string, componentFile: string, program: string): Promise<object> {
  const component = fs.readFileSync(componentFile)
  const names = [...text.matchAll(/name: (part\.\w+)/g)].map(([, name]) => name as string)
  const components = new Map(
    names.map((name) => [nameOfComponent('Tool', acme.tenant, name), componentDigest(component)]),
  )
  const documents = parseManifests(text, 'tools.yaml', { isRange, defaultsOf: kernel.defaultsOf, components })
  const bundles = new Map([[`${acme.tenant}/teller`, await bundleProgram(program)]])
  await kernel.apply(documents, bundles, [component])
  return {}
}

async function answer(asked: Asked): Promise<object> {
  switch (asked.op) {
    case 'apply':
      return apply(asked.text, asked.component, asked.program)
    case 'accept':
      return accept(asked.name, asked.spec)
    case 'arm':
      armed = asked.point
      return {}
    case 'use': {
      const { address, key, args } = asked
      return { acked: (await kernel.invoke({ address, method: 'use', args, idempotencyKey: key })).id }
    }
    case 'wait': {
      const found = await kernel.result(asked.id)
      return { reply: found.reply ?? (await found.pending), performed }
    }
    case 'doubts':
      return { doubts: kernel.view.effectsInDoubt() }
    case 'resolve':
      await kernel.resolveEffect(asked.effect, 'done', 'it')
      return {}
    case 'audit':
      await kernel.replay(asked.address)
      return { mismatches: (await kernel.audit()).mismatches }
  }
}

await answerLines<Asked>(answer)
await kernel.close()
