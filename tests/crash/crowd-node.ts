/**
 * A node with a crowd that is awake by turns: one process, a ledger in a file, and a crash point at which it kills
 * itself. Reads one JSON request a line from stdin and answers one a line.
 */
import fs from 'node:fs'
import { openKernel } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { verifyLog } from '@cardinal/oplog'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { functionTool, programFile } from '../support/kernel.ts'
import { answerLines, killMyself, say } from './lines.ts'

export interface CrowdConfig {
  readonly data: string
  readonly anchor: string
  readonly ledger: string
  readonly maxLive: number
  readonly idleMs: number
  readonly crashAt?: string
  readonly crashOn?: number
  readonly skipSync?: 'batch' | 'folder'
}

const config = JSON.parse(process.argv[2] ?? '{}') as CrowdConfig
let seen = 0

/** As a bank would: on its disk before it is answered, and once for a key, however often it comes. */
function book(args: Record<string, unknown>, key: string): null {
  const file = fs.openSync(config.ledger, 'a')
  fs.writeSync(file, `${JSON.stringify({ ...args, key })}\n`)
  fs.fdatasyncSync(file)
  fs.closeSync(file)
  return null
}

const kernel = await openKernel({
  data: config.data,
  anchors: [config.anchor],
  segmentBytes: 1 << 20,
  idleMs: config.idleMs,
  maxLive: config.maxLive,
  tools: [functionTool('test.book', 'idempotent', book)],
  crashPoint: (name) => {
    if (name === config.crashAt && ++seen === config.crashOn) killMyself()
  },
  ...(config.skipSync && { skipSync: config.skipSync }),
  onNotice: (notice) => say({ notice }),
  onFatal: (error) => {
    say({ fatal: error.message })
    process.exit(70)
  },
})
const program = programFile('sleeper.ts')
if (kernel.stats().agents === 0) {
  const manifest = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: acme, name: sleeper }
spec: { program: ${program}, card: { now: [{ tool: "test.*", args: "*" }] } }
`
  const options = { isRange: () => true, defaultsOf: kernel.defaultsOf }
  const documents = parseManifests(manifest, 'crowd.yaml', options)
  await kernel.apply(documents, new Map([['acme/sleeper', await bundleProgram(program)]]))
}
say({ ready: true })

interface Asked {
  readonly op: 'work' | 'books' | 'replay' | 'verify' | 'close'
  readonly agent: string
  readonly round: number
}

async function answer({ op, agent, round }: Asked): Promise<object> {
  const address = `acme/sleeper/${agent}`
  switch (op) {
    case 'work': {
      const idempotencyKey = `round ${round}`
      const { reply } = await kernel.invoke({ address, method: 'work', args: { round }, idempotencyKey })
      return { reply: await reply }
    }
    case 'books': {
      const { reply } = await kernel.invoke({ address, method: 'books' })
      return { reply: await reply }
    }
    case 'replay':
      return { ...(await kernel.replay(address)) }
    case 'verify':
      return { ...verifyLog(config.data, { publicKey: kernel.publicKey, anchors: [config.anchor] }) }
    case 'close':
      // Everybody who is awake is saved at once.
      await kernel.close()
      return { closed: true }
  }
}

await answerLines<Asked>(answer)
