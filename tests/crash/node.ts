/**
 * A node for sweeps: one process, a real bank over HTTP, and a crash point at which it kills itself.
 *
 *   node node.ts '{"data":…,"bank":…,"crashAt":"turn.durable","crashOn":3}'
 *
 * Reads one JSON request a line from stdin and answers one a line; ends when stdin ends.
 */
import { openKernel } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { verifyLog } from '@cardinal/oplog'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { answerLines, killMyself, say } from './lines.ts'

interface Config {
  readonly data: string
  readonly anchor: string
  readonly bankPort: number
  readonly program: string
  readonly keyed: boolean
  /** Middleware stands before every payment: some of it decides at once, some waits. */
  readonly mediated?: boolean
  readonly crashAt?: string
  readonly crashOn?: number
  readonly skipSync?: 'batch' | 'folder'
  readonly connections?: number
  readonly idleMs?: number
  /** So few that others must sleep before one wakes. */
  readonly maxLive?: number
}

const config = JSON.parse(process.argv[2] ?? '{}') as Config
let seen = 0

function crashPoint(name: string): void {
  if (name === config.crashAt && ++seen === config.crashOn) killMyself()
}

const kernel = await openKernel({
  data: config.data,
  anchors: [config.anchor],
  segmentBytes: 1 << 20,
  crashPoint,
  connections: config.connections ?? 16,
  idleMs: config.idleMs ?? 50,
  ...(config.maxLive !== undefined && { maxLive: config.maxLive }),
  ...(config.skipSync && { skipSync: config.skipSync }),
  onFatal: (error) => {
    say({ fatal: error.message })
    process.exit(70)
  },
})

const port = config.bankPort
const idempotency = config.keyed
  ? `  idempotency:\n    - { host: 127.0.0.1, method: [POST], header: Idempotency-Key }\n`
  : ''
const middleware = `apiVersion: cardinal/v1
kind: Middleware
metadata: { tenant: acme, name: tidy }
spec: { tools: [http.fetch], redact: { args: [{ path: headers.*, known: email }], answer: [{ path: text, known: card }] } }
---
apiVersion: cardinal/v1
kind: Middleware
metadata: { tenant: acme, name: pace }
spec: { tools: ["http.*"], rateLimit: { calls: 2, per: second, wait: 10s } }
---
apiVersion: cardinal/v1
kind: Middleware
metadata: { tenant: acme, name: purse }
spec: { tools: [http.fetch], budget: { by: tenant, per: month, calls: 1000000 } }
---
`
const manifest = `${config.mediated ? middleware : ''}apiVersion: cardinal/v1
kind: Zone
metadata: { name: bank }
spec: { hosts: [127.0.0.1], ranges: [127.0.0.1/32] }
---
apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: acme, name: payer }
spec:
  program: ${config.program}
${idempotency}  card:
    limits: { depth: 2 }
    now:
      - { tool: agent.spawn, resource: payer/* }
      - { tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [${port}], method: [POST], path: /payees/*, args: { body: "*" } }
`
if (kernel.stats().agents === 0) {
  const documents = parseManifests(manifest, 'sweep.yaml', {
    isRange: () => true,
    defaultsOf: kernel.defaultsOf,
  })
  await kernel.apply(documents, new Map([['acme/payer', await bundleProgram(config.program)]]))
}
say({ ready: true, publicKey: kernel.publicKey })

interface Asked {
  readonly op:
    | 'pay'
    | 'payAll'
    | 'family'
    | 'lone'
    | 'revoke'
    | 'children'
    | 'audit'
    | 'fail'
    | 'erase'
    | 'wipe'
    | 'memory'
    | 'books'
    | 'agent'
    | 'wait'
    | 'replayAll'
    | 'doubts'
    | 'verify'
  readonly agent?: string
  readonly n?: number
  readonly id?: string
  readonly key?: string
}

async function answer(asked: Asked): Promise<object> {
  switch (asked.op) {
    case 'pay': {
      const { id } = await kernel.invoke({
        address: `acme/payer/${asked.agent}`,
        method: 'pay',
        args: { n: asked.n, port },
        idempotencyKey: asked.key ?? 'once',
      })
      return { acked: id }
    }
    case 'payAll': {
      const { id } = await kernel.invoke({
        address: `acme/payer/${asked.agent}`,
        method: 'payAll',
        args: { n: asked.n, port },
        idempotencyKey: 'once',
      })
      return { acked: id }
    }
    case 'family':
    case 'lone': {
      const args = asked.op === 'family' ? { n: asked.n, port } : null
      const address = `acme/payer/${asked.agent}`
      const { id } = await kernel.invoke({ address, method: asked.op, args, idempotencyKey: asked.op })
      return { acked: id }
    }
    case 'revoke': {
      const [card] = kernel.cards.list({ agent: `acme/payer/${asked.agent}` }) as { id: string }[]
      if (!card) return { revoked: false }
      await kernel.cards.revoke(card.id, 'sweep')
      return { revoked: true }
    }
    case 'children': {
      const all = kernel.view.agents({ limit: 10_000 }) as { address: string; state: string }[]
      return { children: all.filter(({ address }) => /\/[^/]+\.[^/]+$/.test(address)) }
    }
    case 'audit':
      return { ...(await kernel.audit()) }
    case 'fail': {
      const address = `acme/payer/${asked.agent}`
      const { id } = await kernel.invoke({ address, method: 'fail', args: null, idempotencyKey: 'once' })
      return { acked: id }
    }
    case 'erase':
      await kernel.erase(`acme/payer/${asked.agent}`)
      return {}
    case 'wipe':
      await kernel.wipe(`acme/payer/${asked.agent}`, 'sweep')
      return { wiped: true }
    case 'books':
    case 'memory': {
      const address = `acme/payer/${asked.agent}`
      const { reply } = await kernel.invoke({ address, method: asked.op, args: null })
      return { reply: await reply }
    }
    case 'agent':
      return { ...(await kernel.view.agent(`acme/payer/${asked.agent}`)) }
    case 'wait': {
      const found = await kernel.result(asked.id as string)
      return { reply: found.reply ?? (await found.pending) }
    }
    case 'replayAll': {
      const all = kernel.view.agents({ limit: 1000 }) as { address: string; state: string }[]
      const agents = all.filter((agent) => agent.state !== 'erased')
      let turns = 0
      for (const { address } of agents) turns += (await kernel.replay(address)).turns
      return { turns, agents: agents.length }
    }
    case 'doubts':
      return { doubts: kernel.view.effectsInDoubt() }
    case 'verify':
      return { ...verifyLog(config.data, { publicKey: kernel.publicKey, anchors: [config.anchor] }) }
  }
}

await answerLines<Asked>(answer)
await kernel.close()
