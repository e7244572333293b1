/** A real kernel in a folder of its own, with tools that are functions. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { type Kernel, type KernelOptions, openKernel, type Reply } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import { type EffectClass, isRange, type Receipt, type Tool } from '@cardinal/tools'

export function tempFolder(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'cardinal-test-'))
}

type Args = Record<string, unknown>

/** A tool whose act is a function; its arguments are grant dimensions of the same names. */
export function functionTool(
  name: string,
  effectClass: EffectClass,
  act: (args: Args, key: string) => unknown,
): Tool {
  return {
    name,
    about: 'a function of a test',
    defaults: {},
    sinks: [],
    yields: [],
    translate: (args) => ({
      request: { tool: name.split('.'), args: new Map(Object.entries((args ?? {}) as Args)) },
      cost: { calls: 1, bytesOut: 0 },
      effectClass,
      plan: args,
    }),
    perform: async (plan, attempt): Promise<Receipt> => {
      await attempt.started()
      const value = await act(plan as Args, attempt.idempotencyKey)
      return { ok: true, value: value ?? null }
    },
  }
}

export interface TestKernel {
  readonly kernel: Kernel
  readonly data: string
  readonly anchor: string
  call(agent: string, method: string, args?: unknown): Promise<Reply>
  /** Closes and opens again on the same folder. */
  reopen(options?: Partial<KernelOptions>): Promise<TestKernel>
  close(): Promise<void>
}

export interface TestProgram {
  /** `acme` if left out. */
  readonly tenant?: string
  readonly name: string
  readonly file: string
  /** YAML of `now:`, one grant a line. */
  readonly now: readonly string[]
  readonly spec?: string
  /** YAML of the card's `limits`. */
  readonly limits?: string
  /** Files that every agent of it begins with. */
  readonly initial?: readonly (readonly [path: string, bytes: Buffer])[]
}

export function programFile(name: string): string {
  return path.join(import.meta.dirname, '..', 'programs', name)
}

function manifestText({ tenant = 'acme', name, file, now, spec = '', limits }: TestProgram): string {
  const grants = now.length === 0 ? ' []' : `\n${now.map((g) => `      - ${g}`).join('\n')}`
  return `apiVersion: cardinal/v1\nkind: Agent\nmetadata: { tenant: ${tenant}, name: ${name} }\nspec:\n  program: ${file}\n${spec}  card:\n${limits === undefined ? '' : `    limits: ${limits}\n`}    now:${grants}\n`
}

export async function applyPrograms(kernel: Kernel, programs: readonly TestProgram[]): Promise<void> {
  const options = { isRange: () => true, defaultsOf: kernel.defaultsOf }
  const manifests = programs.flatMap((p) => parseManifests(manifestText(p), 'test.yaml', options))
  const bundles = await Promise.all(
    programs.map(
      async (p) =>
        [
          `${p.tenant ?? 'acme'}/${p.name}`,
          p.file.endsWith('.wasm')
            ? { wasm: fs.readFileSync(p.file).toString('base64') }
            : await bundleProgram(p.file, p.initial),
        ] as const,
    ),
  )
  await kernel.apply(manifests, new Map(bundles))
}

export async function openTestKernel(
  programs: readonly TestProgram[],
  options: Partial<KernelOptions> = {},
  data = tempFolder(),
): Promise<TestKernel> {
  const anchor = path.join(data, '..', `${path.basename(data)}.anchor`)
  const kernel = await openKernel({
    data,
    anchors: [anchor],
    segmentBytes: 8 << 20,
    onFatal: (error) => {
      throw error
    },
    ...options,
  })
  if (programs.length > 0) await applyPrograms(kernel, programs)
  return {
    kernel,
    data,
    anchor,
    call: async (agent, method, args = null) =>
      (await kernel.invoke({ address: agent, method, args, tenant: 'acme' })).reply,
    reopen: async (again = {}) => {
      await kernel.close()
      return openTestKernel([], { ...options, ...again }, data)
    },
    close: async () => {
      await kernel.close()
      fs.rmSync(data, { recursive: true, force: true })
      fs.rmSync(anchor, { force: true })
    },
  }
}

/** A second node that goes on from what the first has on disk at this moment, as after a kill. */
export function crashCopy(t: TestKernel, options: Partial<KernelOptions>): Promise<TestKernel> {
  const data = tempFolder()
  fs.cpSync(t.data, data, { recursive: true })
  if (fs.existsSync(t.anchor)) fs.copyFileSync(t.anchor, `${data}.anchor`)
  return openTestKernel([], options, data)
}

/** Opens the door to addresses of this machine, which no card opens by itself. */
export async function applyZone(kernel: Kernel, hosts: string, ranges: string): Promise<void> {
  const zone = `apiVersion: cardinal/v1\nkind: Zone\nmetadata: { name: test }\nspec: { hosts: [${hosts}], ranges: [${ranges}] }\n`
  const options = { isRange: () => true, defaultsOf: kernel.defaultsOf }
  await kernel.apply(parseManifests(zone, 'zone.yaml', options), new Map())
}

/** Denies hosts and ranges to every agent. */
export async function applyNetwork(kernel: Kernel, deny: string): Promise<void> {
  const network = `apiVersion: cardinal/v1\nkind: Network\nmetadata: { name: test }\nspec: { deny: [${deny}] }\n`
  const options = { isRange, defaultsOf: kernel.defaultsOf }
  await kernel.apply(parseManifests(network, 'network.yaml', options), new Map())
}
