/**
 * Tools that a manifest declares, of kind `http`: typed arguments, and the one request that they become.
 *
 * The agent never frames the request: it gives arguments, cards bound them, and the declaration says
 * where each goes. The request leaves by the door of `http.fetch`, with the same checks of addresses;
 * it follows no redirect.
 */
import { type GrantDefaults, placeOfPlainPath, placeOfResource, type Request } from '@cardinal/cards'
import { type AnswerSchema, wrongAnswer } from './answer-schema.ts'
import { type HttpPlan, translateHttp } from './http-request.ts'
import { type ArgsSchema, checkArgs } from './schema.ts'
import type { Attempt, EffectClass, Receipt, Tool, Translated, WireError } from './tool.ts'

export interface ToolDeclaration {
  /** Dotted, as `bank.pay`. */
  readonly name: string
  readonly about?: string | undefined
  readonly in: ArgsSchema
  /** What it must be answered; left out: any JSON. */
  readonly out?: AnswerSchema | undefined
  readonly effect: EffectClass
  /** The header that carries the kernel's key; of an `idempotent` effect. */
  readonly idempotencyHeader?: string | undefined
  readonly http: {
    readonly method: string
    /** `{name}` in a segment of the path is an argument. */
    readonly url: string
    readonly query?: Readonly<Record<string, string>> | undefined
    readonly headers?: Readonly<Record<string, string>> | undefined
    /** What the body is: `json` of all arguments that stand nowhere else. */
    readonly body?: 'json' | undefined
  }
  /** Which argument also stands in which dimension of a grant. */
  readonly dimensions?:
    | { readonly resource?: string | undefined; readonly path?: string | undefined }
    | undefined
  /** Which argument is an amount of which currency. */
  readonly spend?: Readonly<Record<string, string>> | undefined
  /** Where arguments can be carried to besides the host of the URL. */
  readonly sinks?: readonly string[] | undefined
  readonly yields?: readonly string[] | undefined
}

const PLACEHOLDER = /\{([^{}]*)\}/g

/** The arguments that a template names. */
export function placeholders(template: string): string[] {
  return [...template.matchAll(PLACEHOLDER)].map(([, name]) => name as string)
}

/** Every template of a declaration, with where it stands. */
export function templatesOf({ http }: ToolDeclaration): [where: string, template: string][] {
  const named = (part: 'query' | 'headers') =>
    Object.entries(http[part] ?? {}).map(([name, text]): [string, string] => [`${part}.${name}`, text])
  return [['url', http.url], ...named('query'), ...named('headers')]
}

/** What a grant for the tool must write: every argument that is always there. */
function defaultsFor({ in: schema, dimensions, effect }: ToolDeclaration): GrantDefaults {
  const always = Object.entries(schema.properties).filter(
    ([name, p]) => schema.required?.includes(name) || (p.default !== undefined && p.default !== null),
  )
  const required = (['resource', 'path'] as const).filter((d) => dimensions?.[d] !== undefined)
  return { required, requiredArgs: always.map(([name]) => name), irreversible: effect === 'once' }
}

/** What a grant for one of these tools, or for a subtree of them, fills in; a subtree asks by default if one of it does. */
export function defaultsAmong(tool: string, tools: readonly ToolDeclaration[]): GrantDefaults | undefined {
  const exact = tools.find(({ name }) => name === tool)
  if (exact) return defaultsFor(exact)
  const stem = tool.endsWith('*') ? tool.slice(0, -1) : undefined
  const asks = ({ name, effect }: ToolDeclaration) =>
    stem !== undefined && effect === 'once' && name.startsWith(stem) && name.length > stem.length
  return tools.some(asks) ? { irreversible: true } : undefined
}

/** A declared tool; `http` performs what it becomes. */
export function declaredTool(declaration: ToolDeclaration, http: Pick<Tool, 'perform'>): Tool {
  const { name, about } = declaration
  return {
    name,
    about: about ?? name,
    defaults: defaultsFor(declaration),
    // Whatever else its service may do with them: the arguments go to that host.
    sinks: [...new Set([hostOf(declaration), ...(declaration.sinks ?? [])])],
    yields: declaration.yields ?? [],
    translate: (args) => translate(declaration, args),
    perform: async (plan, attempt) => answerOf(declaration, await http.perform(plan, attempt as Attempt)),
  }
}

/** The host that a declared tool talks to, which its declaration fixes. */
function hostOf({ http }: ToolDeclaration): string {
  return new URL(http.url.replaceAll(PLACEHOLDER, 'x')).hostname
}

function translate(declaration: ToolDeclaration, given: unknown): Translated | { readonly bad: string } {
  const args = checkArgs(declaration.in, given)
  if (!(args instanceof Map)) return args
  const request = requestOf(declaration, args)
  if ('bad' in request) return request
  const plan = planOf(declaration, args)
  if ('bad' in plan) return plan
  const spend = spendOf(declaration, args)
  if (spend && 'bad' in spend) return spend as { readonly bad: string }
  const cost = { calls: 1, bytesOut: plan.body?.length ?? 0, ...(spend && { spend }) }
  return { request, cost, effectClass: declaration.effect, plan }
}

