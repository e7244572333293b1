/**
 * A component as a tool: typed arguments go in as JSON, an answer comes out. It reaches nothing, so nothing
 * can have been done where it gives no answer.
 */
import { wrongAnswer } from './answer-schema.ts'
import type { CalledComponent, RunComponent } from './component.ts'
import { defaultsFor, describedBy, requestFor, spendOf, type WasmDeclaration } from './declaration.ts'
import { checkArgs } from './schema.ts'
import type { Attempt, BadArguments, Receipt, Tool, Translated, WireError } from './tool.ts'

export function wasmTool(declaration: WasmDeclaration, run: RunComponent): Tool {
  const { name, about, sinks, yields } = declaration
  return {
    name,
    about: about ?? name,
    defaults: defaultsFor(declaration),
    ...describedBy(declaration),
    sinks: sinks ?? [],
    yields: yields ?? [],
    translate: (args) => translate(declaration, args),
    perform: (plan, attempt) => perform(declaration, plan as string, attempt, run),
  }
}

function translate(declaration: WasmDeclaration, given: unknown): Translated | BadArguments {
  const args = checkArgs(declaration.in, given)
  if (!(args instanceof Map)) return args
  const request = requestFor(declaration, args)
  if ('bad' in request) return request
  const spend = spendOf(declaration, args)
  if (spend && 'bad' in spend) return spend as BadArguments
  const plan = JSON.stringify(Object.fromEntries(args))
  const cost = { calls: 1, bytesOut: plan.length, ...(spend && { spend }) }
  return { request, cost, effectClass: declaration.effect, plan }
}

async function perform(
  { name, out, wasm }: WasmDeclaration,
  input: string,
  attempt: Attempt,
  run: RunComponent,
): Promise<Receipt> {
  // It does nothing but answer: where it cannot be had, or the host fails, nothing has begun.
  let called: CalledComponent
  try {
    called = await run(wasm.digest, input, wasm, attempt.signal)
  } catch (error) {
    if (!attempt.signal.aborted) throw error
    return {
      ok: false,
      error: { class: 'Cancelled', code: 'Cancelled', message: 'cancelled before it answered' },
    }
  }
  await attempt.started()
  if (!called.done)
    return failed('ToolFailed', `\`${name}\` gave no answer: ${WHY[called.kind] ?? called.detail}`)
  if (!called.ok) return failed('ToolRefused', called.text.slice(0, 1000))
  const value = jsonOf(called.text)
  const wrong = value === undefined ? 'something that is not JSON' : out && wrongAnswer(out, value)
  if (wrong !== undefined)
    return failed('ToolAnswer', `\`${name}\` answered something else than it may: ${wrong}`)
  return { ok: true, value }
}

const WHY: Readonly<Record<string, string>> = { OutOfFuel: 'it took more fuel than it may' }

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function failed(code: string, message: string): Receipt {
  const error: WireError = { class: 'Unavailable', code, message }
  return { ok: false, error }
}
