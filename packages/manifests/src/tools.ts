/** A tool as a manifest declares it: what the shape alone cannot say is checked here. */
import { codec } from '@cardinal/cards'
import { isSecretName } from '@cardinal/secrets'
import {
  type AnswerSchema,
  type CliDeclaration,
  type ComponentRef,
  checkArgs,
  type HttpDeclaration,
  isNested,
  isOwnHeader,
  MAX_ANSWER_DEPTH,
  MAX_OUTS,
  placeholders,
  type ToolDeclaration,
  templatesOf,
} from '@cardinal/tools'
import type { ToolDocument } from './document.ts'
import { durationMs } from './duration.ts'
import { checkEgress } from './egress.ts'
import { ToolProblem } from './problem.ts'
import { wrongSecret } from './secrets.ts'

/** Names that the kernel speaks for. */
const RESERVED = /^(agent|cards|cardinal|http|llm|secret)\./
/** As cards write it. */
const LABEL = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/

/** The digest of the component that a document names, or what is wrong with it. */
export type DigestOf = (component: string) => string

export function declarationOf({ metadata, spec }: ToolDocument, digestOf: DigestOf): ToolDeclaration {
  const shared = {
    name: metadata.name,
    about: spec.about,
    in: { type: 'object' as const, properties: propertiesOf(spec), required: spec.in.required },
    out: spec.out,
    effect: spec.effect,
  }
  const rest = { dimensions: spec.dimensions, spend: spec.spend, sinks: spec.sinks, yields: spec.yields }
  const declaration: ToolDeclaration = spec.cli
    ? { ...shared, ...cliOf(spec.cli), ...rest }
    : spec.host
      ? { ...shared, ...hostOf(spec.host), ...rest }
      : spec.wasm
        ? { ...shared, wasm: componentOf(spec.wasm, digestOf), ...rest }
        : { ...shared, ...httpOf(spec), ...rest }
  checkDepth(spec.out, ['out'])
  checkNames(declaration)
  if (spec.capture && !declaration.http)
    throw new ToolProblem(['capture'], 'only answers over HTTP are captured')
  if (declaration.cli) checkCommand(declaration)
  else if (declaration.wasm) return declaration
  else if (declaration.host) checkSecretName(declaration.secret?.ref, ['host', 'secret', 'ref'])
  else {
    checkTemplates(declaration)
    checkSecrets(declaration)
    checkRequest(declaration)
  }
  return declaration
}

function httpOf({ http: given, capture }: ToolDocument['spec']) {
  const { idempotencyHeader, secret, ...http } = given as NonNullable<ToolDocument['spec']['http']>
  // In this order since tools are declared: what is on record is compared as text.
  return { idempotencyHeader, http, ...(secret && { secret }), ...(capture && { capture }) }
}

const TIMEOUT_MS = 30_000
const MEMORY_BYTES = 1 << 30

function cliOf({ secret, timeout, memory, ...cli }: NonNullable<ToolDocument['spec']['cli']>) {
  return {
    cli: {
      ...cli,
      timeoutMs: timeoutOf(timeout, 'cli'),
      memoryBytes: memory === undefined ? MEMORY_BYTES : memory * (1 << 20),
    },
    ...(secret && { secret }),
  }
}

const MAX_TIMEOUT_MS = 3_600_000

function timeoutOf(timeout: string | undefined, kind: 'cli' | 'host'): number {
  const ms = timeout === undefined ? TIMEOUT_MS : durationMs(timeout)
  if (ms > MAX_TIMEOUT_MS) throw new ToolProblem([kind, 'timeout'], 'one call takes an hour at most')
  return ms
}

const FUEL = 1_000_000_000
const COMPONENT_MIB = 64

export function componentOf(
  { component, fuel, memory }: NonNullable<ToolDocument['spec']['wasm']>,
  digestOf: DigestOf,
): ComponentRef {
  const memoryBytes = (memory ?? COMPONENT_MIB) * (1 << 20)
  return { digest: digestOf(component), fuel: fuel ?? FUEL, memoryBytes }
}

function hostOf({ function: named, secret, timeout }: NonNullable<ToolDocument['spec']['host']>) {
  const timeoutMs = timeoutOf(timeout, 'host')
  return { host: { function: named, timeoutMs }, ...(secret && { secret }) }
}

const SHELLS =
  /^(.*\/)?(a|ba|da|k|z|c|tc|fi)?sh$|^(.*\/)?(busybox|env|xargs|find|sudo|su|nohup|setsid|timeout|nice)$/

