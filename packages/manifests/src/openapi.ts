/**
 * Tools from an OpenAPI document: one `kind: Tool` for each operation that can be one typed request, and of
 * each other one why it cannot. What comes out is a manifest to read, change and apply like any other.
 */
import { dereference, upgrade } from '@scalar/openapi-parser'
import { parse as parseYaml } from 'yaml'
import { ManifestError } from './errors.ts'
import {
  isObject,
  type Json,
  listOf,
  MAX_ABOUT,
  objectsOf,
  SCALARS,
  Schemas,
  TooLarge,
} from './openapi-schema.ts'
import { parseManifests } from './parse.ts'

export interface ImportOptions {
  readonly tenant: string
  /** The first segments of the tools' names; left out: from the document's title. */
  readonly prefix?: string | undefined
  /** Where the service is; left out: the first server of the document. */
  readonly server?: string | undefined
  /** Operations by id; left out: all. */
  readonly only?: readonly string[] | undefined
  /** The secret that operations carry which the document says need one. */
  readonly secret?: string | undefined
  /** Whose answers are checked: of reads, where a wrong description costs nothing, if left out. */
  readonly answers?: 'all' | 'reads' | 'none' | undefined
}

export interface Imported {
  /** Documents of `kind: Tool`, as manifests hold them. */
  readonly tools: readonly ToolDocument[]
  /** Operations that became none, and why. */
  readonly left: readonly { readonly operation: string; readonly why: string }[]
  /** What an imported tool does without. */
  readonly notes: readonly { readonly tool: string; readonly note: string }[]
  /** Tools whose operations need a secret that was not named. */
  readonly bare: readonly string[]
}

interface ToolDocument {
  readonly apiVersion: 'cardinal/v1'
  readonly kind: 'Tool'
  readonly metadata: { readonly tenant: string; readonly name: string }
  readonly spec: Record<string, unknown>
}

/** Why an operation cannot be a tool. */
class Unfit extends Error {}

const METHODS = ['get', 'head', 'post', 'put', 'patch', 'delete'] as const
const JSON_TYPE = /^application\/([\w.+-]+\+)?json\b/
/** Headers that the one who sends a request writes, whatever a document says. */
const NOT_PARAMETERS = /^(accept|content-type|authorization)$/i

/** Throws `ManifestError` where `text` is no OpenAPI document, or says nowhere whom to ask. */
export function toolsOfOpenApi(text: string, file: string, options: ImportOptions): Imported {
  const document = read(text, file)
  if (options.server !== undefined && !isServer(options.server))
    throw problem(file, `\`${options.server}\` is no server, as https://api.example.com/v1`)
  const server = options.server ?? serverOf(document, file)
  const prefix = options.prefix ?? nameOf(String((document.info as Json | undefined)?.title ?? 'api'))
  const tools: ToolDocument[] = []
  const left: { operation: string; why: string }[] = []
  const notes: { tool: string; note: string }[] = []
  const bare: string[] = []
  const taken = new Set<string>()
  const wanted = options.only && new Set(options.only)
  for (const operation of operationsOf(document)) {
    if (wanted && !wanted.delete(operation.id)) continue
    try {
      const made = toolOf(operation, { document, server, prefix, options })
      const { name } = made.tool.metadata
      if (taken.has(name)) throw new Unfit(`another operation is \`${name}\` already`)
      requireApplicable(made.tool)
      taken.add(name)
      tools.push(made.tool)
      notes.push(...made.notes.map((note) => ({ tool: name, note })))
      if (made.bare) bare.push(name)
    } catch (error) {
      if (!(error instanceof Unfit) && !(error instanceof TooLarge)) throw error
      left.push({ operation: operation.id, why: error.message })
    }
  }
  const [unknown] = wanted ?? []
  if (unknown !== undefined) throw problem(file, `there is no operation \`${unknown}\``)
  return { tools, left, notes, bare }
}

function read(text: string, file: string): Json {
  let given: unknown
  try {
    given = parseYaml(text)
  } catch (error) {
    throw problem(file, (error as Error).message.split('\n')[0] ?? 'neither JSON nor YAML')
  }
  if (!isObject(given) || !(typeof given.openapi === 'string' || given.swagger === '2.0'))
    throw problem(file, 'no OpenAPI document: it says neither `openapi: 3.…` nor `swagger: "2.0"`')
  if (!isObject(given.paths)) throw problem(file, 'a document without `paths`')
  const { schema } = dereference(upgrade(given).specification as Json)
  if (!isObject(schema)) throw problem(file, 'references in it cannot be followed')
  return schema as Json
}

