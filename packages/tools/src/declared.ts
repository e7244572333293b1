/**
 * Tools that a manifest declares, of kind `http`: typed arguments, and the one request that they become.
 *
 * The agent never frames the request: it gives arguments, cards bound them, and the declaration says
 * where each goes. The request leaves by the door of `http.fetch`, with the same checks of addresses;
 * it follows no redirect.
 */
import { maskerOf } from '@cardinal/secrets'
import { wrongAnswer } from './answer-schema.ts'
import type { HttpDeclaration } from './declaration.ts'
import { askedOf, saidBy } from './declared-parts.ts'
import { type HttpPlan, translateHttp } from './http-request.ts'
import { type FetchBinding, placeOfSecret } from './secret-slot.ts'
import type { Attempt, Receipt, Tool, ToolSettings, Translated, WireError } from './tool.ts'

const PLACEHOLDER = /\{([^{}]*)\}/g

/** The arguments that a template names. */
export function placeholders(template: string): string[] {
  return [...template.matchAll(PLACEHOLDER)].map(([, name]) => name as string)
}

/** Every template of a declaration, with where it stands. */
export function templatesOf({ http }: HttpDeclaration): [where: string, template: string][] {
  const named = (part: 'query' | 'headers') =>
    Object.entries(http[part] ?? {}).map(([name, text]): [string, string] => [`${part}.${name}`, text])
  return [['url', http.url], ...named('query'), ...named('headers')]
}

/** A declared tool; `http` performs what it becomes. */
export function declaredTool(declaration: HttpDeclaration, http: Pick<Tool, 'perform'>): Tool {
  return {
    // Whatever else its service may do with them: the arguments go to that host.
    ...saidBy(declaration, [...new Set([hostOf(declaration), ...(declaration.sinks ?? [])])]),
    translate: (args, settings) => translate(declaration, args, settings),
    perform: async (plan, attempt) => {
      const receipt = await http.perform((plan as DeclaredPlan).http, attempt)
      return capturing(declaration, plan as DeclaredPlan, answerOf(declaration, receipt), attempt)
    },
  }
}

/** The host that a declared tool talks to, which its declaration fixes. */
function hostOf({ http }: HttpDeclaration): string {
  return new URL(http.url.replaceAll(PLACEHOLDER, 'x')).hostname
}

/** A request, and under which names what it is answered goes into the vault. */
interface DeclaredPlan {
  readonly http: HttpPlan
  readonly captures: readonly (readonly [field: string, ref: string])[]
}

function translate(
  declaration: HttpDeclaration,
  given: unknown,
  settings: ToolSettings,
): Translated | { readonly bad: string } {
  const asked = askedOf(declaration, given)
  if ('bad' in asked) return asked
  const { args, request, spend } = asked
  const http = planOf(declaration, args, settings)
  if ('bad' in http) return http
  const cost = { calls: 1, bytesOut: http.body?.length ?? 0, ...spend }
  const secret = http.injection && { secret: placeOfSecret(http.injection.ref) }
  const captures = Object.entries(declaration.capture ?? {}).map(
    ([field, ref]) => [field, ref.replaceAll('{key}', settings.key)] as const,
  )
  const plan: DeclaredPlan = { http, captures }
  return { request: { ...request, ...secret }, cost, effectClass: declaration.effect, plan }
}

function planOf(
  declaration: HttpDeclaration,
  args: Map<string, unknown>,
  { key }: ToolSettings,
): HttpPlan | { bad: string } {
  const { http, effect, idempotencyHeader, secret } = declaration
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
    if (missing) continue
    const list = listIn(template, args)
    // Without its list it would be another request.
    if (list?.length === 0 && declaration.in.required?.includes(placeholders(template)[0] as string))
      return { bad: `\`${name}\`, which is empty` }
    if (list) for (const one of list) url.searchParams.append(name, String(one))
    else url.searchParams.set(name, value)
  }
  const headers = Object.entries(http.headers ?? {}).map(([name, text]) => [name, fill(text, (t) => t)])
  headers.push(['accept', 'application/json'])
  const rest = Object.fromEntries([...args].filter(([name]) => !used.has(name)))
  const body = http.body === 'json' ? { text: JSON.stringify(rest) } : {}
  if (http.body === 'json') headers.push(['content-type', 'application/json'])
  // What `http.fetch` would refuse to send, nobody sends: paths that could be read in two ways, headers that break.
  const { method } = http
  const own: FetchBinding | undefined = secret && { ...secret, tool: 'http.fetch', host: hostOf(declaration) }
  const sent = translateHttp(
    {
      method,
      url: url.href,
      headers,
      redirect: 'error',
      ...body,
      ...(secret && { secrets: { [secret.slot]: 'own' } }),
    },
    { idempotency: [], secrets: own ? { own } : {}, key, repeats: true },
  )
  if ('bad' in sent) return sent
  const keyed = effect === 'idempotent' && idempotencyHeader
  return { ...(sent.plan as HttpPlan), ...(keyed && { idempotencyHeader }) }
}

/** The values of a list that a part of the query is: it stands there once for each. */
function listIn(template: string, args: ReadonlyMap<string, unknown>): readonly unknown[] | undefined {
  const [arg] = placeholders(template)
  const given = arg === undefined || template !== `{${arg}}` ? undefined : args.get(arg)
  return Array.isArray(given) ? given : undefined
}

/**
 * Puts fields of an answer into the vault and shows where they are in their place. If that fails, nothing of
 * the answer is shown: it holds what nobody may see.
 */
async function capturing(
  { effect, name }: HttpDeclaration,
  { captures }: DeclaredPlan,
  receipt: Receipt,
  attempt: Attempt,
): Promise<Receipt> {
  if (captures.length === 0 || !receipt.ok) return receipt
  const withheld = (message: string): Receipt => ({
    ok: false,
    error: { class: effect === 'read' ? 'Unavailable' : 'Withheld', code: 'NotCaptured', message },
  })
  const { value } = receipt
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return withheld(`\`${name}\` was answered something else than the secrets that it captures`)
  let shown: Record<string, unknown> = { ...value }
  for (const [field, ref] of captures) {
    const found = Object.hasOwn(shown, field) ? shown[field] : undefined
    if (found === undefined || found === null) continue
    if (typeof found !== 'string') return withheld(`\`${field}\` of the answer is no text`)
    const failed = await attempt.capture(ref, found)
    if (failed) return withheld(`\`${field}\` of the answer could not be kept: ${failed.code}`)
    delete shown[field]
    // The same text may stand elsewhere in it.
    const rest = JSON.stringify(shown)
    const masked = maskerOf(Buffer.from(found), ref).maskText(rest)
    if (masked !== undefined) {
      try {
        shown = JSON.parse(masked)
      } catch {
        return withheld(`\`${field}\` stands in the answer in a form that cannot be taken out of it`)
      }
    }
    shown[field] = { $secret: ref }
  }
  return { ok: true, value: shown }
}

interface Answer {
  readonly status: number
  readonly text?: string
  readonly base64?: string
}

/** What the agent sees of an answer: its JSON. A refusal by the other side did nothing; its failure may have. */
function answerOf({ effect, name, out }: HttpDeclaration, receipt: Receipt): Receipt {
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