/** Words of the command are arguments or stand there; none can be read as a flag that nobody wrote. */
function checkCommand({ cli, in: schema, secret }: CliDeclaration): void {
  if (SHELLS.test(cli.program))
    throw new ToolProblem(['cli', 'program'], `\`${cli.program}\` runs whatever it is told to`)
  const known = (name: string, at: readonly (string | number)[]) => {
    const property = Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined
    if (!property) throw new ToolProblem(at, `there is no argument \`${name}\``)
    if (isNested(property))
      throw new ToolProblem(at, `\`${name}\` is no text: an ${property.type} is no word`)
  }
  let behind = cli.flagsEnd === 'none'
  const names = new Set<string>()
  const outs: string[] = []
  for (const [i, word] of cli.args.entries()) {
    const at = ['cli', 'args', i]
    if (word === '--') behind = true
    if (typeof word === 'string') continue
    if ('positional' in word) {
      known(word.positional, at)
      if (!behind)
        throw new ToolProblem(
          at,
          'a positional argument stands behind a word `--`; write `flagsEnd: none` where the program does not know that',
        )
    } else if ('flag' in word) known(word.arg, at)
    else if ('out' in word) outs.push(word.out)
    else {
      known(word.file, at)
      if (names.has(word.named)) throw new ToolProblem(at, `\`${word.named}\` is there twice`)
      names.add(word.named)
    }
  }
  if (cli.stdin !== undefined) known(cli.stdin, ['cli', 'stdin'])
  if (new Set(outs).size !== outs.length) throw new ToolProblem(['cli', 'args'], 'a file comes out twice')
  if (outs.length > MAX_OUTS)
    throw new ToolProblem(['cli', 'args'], `more than ${MAX_OUTS} files that come out`)
  if (outs.length > 0 && cli.answer === 'json')
    throw new ToolProblem(['cli', 'answer'], 'files come out beside code and output: leave `answer` out')
  checkEgress(cli.egress, ['cli', 'egress'])
  checkSecretName(secret?.ref, ['cli', 'secret', 'ref'])
}

function checkSecretName(ref: string | undefined, at: readonly string[]): void {
  if (ref !== undefined && !isSecretName(ref.replaceAll('{key}', 'k')))
    throw new ToolProblem(at, `\`${ref}\` is no name of a secret`)
}

function propertiesOf({ in: schema }: ToolDocument['spec']): ToolDeclaration['in']['properties'] {
  const entries = Object.entries(schema.properties).map(([name, { anyOf, title: _title, type, ...rest }]) => {
    const given = type ?? anyOf?.[0].type
    if (given === undefined) throw new ToolProblem(['in', 'properties', name], 'one of `type` and `anyOf`')
    const absent = anyOf && rest.default === undefined ? { default: null } : {}
    return [name, { ...rest, ...absent, type: given }] as const
  })
  return Object.fromEntries(entries)
}

function checkNames(declaration: ToolDeclaration): void {
  const { name, in: schema, dimensions } = declaration
  if (RESERVED.test(name)) throw new ToolProblem([], `\`${name}\`: tools of this name are the kernel's own`)
  const known = new Set(Object.keys(schema.properties))
  const unknown = schema.required?.find((arg) => !known.has(arg))
  if (unknown !== undefined) throw new ToolProblem(['in', 'required'], `there is no argument \`${unknown}\``)
  for (const [dimension, arg] of Object.entries(dimensions ?? {})) {
    if (arg === undefined) continue
    if (schema.properties[arg]?.type !== 'string' || !schema.required?.includes(arg))
      throw new ToolProblem(['dimensions', dimension], `\`${arg}\` is no required argument of type string`)
  }
  for (const [currency, arg] of Object.entries(declaration.spend ?? {}))
    if (!isAlways(schema, arg) || isNested(schema.properties[arg] as { type: 'object' }))
      throw new ToolProblem(['spend', currency], `\`${arg}\` is no plain argument that is always there`)
  for (const sink of declaration.sinks ?? []) checkSink(sink)
  const odd = declaration.yields?.find((label) => !LABEL.test(label))
  if (odd !== undefined) throw new ToolProblem(['yields'], `\`${odd}\` is no label`)
  checkProperties(schema)
}

function checkTemplates(declaration: HttpDeclaration): void {
  const { in: schema } = declaration
  const known = new Set(Object.keys(schema.properties))
  for (const [where, template] of templatesOf(declaration)) {
    const wrong = placeholders(template).find((arg) => !known.has(arg))
    if (wrong !== undefined)
      throw new ToolProblem(['http', ...where.split('.')], `there is no argument \`${wrong}\``)
    const nested = placeholders(template).find((arg) => !canStandIn(where, template, arg, schema))
    if (nested !== undefined)
      throw new ToolProblem(
        ['http', ...where.split('.')],
        `\`${nested}\` is not one plain value: it stands in a body, or a list of such in the query`,
      )
    if (where === 'query' || where.startsWith('query.')) continue
    const loose = placeholders(template).find((arg) => !isAlways(schema, arg))
    if (loose !== undefined)
      throw new ToolProblem(['http', ...where.split('.')], `\`${loose}\` may be left out, and this cannot`)
  }
}

/** A list of plain values may be a whole part of the query: it then stands there once for each. */
function canStandIn(where: string, template: string, arg: string, schema: ToolDeclaration['in']): boolean {
  const property = schema.properties[arg]
  if (!property || !isNested(property)) return true
  const items = [property.items?.type].flat()
  const plain = items.every((type) => ['string', 'number', 'integer', 'boolean'].includes(String(type)))
  return where.startsWith('query.') && template === `{${arg}}` && property.type === 'array' && plain
}

