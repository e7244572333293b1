/**
 * Tests that users write: a real kernel in process, tools that are functions, and a clock that
 * stands still until it is advanced.
 *
 * @example
 * const t = await openTest({ program: './clerk.ts', card: { now: [{ tool: 'bank.pay', args: '*' }] }, tools: { 'bank.pay': () => ({ id: 1 }) } })
 * await t.invoke('pay', { to: 'DE89' })
 * await t.advance('30d')
 * await t.close()
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseManifests } from '@cardinal/manifests'
import { bundleProgram } from '@cardinal/sdk/bundle'
import type { Receipt, Tool } from '@cardinal/tools'
import { VirtualClock } from './clock.ts'
import { KernelError } from './errors.ts'
import { type Kernel, openKernel } from './kernel.ts'
import type { Reply } from './reply.ts'
import type { HistoryLine } from './view.ts'

export interface TestOptions {
  /** Path of the program. */
  readonly program: string
  /** The card as in a manifest; without one nothing is allowed. */
  readonly card?: object
  /** Tools by name. What a function returns is the result; what it throws is `Unavailable`. */
  readonly tools?: Readonly<Record<string, (args: Record<string, unknown>) => unknown>>
  /** Key of the agent; `test` if left out. */
  readonly key?: string
}

export interface Test {
  /** Calls a method; a failure is thrown as an error with its `code`. */
  invoke(method: string, args?: unknown): Promise<unknown>
  /** Calls a method and does not wait: for what ends only after `advance`. */
  start(method: string, args?: unknown): Promise<{ result: Promise<unknown> }>
  /** Moves the clock, stopping at everything that comes due on the way. */
  advance(duration: string): Promise<void>
  /** Goes on from what was on disk at this moment, as after a kill. */
  crash(): Promise<void>
  history(): Promise<HistoryLine[]>
  close(): Promise<void>
}

const START_MS = Date.parse('2027-01-01T00:00:00Z')
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/
const SETTLE_MS = 1

export async function openTest(options: TestOptions): Promise<Test> {
  const clock = new VirtualClock(START_MS)
  const tools = Object.entries(options.tools ?? {}).map(([name, act]) => toTool(name, act))
  let folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cardinal-test-'))
  const open = () =>
    openKernel({
      data: path.join(folder, 'data'),
      anchors: [],
      clock,
      tools,
      idleMs: 3_600_000,
      segmentBytes: 4 << 20,
    })
  let kernel: Kernel = await open()
  await applyProgram(kernel, options)
  const address = `test/agent/${options.key ?? 'test'}`
  const begin = async (method: string, args: unknown) => {
    const { reply } = await kernel.invoke({ address, method, args: args ?? null })
    return { result: reply.then(resultOf) }
  }
  return {
    invoke: async (method, args) => (await begin(method, args)).result,
    start: async (method, args) => {
      const begun = await begin(method, args)
      begun.result.catch(() => {})
      return begun
    },
    advance: (duration) => advance(kernel, clock, duration),
    crash: async () => {
      const before = folder
      const old = kernel
      folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cardinal-test-'))
      fs.cpSync(path.join(before, 'data'), path.join(folder, 'data'), { recursive: true })
      kernel = await open()
      await old.close()
      fs.rmSync(before, { recursive: true, force: true })
    },
    history: () => kernel.view.history(address, { limit: 10_000 }),
    close: async () => {
      await kernel.close()
      fs.rmSync(folder, { recursive: true, force: true })
    },
  }
}

function resultOf(reply: Reply): unknown {
  if (reply.ok) return reply.value
  const { class: cls, code, message, ...details } = reply.error
  throw new KernelError(cls as KernelError['class'], code, message, details)
}

function toTool(name: string, act: (args: Record<string, unknown>) => unknown): Tool {
  return {
    name,
    about: 'a function of the test',
    defaults: {},
    sinks: [],
    yields: [],
    translate: (args) => ({
      request: { tool: name.split('.'), args: new Map(Object.entries((args ?? {}) as object)) },
      cost: { calls: 1, bytesOut: 0 },
      effectClass: 'once',
      plan: args,
    }),
    perform: async (plan, attempt): Promise<Receipt> => {
      await attempt.started()
      try {
        return { ok: true, value: (await act(plan as Record<string, unknown>)) ?? null }
      } catch (error) {
        return {
          ok: false,
          error: { class: 'Unavailable', code: 'ToolFailed', message: (error as Error).message },
        }
      }
    },
  }
}

async function applyProgram(kernel: Kernel, options: TestOptions): Promise<void> {
  const manifest = {
    apiVersion: 'cardinal/v1',
    kind: 'Agent',
    metadata: { tenant: 'test', name: 'agent' },
    spec: { timeout: '3650d', program: options.program, card: options.card ?? { now: [] } },
  }
  // JSON is YAML: the same parser, the same errors as for a manifest.
  const manifests = parseManifests(JSON.stringify(manifest), 'openTest', {
    defaultsOf: kernel.defaultsOf,
    isRange: () => false,
  })
  await kernel.apply(manifests, new Map([['test/agent', await bundleProgram(path.resolve(options.program))]]))
}

async function advance(kernel: Kernel, clock: VirtualClock, duration: string): Promise<void> {
  const match = DURATION.exec(duration)
  if (!match)
    throw new KernelError(
      'Malformed',
      'BadDuration',
      `\`${duration}\` is not a duration, as 500ms, 30s or 30d`,
    )
  const until =
    clock.nowMs() + Number(match[1]) * { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[match[2] as 's']
  for (;;) {
    await settled(kernel)
    const due = clock.nextDue()
    if (due === undefined || due > until) break
    clock.moveTo(due)
  }
  clock.moveTo(until)
  await kernel.poll()
  await settled(kernel)
}

/** Waits until every agent that is awake waits for time or for somebody. */
async function settled(kernel: Kernel): Promise<void> {
  do await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
  while (kernel.busy())
}
