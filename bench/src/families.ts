/** Rows 6 and 7: agents that call one another, and a parent that spawns a thousand and gathers them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { openKernel } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { each, type Row } from './measure.ts'

const program = path.join(import.meta.dirname, '..', 'programs', 'family.ts')
const CALLS = 100
const CHILDREN = 1000

const MANIFEST = (port: number) => `apiVersion: cardinal/v1
kind: Zone
metadata: { name: here }
spec: { hosts: [127.0.0.1], ranges: [127.0.0.1/32] }
---
apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: acme, name: family }
spec:
  program: ${program}
  card:
    limits: { depth: 1, fanout: 1000 }
    now:
      - { tool: agent.*, resource: "*", method: "*" }
      - { tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [${port}], method: [POST], path: /of/*, args: { body: "*" } }
`

export async function families(folder: string): Promise<Row[]> {
  const receiver = spawn(process.execPath, [path.join(import.meta.dirname, 'receiver.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const [said] = (await once(receiver.stdout, 'data')) as [Buffer]
  const port = Number(said.toString())
  const kernel = await openKernel({ data: folder, anchors: [] })
  try {
    const manifests = parseManifests(MANIFEST(port), 'bench.yaml', {
      isRange: () => true,
      defaultsOf: kernel.defaultsOf,
    })
    await kernel.apply(manifests, new Map([['acme/family', await bundleProgram(program)]]))
    const invoke = async (key: string, method: string, args: unknown) => {
      const { reply } = await kernel.begin({ address: `acme/family/${key}`, method, args })
      const done = await reply
      if (!done.ok) throw new Error(done.error.message)
      return done.value
    }
    await invoke('callee', 'answer', null)
    const calls = await each(100, 10, () => invoke('caller', 'calls', { n: CALLS, to: 'callee' }))
    const gathers = await each(10, 2, async (i) => {
      const done = await invoke(`parent${i}`, 'gather', { n: CHILDREN, port })
      if (done !== CHILDREN) throw new Error(`${String(done)} of ${CHILDREN} children replied`)
    })
    const per = (ms: number) => Number((ms / CALLS).toFixed(4))
    return [
      {
        row: 6,
        name: 'agent to agent call in one node, exactly once',
        unit: 'ms',
        n: calls.n * CALLS,
        p50: per(calls.p50),
        p95: per(calls.p95),
        p99: per(calls.p99),
        goal: 'p50 <= 0.1',
        met: per(calls.p50) <= 0.1,
        note: `${CALLS} calls one after the other in an invocation, answered when all is synced`,
      },
      {
        row: 7,
        name: 'spawn 1,000 sub-agents, each one POST to another process and a reply, gathered',
        unit: 'ms',
        ...gathers,
        goal: 'p50 <= 500',
        met: gathers.p50 <= 500,
        note: 'each under a card of its own: one path, one call; once-only, started on disk before it is sent',
      },
    ]
  } finally {
    await kernel.close()
    receiver.stdin.end()
  }
}
