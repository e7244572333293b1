/**
 * `llm.chat`: one answer of a declared model. What it may write and cost is reserved before, and what it took
 * is settled after; where its data goes is the sink `model:NAME`. The model proposes calls of tools; nothing
 * here performs one.
 */
import type { LanguageModelV4CallOptions, LanguageModelV4Prompt } from '@ai-sdk/provider'
import type { GrantDefaults } from '@cardinal/cards'
import { MaskStream, type OpenSecret } from '@cardinal/secrets'
import type { EgressDoor } from './egress-door.ts'
import { openModel, placeOfModel } from './llm-providers.ts'
import { type ChatArgs, parseChat } from './llm-request.ts'
import { costOf, type ModelDeclaration } from './model-declaration.ts'
import { placeOfSecret } from './secret-slot.ts'
import type { Attempt, Receipt, Tool, Used, WireError } from './tool.ts'
import { noteUpstream } from './upstream.ts'

/** What a model answers, as a program sees it. */
interface ChatAnswer {
  readonly text: string
  /** Tools that it would have called. */
  readonly calls: readonly { readonly id: string; readonly name: string; readonly args: unknown }[]
  readonly finish: string
  readonly usage: { readonly input: number; readonly output: number }
}

/** A model that is a function: for tests and examples. */
export type ScriptedModel = (chat: ChatArgs) => Pick<ChatAnswer, 'text'> & Partial<ChatAnswer>

export interface ChatOptions {
  readonly door: EgressDoor
  readonly scripted: (name: string) => ScriptedModel | undefined
}

/** A key where a provider wants one and the model has none. */
const NO_KEY = 'none'

/** What a grant for `llm.chat` fills in. One without `secret` is for models that have no key. */
export const CHAT_DEFAULTS: GrantDefaults = { required: ['resource'], args: { maxTokens: '*' } }

export function llmChat(models: readonly ModelDeclaration[], options: ChatOptions): Tool {
  return {
    name: 'llm.chat',
    about: `one answer of a model: ${models.map(({ name }) => name).join(', ')}`,
    defaults: CHAT_DEFAULTS,
    ...SCHEMAS,
    effect: 'read',
    sinks: ['{model}'],
    yields: [...new Set(models.flatMap((model) => model.yields ?? ['untrusted']))],
    translate: (args, { key }) => {
      const chat = parseChat(args)
      if ('bad' in chat) return chat
      const model = models.find(({ name }) => name === chat.model)
      if (!model) return { bad: 'a model that is not declared', code: 'NoSuchModel' }
      const maxTokens = chat.maxTokens ?? model.maxTokens
      if (maxTokens > model.maxTokens)
        return { bad: `\`maxTokens\` above ${model.maxTokens}`, code: 'NoSuchModel' }
      // No token is less than a byte of what is sent.
      const input = Buffer.byteLength(JSON.stringify([chat.messages, chat.tools]))
      const spend = costOf(model.price, input, maxTokens)
      const ref = model.secret?.ref.replaceAll('{key}', key)
      return {
        request: {
          tool: ['llm', 'chat'],
          resource: [model.name],
          args: new Map([['maxTokens', maxTokens]]),
          ...(ref !== undefined && { secret: placeOfSecret(ref) }),
        },
        cost: { calls: 1, bytesOut: input, tokens: input + maxTokens, ...(spend && { spend }) },
        // It changes nothing; what it costs is reserved once, however often a crash has it repeated.
        effectClass: 'read',
        plan: { chat: { ...chat, maxTokens }, model, ref } satisfies Plan,
      }
    },
    perform: (plan, attempt) => perform(plan as Plan, attempt, options),
  }
}

const TEXT = { type: 'string' }
const SCHEMAS = {
  input: {
    type: 'object',
    properties: {
      model: TEXT,
      messages: { type: 'array', items: { type: 'object' } },
      tools: { type: 'array', items: { type: 'object' } },
      maxTokens: { type: 'integer' },
      temperature: { type: 'number' },
    },
    required: ['model', 'messages'],
  },
  output: {
    type: 'object',
    properties: {
      text: TEXT,
      calls: {
        type: 'array',
        items: {
          type: 'object',
          properties: { id: TEXT, name: TEXT, args: {} },
          required: ['id', 'name', 'args'],
        },
      },
      finish: TEXT,
      usage: {
        type: 'object',
        properties: { input: { type: 'number' }, output: { type: 'number' } },
        required: ['input', 'output'],
      },
    },
    required: ['text', 'calls', 'finish', 'usage'],
  },
}