const AMOUNT = /^\d{1,18}(\.\d{1,18})?$/

/** What the call may cost, by currency, from the arguments that the declaration names. */
function spendOf(
  { spend }: ToolDeclaration,
  args: Map<string, unknown>,
): Record<string, string> | { readonly bad: string } | undefined {
  if (!spend) return undefined
  const amounts: Record<string, string> = {}
  for (const [currency, from] of Object.entries(spend)) {
    if (!args.has(from)) continue
    const amount = String(args.get(from))
    if (!AMOUNT.test(amount)) return { bad: `\`${from}\`, which is no plain amount` }
    amounts[currency] = amount
  }
  return amounts
}

const PLACES = { resource: placeOfResource, path: placeOfPlainPath }

function requestOf(
  { name, dimensions }: ToolDeclaration,
  args: Map<string, unknown>,
): Request | { bad: string } {
  const places: { resource?: readonly string[]; path?: readonly string[] } = {}
  for (const dimension of ['resource', 'path'] as const) {
    const from = dimensions?.[dimension]
    if (from === undefined) continue
    const value = args.get(from)
    const segments = typeof value === 'string' ? PLACES[dimension](value) : undefined
    if (!segments) return { bad: `\`${from}\`, which is no canonical ${dimension}` }
    places[dimension] = segments
  }
  return { tool: name.split('.'), ...places, args }
}

function planOf(
  { http, effect, idempotencyHeader }: ToolDeclaration,
  args: Map<string, unknown>,
): HttpPlan | { bad: string } {
  const used = new Set<string>()
  const fill = (template: string, encode: (text: string) => string) =>
    template.replaceAll(PLACEHOLDER, (_whole, name: string) => {
      used.add(name)
      return encode(String(args.get(name) ?? ''))
    })
  const inPath = placeholders(http.url).map((name) => String(args.get(name) ?? ''))
  // Such a segment would be another path than was declared.
  if (inPath.some((value) => /^\.*$/.test(value))) return { bad: 'an argument that cannot stand in the path' }
  const url = new URL(fill(http.url, encodeURIComponent))
  for (const [name, template] of Object.entries(http.query ?? {})) {
    const missing = placeholders(template).some((arg) => !args.has(arg))
    const value = fill(template, (text) => text)
    if (!missing) url.searchParams.set(name, value)
  }
  const headers = Object.entries(http.headers ?? {}).map(([name, text]) => [name, fill(text, (t) => t)])
  headers.push(['accept', 'application/json'])
  const rest = Object.fromEntries([...args].filter(([name]) => !used.has(name)))
  const body = http.body === 'json' ? { text: JSON.stringify(rest) } : {}
  if (http.body === 'json') headers.push(['content-type', 'application/json'])
  // What `http.fetch` would refuse to send, nobody sends: paths that could be read in two ways, headers that break.
  const { method } = http
  const sent = translateHttp(
    { method, url: url.href, headers, redirect: 'error', ...body },
    { idempotency: [] },
  )
  if ('bad' in sent) return sent
  const keyed = effect === 'idempotent' && idempotencyHeader
  return { ...(sent.plan as HttpPlan), ...(keyed && { idempotencyHeader }) }
}

interface Answer {
  readonly status: number
  readonly text?: string
  readonly base64?: string
}

/** What the agent sees of an answer: its JSON. A refusal by the other side did nothing; its failure may have. */
function answerOf({ effect, name, out }: ToolDeclaration, receipt: Receipt): Receipt {
  if (!receipt.ok) return receipt
  const { status, text } = receipt.value as Answer
  const failed = (cls: WireError['class'], code: string, message: string): Receipt => ({
    ok: false,
    error: { class: cls, code, message },
  })
  if (status >= 400 && status < 500)
    return failed('Unavailable', 'ToolRefused', `\`${name}\` was answered ${status}`)
  if (status < 200 || status >= 300) {
    const message = `\`${name}\` was answered ${status}`
    return effect === 'read'
      ? failed('Unavailable', 'ToolFailed', message)
      : failed('Indeterminate', 'Indeterminate', `${message}; whether it was done is unknown`)
  }
  // What was done stays done, whatever it was answered with.
  const cls = effect === 'read' ? 'Unavailable' : 'Withheld'
  let value: unknown = null
  try {
    // Bytes that are no text are no JSON either.
    if (text !== '') value = JSON.parse(text ?? '\0')
  } catch {
    return failed(cls, 'ToolAnswer', `\`${name}\` was answered something that is not JSON`)
  }
  const wrong = out && wrongAnswer(out, value)
  if (wrong !== undefined)
    return failed(
      cls,
      'ToolAnswer',
      `\`${name}\` was answered something that its \`out\` does not allow, at ${wrong}`,
    )
  return { ok: true, value }
}
