/**
 * Where in a request a secret stands. The agent names a handle and a slot; the bytes come in at the last
 * step, after everything was decided, and are looked for in whatever comes back.
 */
import type { OpenSecret } from '@cardinal/secrets'

/** One handle of an agent type: which secret, and what it may be used for. */
export type SecretBinding = FetchBinding | { readonly ref: string; readonly tool: 'secret.reveal' }

/** The only place where a secret may stand. */
export interface FetchBinding {
  /** The name of the secret; `{key}` stands for the key of the agent. */
  readonly ref: string
  readonly tool: 'http.fetch'
  /** As it stands in URLs. */
  readonly host: string
  /** `header.NAME`, `query.NAME`, or `body.NAME`: a field of a JSON object or of a form. */
  readonly slot: string
  /** How it is written there: as it is, behind `Bearer `, or as base64 behind `Basic `. */
  readonly as?: 'plain' | 'bearer' | 'basic' | undefined
  /** `status`: of the answer the agent sees the status alone. For secrets too short to be found in an answer. */
  readonly answer?: 'status' | undefined
}

interface Slot {
  readonly part: 'header' | 'query' | 'body'
  readonly name: string
}

/** What a request takes a secret in by. */
export interface Injection {
  readonly binding: FetchBinding
  /** The name of the secret, with the agent's key in it. */
  readonly ref: string
}

/** What leaves, before and after. */
export interface Outgoing {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer | null
}

const SLOT = /^(header|query|body)\.([A-Za-z0-9_.-]{1,128})$/
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

export function parseSlot(text: string): Slot | undefined {
  const [, part, name = ''] = SLOT.exec(text) ?? []
  if (part === undefined) return undefined
  return { part: part as Slot['part'], name: part === 'header' ? name.toLowerCase() : name }
}

/** The name of a secret as segments of a grant. */
export function placeOfSecret(ref: string): readonly string[] {
  return ref.split('/')
}

/** The same request with the secret in its slot, or why it cannot stand there. */
export function inject(
  outgoing: Outgoing,
  { binding }: Injection,
  secret: OpenSecret,
): Outgoing | { readonly bad: string } {
  const slot = parseSlot(binding.slot) as Slot
  const text = rendered(secret, binding)
  if (slot.part === 'header') {
    // Bytes that are no header would be another request.
    if (!HEADER_VALUE.test(text)) return { bad: 'holds bytes that no header may have' }
    return { ...outgoing, headers: { ...outgoing.headers, [slot.name]: text } }
  }
  if (slot.part === 'query') {
    const url = new URL(outgoing.url)
    url.searchParams.set(slot.name, text)
    return { ...outgoing, url: url.href }
  }
  const body = bodyWith(outgoing, slot.name, text)
  return body
    ? { ...outgoing, body }
    : { bad: 'has its place in a field of JSON or a form, and the body is neither' }
}

function rendered({ value }: OpenSecret, { as = 'plain', slot }: FetchBinding): string {
  if (as === 'bearer') return `Bearer ${value.toString('latin1')}`
  if (as === 'basic') return `Basic ${value.toString('base64')}`
  return value.toString(slot.startsWith('header.') ? 'latin1' : 'utf8')
}

/** Whether a request has something in the slot already: who fills it twice means to confuse somebody. */
export function isTaken(text: string, { url, headers, body }: Outgoing): boolean {
  const slot = parseSlot(text)
  if (!slot) return false
  if (slot.part === 'header') return Object.hasOwn(headers, slot.name)
  if (slot.part === 'query') return new URL(url).searchParams.has(slot.name)
  const fields = fieldsOf(headers, body)
  return fields instanceof URLSearchParams
    ? fields.has(slot.name)
    : fields !== undefined && Object.hasOwn(fields, slot.name)
}

function bodyWith({ headers, body }: Outgoing, name: string, text: string): Buffer | undefined {
  const fields = fieldsOf(headers, body)
  if (fields === undefined) return undefined
  if (fields instanceof URLSearchParams) {
    fields.set(name, text)
    return Buffer.from(fields.toString())
  }
  // Put in as text: what stands there is sent as it was decided, numbers that no program keeps included.
  const before = (body?.toString() ?? '').trimEnd().slice(0, -1)
  const comma = Object.keys(fields).length > 0 ? ',' : ''
  return Buffer.from(`${before}${comma}${JSON.stringify(name)}:${JSON.stringify(text)}}`)
}

function fieldsOf(
  headers: Outgoing['headers'],
  body: Buffer | null,
): URLSearchParams | Record<string, unknown> | undefined {
  const type = headers['content-type'] ?? ''
  const text = body?.toString() ?? ''
  if (/^application\/x-www-form-urlencoded\b/i.test(type)) return new URLSearchParams(text)
  if (!/^application\/json\b/i.test(type)) return undefined
  try {
    const given: unknown = JSON.parse(text)
    if (typeof given !== 'object' || given === null || Array.isArray(given)) return undefined
    return given as Record<string, unknown>
  } catch {
    return undefined
  }
}