interface Plan {
  readonly chat: ChatArgs & { readonly maxTokens: number }
  readonly model: ModelDeclaration
  readonly ref: string | undefined
}

async function perform({ chat, model, ref }: Plan, attempt: Attempt, options: ChatOptions): Promise<Receipt> {
  if (model.provider === 'scripted') return scripted(chat, model, attempt, options)
  const secret = ref === undefined ? undefined : await attempt.secret(ref)
  if (secret && 'class' in secret) return { ok: false, error: secret }
  if (secret && !secret.masker)
    return failed(
      'Refused',
      'SecretTooShort',
      `secret \`${secret.ref}\` is too short to be found in an answer`,
    )
  if (secret?.masker?.maskText(JSON.stringify(chat)) !== undefined)
    return failed('Refused', 'SecretByValue', `secret \`${secret.ref}\` stands in the arguments`)
  const place = placeOfModel(model)
  if (place === undefined)
    return failed('Refused', 'NoSuchModel', `nobody has said where \`${model.name}\` is reached`)
  const fetch = options.door.fetchTo(new URL(place).origin, () => ({}))
  const opened = await openModel(model, secret?.value.toString() ?? NO_KEY, fetch)
  await attempt.started()
  const signal = AbortSignal.any([attempt.signal, AbortSignal.timeout(model.timeoutMs)])
  try {
    const { stream } = await opened.doStream({ ...callOf(chat), abortSignal: signal })
    const called = (id: unknown) => noteUpstream(attempt, id, secret?.masker ? [secret.masker] : [])
    return settled(await gather(stream, watching(attempt, secret), called), model, secret, attempt)
  } catch (error) {
    return failure(error, attempt, model)
  }
}

async function scripted(
  chat: ChatArgs,
  model: ModelDeclaration,
  attempt: Attempt,
  options: ChatOptions,
): Promise<Receipt> {
  const script = options.scripted(model.model)
  if (!script) return failed('Unavailable', 'NoServer', `this node has no scripted model \`${model.model}\``)
  await attempt.started()
  const answer = script(chat)
  attempt.progress?.(answer.text)
  const whole = { calls: [], finish: 'stop', usage: { input: 1, output: 1 }, ...answer }
  return settled(whole, model, undefined, attempt)
}

function callOf({ messages, tools, maxTokens, temperature }: Plan['chat']): LanguageModelV4CallOptions {
  return {
    prompt: messages.map(promptOf),
    maxOutputTokens: maxTokens,
    ...(temperature !== undefined && { temperature }),
    ...(tools.length > 0 && {
      tools: tools.map(({ name, description, parameters }) => ({
        type: 'function' as const,
        name,
        ...(description !== undefined && { description }),
        inputSchema: parameters as never,
      })),
    }),
  }
}

function promptOf(message: ChatArgs['messages'][number]): LanguageModelV4Prompt[number] {
  const text = { type: 'text' as const, text: message.content }
  switch (message.role) {
    case 'system':
      return { role: 'system', content: message.content }
    case 'user':
      return { role: 'user', content: [text] }
    case 'assistant':
      return {
        role: 'assistant',
        content: [
          ...(message.content === '' ? [] : [text]),
          ...message.calls.map(({ id, name, args }) => ({
            type: 'tool-call' as const,
            toolCallId: id,
            toolName: name,
            input: args,
          })),
        ],
      }
    case 'tool':
      return {
        role: 'tool',
        content: [
          {
            type: 'tool-result',
            toolCallId: message.id,
            toolName: message.name,
            output: { type: 'text', value: message.content },
          },
        ],
      }
  }
}

type Part = {
  readonly type: string
  readonly id?: unknown
  readonly delta?: string
  readonly toolCallId?: string
  readonly toolName?: string
  readonly input?: string
  readonly finishReason?: unknown
  readonly usage?: {
    readonly inputTokens?: { readonly total?: number }
    readonly outputTokens?: { readonly total?: number }
  }
  readonly error?: unknown
}

/** More than a model may write: who answers on is cut off. */
const MAX_ANSWER = 4 << 20