function problem(file: string, message: string): ManifestError {
  return new ManifestError({ file, line: 1, col: 1 }, '', message)
}

function serverOf(document: Json, file: string): string {
  const url = urlOf(document)
  if (url !== undefined) return url
  throw problem(file, 'it does not say where the service is: name it, as https://api.example.com')
}

/** The first of the servers, if it says a scheme and a host. */
function urlOf({ servers }: Json): string | undefined {
  const [first] = objectsOf(servers)
  const url = String(first?.url ?? '').replaceAll(/\{([^{}]*)\}/g, (whole, name: string) => {
    const variable = isObject(first?.variables) ? (first.variables[name] as Json | undefined) : undefined
    return variable?.default === undefined ? whole : String(variable.default)
  })
  return isServer(url) ? url : undefined
}

function isServer(url: string): boolean {
  if (!/^https?:\/\/[^/{}?#@\\\s]+(\/[^{}?#\\\s]*)?$/.test(url)) return false
  return URL.canParse(url)
}

interface Operation {
  /** As the document names it, or `GET /path`. */
  readonly id: string
  readonly method: (typeof METHODS)[number]
  readonly path: string
  readonly said: Json
  readonly parameters: readonly Json[]
  readonly servers: unknown
}

function operationsOf({ paths }: Json): Operation[] {
  return Object.entries(paths as Record<string, Json>).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const said = isObject(item) ? item[method] : undefined
      if (!isObject(said)) return []
      const id = typeof said.operationId === 'string' ? said.operationId : `${method.toUpperCase()} ${path}`
      const own = objectsOf(said.parameters)
      const isOwn = (one: Json) => own.some((other) => other.name === one.name && other.in === one.in)
      const parameters = [...objectsOf(item.parameters).filter((one) => !isOwn(one)), ...own]
      return [{ id, method, path, said, parameters, servers: said.servers ?? item.servers }]
    }),
  )
}

interface Around {
  readonly document: Json
  readonly server: string
  readonly prefix: string
  readonly options: ImportOptions
}

/** What is gathered of one operation. */
interface Gathered {
  readonly schemas: Schemas
  readonly properties: Json
  readonly required: string[]
  readonly query: Record<string, string>
  readonly headers: Record<string, string>
  readonly notes: string[]
  url: string
  body?: 'json'
  idempotencyHeader?: string
}

function toolOf(operation: Operation, around: Around) {
  const { id, method, said } = operation
  const { options } = around
  const gathered: Gathered = {
    schemas: new Schemas('in'),
    properties: {},
    required: [],
    query: {},
    headers: {},
    notes: [],
    url: urlFor(operation, around.server),
  }
  const needed = secretOf(operation, around.document)
  const isSecret = ({ in: place, name }: Json) =>
    needed?.slot === `${place}.${place === 'header' ? String(name).toLowerCase() : name}`
  for (const parameter of operation.parameters) if (!isSecret(parameter)) takeParameter(gathered, parameter)
  if (isObject(said.requestBody)) takeBody(gathered, said.requestBody)
  const { properties, required, query, headers, notes, url, body, idempotencyHeader } = gathered
  const reads = method === 'get' || method === 'head'
  if (reads && body) throw new Unfit(`a ${method.toUpperCase()} with a body`)
  const secret = needed && options.secret !== undefined ? { ref: options.secret, ...needed } : undefined
  const checked = options.answers ?? 'reads'
  const out = checked === 'all' || (checked === 'reads' && reads) ? answerOf(said) : undefined
  const about = aboutOf(said, id)
  const spec = {
    about,
    effect: reads ? 'read' : idempotencyHeader ? 'idempotent' : 'once',
    in: { type: 'object', properties, ...(required.length > 0 && { required }) },
    ...(out && { out }),
    http: {
      method: method.toUpperCase(),
      url,
      ...(Object.keys(query).length > 0 && { query }),
      ...(Object.keys(headers).length > 0 && { headers }),
      ...(body && { body }),
      ...(secret && { secret }),
      ...(idempotencyHeader && { idempotencyHeader }),
    },
  }
  const metadata = { tenant: options.tenant, name: `${around.prefix}.${dotted(id)}` }
  const tool: ToolDocument = { apiVersion: 'cardinal/v1', kind: 'Tool', metadata, spec }
  return { tool, notes, bare: needed !== undefined && secret === undefined }
}

