/** What tools that manifests declare have in common, whatever performs them. */
import { hash } from 'node:crypto'
import type { Request } from '@cardinal/cards'
import { wrongAnswer } from './answer-schema.ts'
import { defaultsFor, describedBy, requestFor, spendOf, type ToolDeclaration } from './declaration.ts'
import { failed } from './failures.ts'
import { checkArgs } from './schema.ts'
import type { BadArguments, Receipt, Tool } from './tool.ts'

/** What a tool says of itself. */
export function saidBy(
  declaration: ToolDeclaration,
  sinks: readonly string[],
): Omit<Tool, 'translate' | 'perform'> {
  const { name, about, yields } = declaration
  return {
    name,
    about: about ?? name,
    version: versionOf(declaration),
    defaults: defaultsFor(declaration),
    ...describedBy(declaration),
    sinks,
    yields: yields ?? [],
  }
}

/** Names a declaration, as receipts do. */
function versionOf(declaration: unknown): string {
  return hash('sha256', JSON.stringify(declaration)).slice(0, 16)
}

/** Arguments that were checked, what cards decide on, and what they may cost. */
export interface Asked {
  readonly args: Map<string, unknown>
  readonly request: Request
  readonly spend: { readonly spend?: Readonly<Record<string, string>> }
}

export function askedOf(declaration: ToolDeclaration, given: unknown): Asked | BadArguments {
  const args = checkArgs(declaration.in, given)
  if (!(args instanceof Map)) return args
  const request = requestFor(declaration, args)
  if ('bad' in request) return request
  const spend = spendOf(declaration, args)
  if (spend && 'bad' in spend) return spend as BadArguments
  return { args, request, spend: spend ? { spend } : {} }
}

/** An answer as JSON text, held to what the declaration says. */
export function answered(
  declaration: Pick<ToolDeclaration, 'name' | 'out'>,
  text: string,
  cls: Differs,
): Receipt {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return failed(cls, 'ToolAnswer', `\`${declaration.name}\` answered something that is not JSON`)
  }
  return held(declaration, value, cls)
}

/** What an answer is told as that is another than was declared. */
type Differs = 'Unavailable' | 'Withheld'

export function held(
  { name, out }: Pick<ToolDeclaration, 'name' | 'out'>,
  value: unknown,
  cls: Differs,
): Receipt {
  const wrong = out && wrongAnswer(out, value)
  if (wrong === undefined) return { ok: true, value }
  return failed(cls, 'ToolAnswer', `\`${name}\` answered something else than it may: ${wrong}`)
}