/** A default that is no argument, and bounds that hold nothing, would only be noticed by whoever calls. */
function checkProperties({ properties }: ToolDeclaration['in']): void {
  for (const [name, property] of Object.entries(properties)) {
    const at = ['in', 'properties', name]
    checkNested(property, at)
    const { minimum = -Infinity, maximum = Infinity, minLength = 0, maxLength = Infinity } = property
    if (minimum > maximum || minLength > maxLength) throw new ToolProblem(at, 'nothing lies in these bounds')
    if (property.default === undefined || property.default === null) continue
    const given = checkArgs(
      { type: 'object', properties: { [name]: property } },
      { [name]: property.default },
    )
    if (!(given instanceof Map))
      throw new ToolProblem([...at, 'default'], 'the default is no argument of this kind')
  }
}

const NESTED = ['properties', 'required', 'additionalProperties', 'items', 'minItems', 'maxItems'] as const

/** What is said of members is said of what has members, and ends somewhere. */
function checkNested(property: ToolDeclaration['in']['properties'][string], at: readonly string[]): void {
  const said = NESTED.find((key) => property[key] !== undefined)
  if (isNested(property)) return checkDepth(property as AnswerSchema, at)
  if (said !== undefined) throw new ToolProblem([...at, said], `a ${property.type} has no \`${said}\``)
}

function checkSecrets({ secret, http, capture, effect }: HttpDeclaration): void {
  const wrong = secret && wrongSecret(secret.ref, secret.slot)
  if (wrong) throw new ToolProblem(['http', 'secret', wrong.field], wrong.message)
  if (secret?.slot.startsWith('body.') && http.body !== 'json')
    throw new ToolProblem(['http', 'secret', 'slot'], 'this request has no body that a field could stand in')
  for (const [field, ref] of Object.entries(capture ?? {})) {
    if (!isSecretName(ref.replaceAll('{key}', 'k')))
      throw new ToolProblem(['capture', field], `\`${ref}\` is no name of a secret`)
    if (effect === 'read')
      throw new ToolProblem(
        ['effect'],
        'what captures a secret changes the vault; write `idempotent` or `once`',
      )
  }
}

/** An answer is looked at as deep as its schema goes, which therefore ends somewhere. */
function checkDepth(schema: AnswerSchema | undefined, at: readonly (string | number)[]): void {
  if (schema === undefined) return
  if (at.length > MAX_ANSWER_DEPTH)
    throw new ToolProblem([at[0] as string], `this is nested more than ${MAX_ANSWER_DEPTH} deep`)
  const { properties = {}, items, anyOf = [], additionalProperties } = schema
  for (const [name, one] of Object.entries(properties)) checkDepth(one, [...at, name])
  for (const [i, one] of anyOf.entries()) checkDepth(one, [...at, i])
  checkDepth(items, [...at, 'items'])
  if (typeof additionalProperties === 'object')
    checkDepth(additionalProperties, [...at, 'additionalProperties'])
}

function checkSink(sink: string): void {
  try {
    codec.decodeFlow({ sinks: [sink] })
  } catch (error) {
    throw new ToolProblem(['sinks'], (error as Error).message)
  }
}

function isAlways(schema: ToolDeclaration['in'], arg: string): boolean {
  const filled = schema.properties[arg]?.default
  return schema.required?.includes(arg) === true || (filled !== undefined && filled !== null)
}

function checkRequest({ http, effect, idempotencyHeader }: HttpDeclaration): void {
  const bare = http.url.replaceAll(/\{[^{}]*\}/g, 'x')
  let url: URL
  try {
    url = new URL(bare)
  } catch {
    throw new ToolProblem(['http', 'url'], `\`${http.url}\` is no URL`)
  }
  // Up to the end of the host: what a brace leads on from would choose another one.
  const origin = /^https?:\/\/[^/{}?#@\\\s]+(?=\/|$)/.exec(http.url)?.[0]
  if (!origin)
    throw new ToolProblem(['http', 'url'], 'the scheme and host of a URL are fixed, without user information')
  if (url.search !== '' || url.hash !== '')
    throw new ToolProblem(['http', 'url'], 'the query stands in `query`, so that each part is one argument')
  const own = Object.keys(http.headers ?? {}).find(
    (name) => isOwnHeader(name) || /^content-type$/i.test(name),
  )
  if (own !== undefined) throw new ToolProblem(['http', 'headers', own], 'only the executor sets this header')
  const broken = Object.entries(http.headers ?? {}).find(([, value]) => /[\0\r\n]/.test(value))
  if (broken) throw new ToolProblem(['http', 'headers', broken[0]], 'a header is one line')
  const reads = http.method === 'GET' || http.method === 'HEAD'
  if (reads && http.body) throw new ToolProblem(['http', 'body'], `${http.method} has no body`)
  if (effect === 'idempotent' && !idempotencyHeader)
    throw new ToolProblem(
      ['http'],
      'an idempotent tool needs `idempotencyHeader`: how else would the other side know',
    )
  if (effect === 'read' && !reads)
    throw new ToolProblem(
      ['effect'],
      `a \`read\` is repeated freely, and ${http.method} may change something; write \`idempotent\` or \`once\``,
    )
}