/** An operation may have servers of its own; one at another place is not what was asked for. */
function urlFor({ servers, path }: Operation, server: string): string {
  const own = servers === undefined ? undefined : urlOf({ servers })
  if (servers !== undefined && own === undefined)
    throw new Unfit('it is at a server that is not said in full')
  if (own !== undefined && new URL(own).origin !== new URL(server).origin)
    throw new Unfit(`it is at another server, ${new URL(own).origin}`)
  // Else it would be a part of the host.
  if (!path.startsWith('/')) throw new Unfit(`\`${path}\` is no path`)
  return (own ?? server).replace(/\/+$/, '') + path
}

function aboutOf({ summary, description, deprecated }: Json, id: string): string {
  const text = [summary, description].find((one) => typeof one === 'string' && one.trim() !== '') ?? id
  return `${deprecated === true ? 'deprecated: ' : ''}${String(text).trim()}`.slice(0, MAX_ABOUT)
}

function takeParameter(gathered: Gathered, parameter: Json): void {
  const { name, in: place } = parameter as { name: string; in: string }
  const needed = parameter.required === true || place === 'path'
  if (typeof name !== 'string' || (place === 'header' && NOT_PARAMETERS.test(name))) return
  if (place === 'header' && /^idempotency-key$/i.test(name)) {
    gathered.idempotencyHeader = name
    return
  }
  const without = (why: string) => {
    if (needed) throw new Unfit(`\`${name}\` ${why}`)
    gathered.notes.push(`without \`${name}\`, which ${why}`)
  }
  if (place === 'cookie') return without('is a cookie')
  if (place === 'header' && !needed) return without('is a header that may be left out')
  if (place === 'path' && !gathered.url.includes(`{${name}}`)) return
  const property = gathered.schemas.property({ description: parameter.description, ...schemaOf(parameter) })
  const kind = property && kindIn(property)
  const repeated = place === 'query' && kind === 'list' && isRepeated(parameter)
  if (!property || (kind !== 'plain' && !repeated)) return without('is not one plain value')
  const arg = argumentOf(name)
  if (Object.hasOwn(gathered.properties, arg)) return without('stands in two places')
  gathered.properties[arg] = property
  if (needed) gathered.required.push(arg)
  if (place === 'path') gathered.url = gathered.url.replaceAll(`{${name}}`, `{${arg}}`)
  else if (place === 'query') gathered.query[name] = `{${arg}}`
  else gathered.headers[name] = `{${arg}}`
}

function kindIn({ type, anyOf, items }: Json): 'plain' | 'list' | 'other' {
  const isPlain = (one: unknown) => SCALARS.has(one as string)
  if (isPlain(type) || anyOf !== undefined) return 'plain'
  return type === 'array' && isPlain((items as Json | undefined)?.type) ? 'list' : 'other'
}

/** Whether a list stands in the query once for each of its values, as it does where nothing is said. */
function isRepeated({ style = 'form', explode = true }: Json): boolean {
  return style === 'form' && explode === true
}

/** A parameter has a schema of its own, or one of its only kind of content. */
function schemaOf(parameter: Json): Json {
  if (isObject(parameter.schema)) return parameter.schema
  return parameter.content === undefined ? { type: 'string' } : {}
}

