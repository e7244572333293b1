/** Row 13 on a node: a card with a million below it is revoked on disk, after a start that reads none of them. */
import path from 'node:path'
import { type Kernel, openKernel } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import type { Row } from './measure.ts'
import { step } from './step.ts'

const program = path.join(import.meta.dirname, '..', 'programs', 'bench.ts')
const CARDS = 1_000_000
const AT_ONCE = 5000
const ADDRESS = 'acme/bench/holder'
const MANIFEST = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: acme, name: bench }
spec:
  program: ${program}
  card:
    limits: { depth: 2 }
    now: [{ tool: bench.step, args: "*" }]
`

async function one(kernel: Kernel): Promise<string> {
  try {
    const { reply } = await kernel.begin({ address: ADDRESS, method: 'one', args: null })
    const done = await reply
    return done.ok ? 'allowed' : done.error.code
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

/** Mints below the birth card: half of them directly, half below those. */
async function mintAll(kernel: Kernel, birth: string, progress: (done: number) => void): Promise<void> {
  const minted: string[] = []
  for (let done = 0; done < CARDS; done += AT_ONCE) {
    const mints = Array.from({ length: AT_ONCE }, (_, i) => {
      const like = done * 2 >= CARDS ? (minted[(done + i) % minted.length] as string) : birth
      return kernel.cards.mint({ like, below: true }, 'bench')
    })
    for (const card of await Promise.all(mints))
      if (minted.length < AT_ONCE) minted.push((card as { id: string }).id)
    progress(done + AT_ONCE)
  }
}

export async function million(folder: string): Promise<Row[]> {
  const open = () => openKernel({ data: folder, anchors: [], tools: [step] })
  let kernel = await open()
  const manifests = parseManifests(MANIFEST, 'bench.yaml', {
    isRange: () => true,
    defaultsOf: kernel.defaultsOf,
  })
  await kernel.apply(manifests, new Map([['acme/bench', await bundleProgram(program)]]))
  if ((await one(kernel)) !== 'allowed') throw new Error('refused before it was revoked')
  await kernel.suspend(ADDRESS)
  const [birth] = kernel.cards.list({ agent: ADDRESS }) as { id: string }[]
  if (!birth) throw new Error('the agent has no card')
  await mintAll(kernel, birth.id, (done) => process.stderr.write(`\r${done} of ${CARDS} cards minted `))
  process.stderr.write('\n')
  await kernel.close()
  const opening = performance.now()
  kernel = await open()
  const openMs = performance.now() - opening
  const { cards } = kernel.cards.blast(birth.id)
  const rows = kernel.stats().rows
  if ((await one(kernel)) !== 'allowed') throw new Error('refused before it was revoked')
  const revoking = performance.now()
  const revoked = kernel.cards.revoke(birth.id, 'bench')
  const answer = await one(kernel)
  const refusedMs = performance.now() - revoking
  await revoked
  const durableMs = performance.now() - revoking
  await kernel.close()
  if (answer !== 'Stopped') throw new Error(`after the revocation: ${answer}`)
  return [
    {
      row: 13,
      name: `revoke a card with ${(cards - 1).toLocaleString('en')} below it on a node, until its agent is refused`,
      unit: 'ms',
      n: 1,
      value: Number(refusedMs.toFixed(3)),
      goal: '<= 1',
      met: refusedMs <= 1,
      note: `durable after ${durableMs.toFixed(2)} ms; the node was opened in ${(openMs / 1000).toFixed(1)} s with ${rows} rows of agents and cards in memory`,
    },
  ]
}
