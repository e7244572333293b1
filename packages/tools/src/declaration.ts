/** Tools as manifests declare them: what all kinds share, and what each says of how it is performed. */
import { type GrantDefaults, placeOfPlainPath, placeOfResource, type Request } from '@cardinal/cards'
import type { AnswerSchema } from './answer-schema.ts'
import type { ComponentRef } from './component.ts'
import type { EgressGrant } from './egress-grants.ts'
import type { ArgsSchema } from './schema.ts'
import type { FetchBinding } from './secret-slot.ts'
import type { EffectClass } from './tool.ts'

interface Declared {
  /** Dotted, as `bank.pay`. */
  readonly name: string
  readonly about?: string | undefined
  readonly in: ArgsSchema
  /** What it must be answered; left out: any JSON. */
  readonly out?: AnswerSchema | undefined
  readonly effect: EffectClass
  /** Which argument also stands in which dimension of a grant. */
  readonly dimensions?:
    | { readonly resource?: string | undefined; readonly path?: string | undefined }
    | undefined
  /** Which argument is an amount of which currency. */
  readonly spend?: Readonly<Record<string, string>> | undefined
  /** Where arguments can be carried to; of an HTTP tool besides the host of its URL. */
  readonly sinks?: readonly string[] | undefined
  readonly yields?: readonly string[] | undefined
}

/** One typed HTTP request. */
export interface HttpDeclaration extends Declared {
  readonly cli?: undefined
  readonly host?: undefined
  readonly wasm?: undefined
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
  /** Which secret the request carries, and where. */
  readonly secret?: Pick<FetchBinding, 'ref' | 'slot' | 'as' | 'answer'> | undefined
  /** Fields of the answer, from its top, that go into the vault before anybody sees them: under which names. */
  readonly capture?: Readonly<Record<string, string>> | undefined
}

/** One word of a command: as it is, or an argument in a typed place. */
export type CliWord =
  | string
  /** `--flag=value`, in one word: what the value begins with can be no flag. Left out with its argument. */
  | { readonly flag: string; readonly arg: string }
  /** A word of its own, behind `--` where the program knows that; one that begins with `-` is refused all the same. */
  | { readonly positional: string }
  /** The path of a file that holds an argument: its text, or the bytes that it is Base64 of. */
  | { readonly file: string; readonly named: string; readonly as?: 'base64' | undefined }
  /** The path of a file that the program may write, which then comes back with its answer. */
  | { readonly out: string }

/** One program in the sandbox. */
export interface CliDeclaration extends Declared {
  readonly http?: undefined
  readonly host?: undefined
  readonly wasm?: undefined
  readonly cli: {
    /** A name on the path of the sandbox; never a shell. */
    readonly program: string
    readonly args: readonly CliWord[]
    /** `none`: the program does not know `--`, by which others tell where flags end. */
    readonly flagsEnd?: 'none' | undefined
    /** Where it may go, by the tool's own card; left out: it has no network. */
    readonly egress?: readonly EgressGrant[] | undefined
    /** The argument that is its standard input. */
    readonly stdin?: string | undefined
    readonly env?: Readonly<Record<string, string>> | undefined
    /** Exit codes that are no failure; 0 if left out. */
    readonly exits?: readonly number[] | undefined
    /** `json`: its standard output is the answer; else `{code, stdout, stderr}` is. */
    readonly answer?: 'json' | undefined
    readonly timeoutMs: number
    readonly memoryBytes: number
  }
  /** The secret in a variable of its environment. */
  readonly secret?: { readonly ref: string; readonly env: string } | undefined
  readonly capture?: undefined
  readonly idempotencyHeader?: undefined
}

/** One function of the operator's own. */
export interface HostDeclaration extends Declared {
  readonly http?: undefined
  readonly cli?: undefined
  readonly wasm?: undefined
  readonly host: {
    /** The name that the operator gave it when the node was started. */
    readonly function: string
    readonly timeoutMs: number
  }
  /** The secret that it is told. */
  readonly secret?: { readonly ref: string } | undefined
  readonly capture?: undefined
  readonly idempotencyHeader?: undefined
}

/** One component, which reaches nothing. */
export interface WasmDeclaration extends Declared {
  readonly http?: undefined
  readonly cli?: undefined
  readonly host?: undefined
  readonly wasm: ComponentRef
  readonly secret?: undefined
  readonly capture?: undefined
  readonly idempotencyHeader?: undefined
}

export type ToolDeclaration = HttpDeclaration | CliDeclaration | HostDeclaration | WasmDeclaration

/** The name of a tool, and what a grant for it fills in. */
export interface Defaulted {
  readonly name: string
  readonly defaults: GrantDefaults
}

export function defaultedOf(declaration: ToolDeclaration): Defaulted {
  return { name: declaration.name, defaults: defaultsFor(declaration) }
}

/** What a tool says of itself. */
export function describedBy({ in: input, out, effect, cli }: ToolDeclaration) {
  const output = cli && cli.answer !== 'json' ? outputOf(cli.args) : out
  return { input, ...(output && { output }), effect }
}

function outputOf(args: readonly CliWord[]) {
  const text = { type: 'string' } as const
  const outs = args.flatMap((word) => (typeof word === 'object' && 'out' in word ? [word.out] : []))
  const named = Object.fromEntries(outs.map((name) => [name, { type: 'string', description: 'Base64' }]))
  const files = outs.length > 0 && { files: { type: 'object', properties: named } }
  return {
    type: 'object',
    properties: { code: { type: 'integer' }, stdout: text, stderr: text, ...files },
    required: ['code', 'stdout', 'stderr', ...(files ? ['files'] : [])],
  }
}

/** What a grant for the tool must write: every argument that is always there. */
export function defaultsFor({ in: schema, dimensions, effect, secret }: ToolDeclaration): GrantDefaults {
  const always = Object.entries(schema.properties).filter(
    ([name, p]) => schema.required?.includes(name) || (p.default !== undefined && p.default !== null),
  )
  const places = (['resource', 'path'] as const).filter((d) => dimensions?.[d] !== undefined)
  const required = [...places, ...(secret ? (['secret'] as const) : [])]
  return { required, requiredArgs: always.map(([name]) => name), irreversible: effect === 'once' }
}

/** What a grant for one of these tools, or for a subtree of them, fills in; a subtree asks by default if one of it does. */
export function defaultsAmong(tool: string, tools: readonly Defaulted[]): GrantDefaults | undefined {
  const exact = tools.find(({ name }) => name === tool)
  if (exact) return exact.defaults
  const stem = tool.endsWith('*') ? tool.slice(0, -1) : undefined
  const asks = ({ name, defaults }: Defaulted) =>
    stem !== undefined && defaults.irreversible && name.startsWith(stem) && name.length > stem.length
  return tools.some(asks) ? { irreversible: true } : undefined
}

const AMOUNT = /^\d{1,18}(\.\d{1,18})?$/

/** What the call may cost, by currency, from the arguments that the declaration names. */
export function spendOf(
  { spend }: ToolDeclaration,
  args: ReadonlyMap<string, unknown>,
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

/** What cards decide on: the arguments, and those of them that stand in dimensions of their own. */
export function requestFor(
  { name, dimensions }: ToolDeclaration,
  args: ReadonlyMap<string, unknown>,
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