function takeBody(gathered: Gathered, body: Json): void {
  const { schemas } = gathered
  const content = (isObject(body.content) ? body.content : {}) as Record<string, Json>
  const type = Object.keys(content).find((one) => JSON_TYPE.test(one))
  const without = (why: string) => {
    if (body.required === true) throw new Unfit(why)
    gathered.notes.push(`without its body: ${why}`)
  }
  if (type === undefined)
    return without(`a body of ${Object.keys(content).join(', ') || 'nothing'}, and not of JSON`)
  const schema = schemas.merged(content[type]?.schema)
  if (!isObject(schema.properties) || !isOnlyObject(schema))
    return without('a body that is no object of named fields')
  const needed = new Set(body.required === true ? listOf(schema.required) : [])
  for (const [name, given] of Object.entries(schema.properties)) {
    if (schemas.isForOthers(given)) continue
    const property = schemas.property(given)
    const why = !property
      ? 'has no type'
      : argumentOf(name) !== name
        ? 'is no name of an argument'
        : Object.hasOwn(gathered.properties, name)
          ? 'stands in two places'
          : undefined
    if (why !== undefined && needed.has(name as never)) throw new Unfit(`\`${name}\` ${why}`)
    if (why !== undefined) gathered.notes.push(`without \`${name}\`, which ${why}`)
    else {
      gathered.properties[name] = property
      if (needed.has(name as never)) gathered.required.push(name)
    }
  }
  gathered.body = 'json'
}

function isOnlyObject({ type }: Json): boolean {
  return type === undefined || [type].flat().every((one) => one === 'object' || one === 'null')
}

function answerOf({ responses }: Json): Json | undefined {
  const ok = Object.entries(isObject(responses) ? responses : {}).filter(([status]) => /^2/.test(status))
  const schemas = ok.flatMap(([, answer]) =>
    Object.entries(isObject(answer) && isObject(answer.content) ? answer.content : {}).filter(([type]) =>
      JSON_TYPE.test(type),
    ),
  )
  const [only] = schemas
  // Several kinds of answers: which one comes is not known.
  if (schemas.length !== 1 || ok.length !== 1 || !only || !isObject(only[1])) return undefined
  try {
    const schema = new Schemas('out').answer(only[1].schema)
    return Object.keys(schema).length > 0 ? schema : undefined
  } catch (error) {
    // What nobody could check is not held to anything.
    if (error instanceof TooLarge) return undefined
    throw error
  }
}

/** Where an operation carries a secret, if the document says that it needs one. */
function secretOf({ said }: Operation, document: Json): { slot: string; as?: string } | undefined {
  const wanted = objectsOf(said.security ?? document.security)
  // An empty one among them: it can be done without.
  if (wanted.length === 0 || wanted.some((one) => Object.keys(one).length === 0)) return undefined
  const schemes = ((document.components as Json | undefined)?.securitySchemes ?? {}) as Record<string, Json>
  for (const one of wanted) {
    const names = Object.keys(one)
    const scheme = names.length === 1 ? schemes[names[0] as string] : undefined
    if (scheme?.type === 'apiKey' && (scheme.in === 'header' || scheme.in === 'query'))
      return {
        slot: `${scheme.in}.${scheme.in === 'header' ? String(scheme.name).toLowerCase() : scheme.name}`,
      }
    if (scheme?.type === 'http' && /^basic$/i.test(String(scheme.scheme)))
      return { slot: 'header.authorization', as: 'basic' }
    if (
      scheme?.type === 'oauth2' ||
      scheme?.type === 'openIdConnect' ||
      /^bearer$/i.test(String(scheme?.scheme))
    )
      return { slot: 'header.authorization', as: 'bearer' }
  }
  throw new Unfit(
    `needs ${wanted.map((one) => Object.keys(one).join(' and ')).join(', or ')}, which is no one secret`,
  )
}

/** What `apply` would refuse is not written. */
function requireApplicable(tool: ToolDocument): void {
  try {
    parseManifests(JSON.stringify(tool), 'tool', { isRange: () => true, defaultsOf: () => undefined })
  } catch (error) {
    if (!(error instanceof ManifestError)) throw error
    throw new Unfit(error.message.replace(/^\S+ /, ''))
  }
}

/** `repos/list-forOrg` is `repos.list_for_org`. */
function dotted(id: string): string {
  return id
    .split(/[/.]/)
    .map(nameOf)
    .filter((part) => part !== '')
    .join('.')
}

function nameOf(text: string): string {
  const name = text
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '_')
    .replaceAll(/^_+|_+$/g, '')
  return /^[0-9]/.test(name) ? `n${name}` : name
}

/** `filter[status]` is `filter_status`. */
function argumentOf(name: string): string {
  const arg = name.replaceAll(/[^A-Za-z0-9_-]+/g, '_').replaceAll(/^[_-]+|[_-]+$/g, '')
  return /^[A-Za-z_]/.test(arg) ? arg.slice(0, 64) : `arg_${arg}`.slice(0, 64)
}
