/** Nodes that rows are measured on: the manifest of the program that does next to nothing, and calls of it. */
import path from 'node:path'
import { type Kernel, type KernelOptions, openKernel } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { step } from './step.ts'

export const programs = path.join(import.meta.dirname, '..', 'programs')

/** Applies manifests to a node, with the programs that they name. */
export async function applyTo(
  kernel: Kernel,
  text: string,
  named: Readonly<Record<string, string>>,
): Promise<void> {
  const manifests = parseManifests(text, 'bench.yaml', { isRange: () => true, defaultsOf: kernel.defaultsOf })
  const bundles = Object.entries(named).map(
    async ([agent, file]) => [agent, await bundleProgram(path.join(programs, file))] as const,
  )
  await kernel.apply(manifests, new Map(await Promise.all(bundles)))
}

export function agentText(
  tenant: string,
  name: string,
  file: string,
  grants = '{ tool: bench.step, args: "*" }',
): string {
  const program = path.join(programs, file)
  return `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: ${tenant}, name: ${name} }\nspec:\n  program: ${program}\n  card:\n    now:\n      - ${grants}\n`
}

export async function openNode(data: string, options: Partial<KernelOptions> = {}): Promise<Kernel> {
  const kernel = await openKernel({ data, anchors: [], tools: [step], ...options })
  await applyTo(kernel, agentText('acme', 'bench', 'bench.ts'), { 'acme/bench': 'bench.ts' })
  return kernel
}

/** Calls an agent and waits for its durable reply. */
export async function ask(
  kernel: Kernel,
  key: string,
  method: string,
  args: unknown = null,
): Promise<unknown> {
  const { reply } = await kernel.begin({ address: `acme/bench/${key}`, method, args })
  const done = await reply
  if (!done.ok) throw new Error(done.error.message)
  return done.value
}

/** Runs `work` so often, `width` at a time, and says how far it is. */
export async function crowd(
  what: string,
  count: number,
  width: number,
  work: (i: number) => Promise<unknown>,
): Promise<number> {
  const began = performance.now()
  let next = 0
  let said = began
  const worker = async () => {
    while (next < count) {
      const i = next++
      await work(i)
      if (performance.now() - said < 2000) continue
      said = performance.now()
      const perSecond = (next / (said - began)) * 1000
      const left = Math.round((count - next) / perSecond)
      process.stderr.write(`  ${what}: ${next} of ${count}, ${perSecond.toFixed(0)}/s, ${left} s to go\n`)
    }
  }
  await Promise.all(Array.from({ length: width }, worker))
  return (performance.now() - began) / 1000
}
