/**
 * What may be said of a tool: to a program that may call it, to whoever writes types, and as help in the shape
 * that models and people have read ten thousand times.
 */
import type { EffectClass, Tool } from './tool.ts'

export interface ToolInfo {
  readonly name: string
  readonly about: string
  /** How it may be repeated; left out where that depends on the arguments. */
  readonly effect?: EffectClass
  /** JSON Schemas. */
  readonly in: object
  readonly out?: object
  readonly sinks: readonly string[]
  readonly yields: readonly string[]
  readonly help: string
}

const ANY = { type: 'object' }

export function infoOf({
  name,
  about,
  input = ANY,
  output,
  effect,
  sinks,
  yields,
  defaults,
}: Tool): ToolInfo {
  const shared = {
    name,
    about,
    ...(effect && { effect }),
    in: input,
    ...(output && { out: output }),
    sinks,
    yields,
  }
  return { ...shared, help: helpOf(shared, defaults.irreversible === true) }
}

interface Property {
  readonly type?: unknown
  readonly description?: unknown
  readonly enum?: readonly unknown[]
  readonly default?: unknown
  readonly anyOf?: readonly Property[]
  readonly minimum?: unknown
  readonly maximum?: unknown
  readonly maxLength?: unknown
}

function helpOf({ name, about, effect, in: schema, sinks }: Omit<ToolInfo, 'help'>, asks: boolean): string {
  const { properties = {}, required = [] } = schema as {
    properties?: Record<string, Property>
    required?: readonly string[]
  }
  const flags = Object.entries(properties).map(([arg, property]) => {
    const flag = `--${arg} ${kindOf(property)}`
    return { arg, flag, usage: required.includes(arg) ? flag : `[${flag}]`, says: saysOf(property) }
  })
  const width = Math.max(0, ...flags.map(({ flag }) => flag.length))
  const lines = [
    `${name}: ${plain(about)}`,
    '',
    `usage: ${[name, ...flags.map(({ usage }) => usage)].join(' ')}`,
    ...(flags.length > 0 ? [''] : []),
    ...flags.map(({ flag, says }) => `  ${flag.padEnd(width)}  ${says}`.trimEnd()),
    '',
    `effect: ${effect ?? 'by its arguments'}${asks ? '; asks a person unless its grant says otherwise' : ''}`,
    `arguments go to: ${sinks.length > 0 ? sinks.join(', ') : 'nowhere else'}`,
  ]
  return lines.join('\n')
}

function kindOf({ type, enum: list, anyOf }: Property): string {
  if (list)
    return list
      .map((one) => plain(String(one)))
      .join('|')
      .slice(0, 80)
  const kinds = [type].flat().filter((one) => typeof one === 'string' && one !== 'null')
  if (kinds.length > 0) return kinds.join('|').toUpperCase()
  return anyOf?.[0] ? kindOf(anyOf[0]) : 'JSON'
}

function saysOf({ description, default: filled, minimum, maximum, maxLength }: Property): string {
  const parts = [
    ...(typeof description === 'string' ? [plain(description)] : []),
    ...(minimum === undefined ? [] : [`at least ${String(minimum)}`]),
    ...(maximum === undefined ? [] : [`at most ${String(maximum)}`]),
    ...(maxLength === undefined ? [] : [`at most ${String(maxLength)} characters`]),
    ...(filled === undefined || filled === null ? [] : [`${plain(JSON.stringify(filled))} if left out`]),
  ]
  return parts.join('; ')
}

/** Descriptions are anybody's: one line, and nothing that moves a cursor. */
function plain(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ')
    .replace(/ +/g, ' ')
    .trim()
    .slice(0, 500)
}

/** TypeScript that tells a program the types of these tools. */
export function typesOf(tools: readonly ToolInfo[]): string {
  const members = tools.map(
    (tool) =>
      `    /** ${plain(tool.about).replaceAll('*/', '* /')} */\n    ${JSON.stringify(tool.name)}: { in: ${typeOf(tool.in)}; out: ${tool.out ? typeOf(tool.out) : 'any'} }\n`,
  )
  return `// Made by \`cardinal types\`.\nimport '@cardinal/sdk'\n\ndeclare module '@cardinal/sdk' {\n  interface Tools {\n${members.join('')}  }\n}\n`
}

const MAX_DEPTH = 16

function typeOf(given: unknown, depth = 0): string {
  if (typeof given !== 'object' || given === null || depth > MAX_DEPTH) return 'any'
  const {
    type,
    enum: list,
    const: only,
    properties,
    required = [],
    items,
    anyOf,
    additionalProperties,
  } = given as Record<string, unknown>
  if (only !== undefined) return JSON.stringify(only)
  if (Array.isArray(list)) return list.map((one) => JSON.stringify(one)).join(' | ')
  if (Array.isArray(anyOf)) return anyOf.map((one) => typeOf(one, depth + 1)).join(' | ')
  const kinds = [type].flat().map((kind) => {
    switch (kind) {
      case 'string':
      case 'boolean':
      case 'null':
        return kind
      case 'number':
      case 'integer':
        return 'number'
      case 'array':
        return `(${typeOf(items, depth + 1)})[]`
      case 'object':
        return objectOf(properties, required as readonly string[], additionalProperties, depth)
      default:
        return 'any'
    }
  })
  return [...new Set(kinds)].join(' | ')
}

function objectOf(properties: unknown, required: readonly string[], more: unknown, depth: number): string {
  if (typeof properties !== 'object' || properties === null || Object.keys(properties).length === 0)
    return more === false || properties !== undefined ? '{}' : '{ [k: string]: any }'
  const fields = Object.entries(properties).map(
    ([name, one]) =>
      `${JSON.stringify(name)}${required.includes(name) ? '' : '?'}: ${typeOf(one, depth + 1)}`,
  )
  return `{ ${fields.join('; ')} }`
}