/** Whoever watches sees nothing of the secret either, however the answer is cut into pieces. */
function watching(
  { progress }: Attempt,
  secret: OpenSecret | undefined,
): (piece: string, last: boolean) => void {
  if (!progress) return () => {}
  const masking = secret?.masker && new MaskStream(secret.masker)
  return (piece, last) => {
    const shown = masking ? masking.push(piece) + (last ? masking.end() : '') : piece
    if (shown !== '') progress(shown)
  }
}

async function gather(
  stream: ReadableStream<unknown>,
  show: (piece: string, last: boolean) => void,
  called: (id: unknown) => void,
): Promise<ChatAnswer> {
  let text = ''
  let size = 0
  let finish = 'unknown'
  let usage = { input: 0, output: 0 }
  const calls: ChatAnswer['calls'][number][] = []
  for await (const part of stream as unknown as AsyncIterable<Part>) {
    size += (part.delta ?? part.input ?? '').length
    if (size > MAX_ANSWER) throw Object.assign(new Error('an answer without end'), { code: 'AnswerTooLarge' })
    if (part.type === 'error') throw part.error
    if (part.type === 'response-metadata') called(part.id)
    if (part.type === 'text-delta') {
      text += part.delta ?? ''
      show(part.delta ?? '', false)
    }
    if (part.type === 'tool-call')
      calls.push({ id: part.toolCallId ?? '', name: part.toolName ?? '', args: argsOf(part.input ?? '') })
    if (part.type === 'finish') {
      const reason = part.finishReason as { unified?: string } | string | undefined
      finish = typeof reason === 'string' ? reason : (reason?.unified ?? 'unknown')
      usage = { input: part.usage?.inputTokens?.total ?? 0, output: part.usage?.outputTokens?.total ?? 0 }
    }
  }
  show('', true)
  return { text, calls, finish, usage }
}

/** What a model writes as arguments may be no JSON: the program sees what it was. */
function argsOf(text: string): unknown {
  try {
    return JSON.parse(text === '' ? '{}' : text)
  } catch {
    return text
  }
}

function settled(
  answer: ChatAnswer,
  model: ModelDeclaration,
  secret: OpenSecret | undefined,
  attempt: Attempt,
): Receipt {
  const { input, output } = answer.usage
  const said = [input, output].every((n) => Number.isSafeInteger(n) && n >= 0)
  const spend = said ? costOf(model.price, input, output) : undefined
  // Who says nothing of what it took has taken all that it might.
  const used: Used | undefined =
    said && input + output > 0 ? { tokens: input + output, ...(spend && { spend }) } : undefined
  const masked = secret?.masker?.maskText(JSON.stringify(answer))
  if (masked !== undefined) attempt.masked(secret as OpenSecret)
  try {
    return { ok: true, value: masked === undefined ? answer : JSON.parse(masked), ...(used && { used }) }
  } catch {
    const scan = 'the answer holds the secret in a form that cannot be taken out of it'
    return { ...failed('Unavailable', 'SecretScan', scan), spent: true } as Receipt
  }
}

function failure(error: unknown, attempt: Attempt, model: ModelDeclaration): Receipt {
  // Whoever answers goes on, and is paid for it, when nobody listens any more.
  if (attempt.signal.aborted)
    return {
      ok: false,
      error: { class: 'Cancelled', code: 'Cancelled', message: 'cancelled before it was answered' },
      spent: true,
    }
  const { statusCode, code } = error as { statusCode?: unknown; code?: unknown }
  const status = typeof statusCode === 'number' ? statusCode : undefined
  const what = status === undefined ? String(code ?? (error as Error)?.name ?? 'error') : `status ${status}`
  const refused = status !== undefined && status >= 400 && status < 500 && status !== 429
  return {
    ok: false,
    error: {
      class: 'Unavailable',
      code: refused ? 'ToolRefused' : 'ToolFailed',
      message: `\`${model.name}\` gave no answer (${what.slice(0, 64)})`,
      ...(!refused && { retryAfterMs: 1000 }),
    },
    ...(status === undefined && { spent: true as const }),
  }
}

function failed(cls: WireError['class'], code: string, message: string): Receipt {
  return { ok: false, error: { class: cls, code, message, ...(cls === 'Refused' && { by: 'middleware' }) } }
}
