/**
 * A component as a tool: typed arguments go in as JSON, an answer comes out. It reaches nothing, so nothing
 * can have been done where it gives no answer.
 */
import type { CalledComponent, RunComponent } from './component.ts'
import type { WasmDeclaration } from './declaration.ts'
import { answered, askedOf, saidBy } from './declared-parts.ts'
import { failed } from './failures.ts'
import type { Attempt, BadArguments, Receipt, Tool, Translated } from './tool.ts'

export function wasmTool(declaration: WasmDeclaration, run: RunComponent): Tool {
  return {
    ...saidBy(declaration, declaration.sinks ?? []),
    translate: (args) => translate(declaration, args),
    perform: (plan, attempt) => perform(declaration, plan as string, attempt, run),
  }
}

function translate(declaration: WasmDeclaration, given: unknown): Translated | BadArguments {
  const asked = askedOf(declaration, given)
  if ('bad' in asked) return asked
  const { args, request, spend } = asked
  const plan = JSON.stringify(Object.fromEntries(args))
  const cost = { calls: 1, bytesOut: plan.length, ...spend }
  return { request, cost, effectClass: declaration.effect, plan }
}

async function perform(
  declaration: WasmDeclaration,
  input: string,
  attempt: Attempt,
  run: RunComponent,
): Promise<Receipt> {
  const { name, wasm } = declaration
  // It does nothing but answer: where it cannot be had, or the host fails, nothing has begun.
  let called: CalledComponent
  try {
    called = await run(wasm.digest, input, wasm, attempt.signal)
  } catch (error) {
    if (!attempt.signal.aborted) throw error
    return failed('Cancelled', 'Cancelled', 'cancelled before it answered')
  }
  await attempt.started()
  if (!called.done)
    return failed(
      'Unavailable',
      'ToolFailed',
      `\`${name}\` gave no answer: ${WHY[called.kind] ?? called.detail}`,
    )
  if (!called.ok) return failed('Unavailable', 'ToolRefused', called.text.slice(0, 1000))
  return answered(declaration, called.text, 'Unavailable')
}

const WHY: Readonly<Record<string, string>> = { OutOfFuel: 'it took more fuel than it may' }
