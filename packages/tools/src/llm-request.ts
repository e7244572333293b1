/** What an agent asks a model, parsed: messages, and tools that the model may propose to call. */
import type { BadArguments } from './tool.ts'

type Message =
  | { readonly role: 'system' | 'user'; readonly content: string }
  | {
      readonly role: 'assistant'
      readonly content: string
      readonly calls: readonly { readonly id: string; readonly name: string; readonly args: unknown }[]
    }
  | { readonly role: 'tool'; readonly content: string; readonly id: string; readonly name: string }

export interface ChatArgs {
  readonly model: string
  readonly messages: readonly Message[]
  readonly tools: readonly {
    readonly name: string
    readonly description?: string
    readonly parameters: object
  }[]
  readonly maxTokens?: number
  readonly temperature?: number
}

const FIELDS = new Set(['model', 'messages', 'tools', 'maxTokens', 'temperature'])
const MAX_MESSAGES = 2000
const MAX_TOOLS = 512

export function parseChat(given: unknown): ChatArgs | BadArguments {
  if (!isObject(given)) return { bad: 'no object of arguments' }
  const unknown = Object.keys(given).find((name) => !FIELDS.has(name))
  if (unknown !== undefined) return { bad: `an unknown argument \`${unknown}\`` }
  const { model, messages, tools = [], maxTokens, temperature } = given
  if (typeof model !== 'string') return { bad: 'no `model`' }
  if (!Array.isArray(messages) || messages.length === 0 || messages.length > MAX_MESSAGES)
    return { bad: `no \`messages\`, or more than ${MAX_MESSAGES}` }
  if (!Array.isArray(tools) || tools.length > MAX_TOOLS)
    return { bad: `\`tools\` that are no list of at most ${MAX_TOOLS}` }
  if (maxTokens !== undefined && !(Number.isSafeInteger(maxTokens) && (maxTokens as number) > 0))
    return { bad: '`maxTokens` that is no whole number above 0' }
  if (temperature !== undefined && !Number.isFinite(temperature))
    return { bad: '`temperature` that is no number' }
  const parsed = messages.map(messageOf)
  const wrong = parsed.indexOf(undefined)
  if (wrong >= 0) return { bad: `\`messages[${wrong}]\`, which is no message` }
  const offered = tools.map(toolOf)
  const odd = offered.indexOf(undefined)
  if (odd >= 0) return { bad: `\`tools[${odd}]\`, which is no tool` }
  return {
    model,
    messages: parsed as Message[],
    tools: offered as ChatArgs['tools'],
    ...(maxTokens !== undefined && { maxTokens: maxTokens as number }),
    ...(temperature !== undefined && { temperature: temperature as number }),
  }
}

function messageOf(given: unknown): Message | undefined {
  if (!isObject(given) || typeof given.content !== 'string') return undefined
  const { role, content, calls = [], id, name } = given
  if (role === 'system' || role === 'user') return { role, content }
  if (role === 'tool')
    return typeof id === 'string' && typeof name === 'string' ? { role, content, id, name } : undefined
  if (role !== 'assistant' || !Array.isArray(calls)) return undefined
  const known = calls.every(
    (call) => isObject(call) && typeof call.id === 'string' && typeof call.name === 'string',
  )
  return known ? { role, content, calls } : undefined
}

function toolOf(given: unknown): ChatArgs['tools'][number] | undefined {
  if (!isObject(given) || typeof given.name !== 'string') return undefined
  const { name, description, parameters = { type: 'object', properties: {} } } = given
  if (!isObject(parameters) || (description !== undefined && typeof description !== 'string'))
    return undefined
  return { name, parameters, ...(description !== undefined && { description }) }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
