/**
 * A function of the operator's own as a tool: typed arguments, a card's bounds, and a thread of its own. It is
 * code of the host, and reaches whatever the host does.
 */
import type { HostDeclaration } from './declaration.ts'
import { answered, askedOf, saidBy } from './declared-parts.ts'
import { failed, refused } from './failures.ts'
import { OwnCode, OwnCodeFailed } from './own-code.ts'
import { placeOfSecret } from './secret-slot.ts'
import type { Attempt, BadArguments, Receipt, Tool, ToolSettings, Translated } from './tool.ts'

/** As it was when the node started. */
export interface OwnFunction {
  readonly digest: string
  /** Its answer as JSON text. Rejects with `OwnCodeFailed`. */
  call(args: unknown, context: HostContext, timeoutMs: number, signal: AbortSignal): Promise<string>
}

/** What a function is told beside its arguments; it has `signal` besides. */
interface HostContext {
  /** The same in every repetition of one effect. */
  readonly key: string
  /** The secret that its declaration names. */
  readonly secret?: string
}

const MAX_ANSWER = 2 << 20

/** The module's default export is `(args, { key, secret, signal }) => answer`. */
const ACT = `async (own, { args, context }, signal) => {
  if (typeof own !== 'function') throw new Error('its default export is no function')
  return JSON.stringify((await own(args, { ...context, signal })) ?? null)
}`

/** `code` is CommonJS with everything that it needs in it, but for what Node has. */
export function ownFunction(code: string): OwnFunction & { close(): Promise<void> } {
  const own = new OwnCode(code, ACT)
  return {
    digest: own.digest,
    call: async (args, context, timeoutMs, signal) => {
      const given = await own.ask({ args, context }, timeoutMs, signal)
      if (typeof given !== 'string') throw new OwnCodeFailed('it answered nothing that is JSON')
      return given
    },
    close: () => own.close(),
  }
}

export function hostTool(
  declaration: HostDeclaration,
  functions: (name: string) => OwnFunction | undefined,
): Tool {
  return {
    // What it does with its arguments nobody here sees.
    ...saidBy(declaration, declaration.sinks ?? ['*']),
    translate: (args, settings) => translate(declaration, args, settings),
    perform: (plan, attempt) => perform(declaration, plan as Plan, attempt, functions),
  }
}

interface Plan {
  readonly args: Readonly<Record<string, unknown>>
  readonly ref: string | undefined
}

function translate(
  declaration: HostDeclaration,
  given: unknown,
  { key }: ToolSettings,
): Translated | BadArguments {
  const asked = askedOf(declaration, given)
  if ('bad' in asked) return asked
  const { args, request, spend } = asked
  const ref = declaration.secret?.ref.replaceAll('{key}', key)
  const cost = { calls: 1, bytesOut: JSON.stringify([...args]).length, ...spend }
  const secret = ref === undefined ? {} : { secret: placeOfSecret(ref) }
  const plan: Plan = { args: Object.fromEntries(args), ref }
  return { request: { ...request, ...secret }, cost, effectClass: declaration.effect, plan }
}

async function perform(
  declaration: HostDeclaration,
  { args, ref }: Plan,
  attempt: Attempt,
  functions: (name: string) => OwnFunction | undefined,
): Promise<Receipt> {
  const { name, effect, host } = declaration
  const own = functions(host.function)
  if (!own) return refused('NoSuchFunction', `this node was started without \`--tool ${host.function}=FILE\``)
  const secret = ref === undefined ? undefined : await attempt.secret(ref)
  if (secret && 'class' in secret) return { ok: false, error: secret }
  if (secret && !secret.masker)
    return refused('SecretTooShort', `secret \`${secret.ref}\` is too short to be found in an answer`)
  if (secret?.masker?.maskText(JSON.stringify(args)) !== undefined)
    return refused('SecretByValue', `secret \`${secret.ref}\` stands in the arguments`)
  await attempt.started()
  const context = { key: attempt.idempotencyKey, ...(secret && { secret: secret.value.toString() }) }
  const shown = (text: string) => {
    const masked = secret?.masker?.maskText(text)
    if (secret && masked !== undefined) attempt.masked(secret)
    return masked ?? text
  }
  let text: string
  try {
    text = await own.call(args, context, host.timeoutMs, attempt.signal)
  } catch (error) {
    if (!(error instanceof OwnCodeFailed)) throw error
    if (error.notDone) return failed('Unavailable', 'ToolRefused', shown(error.message))
    // Its words are the operator's, and may hold anything.
    if (effect === 'read') return failed('Unavailable', 'ToolFailed', `\`${name}\` did not answer`)
    return failed(
      'Indeterminate',
      'Indeterminate',
      `\`${name}\` did not answer; whether it was done is unknown`,
    )
  }
  const bad = effect === 'read' ? 'Unavailable' : 'Withheld'
  if (text.length > MAX_ANSWER)
    return failed(bad, 'AnswerTooLarge', `\`${name}\` answered more than ${MAX_ANSWER} bytes`)
  return answered(declaration, shown(text), bad)
}
