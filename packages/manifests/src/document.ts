/** The shape of manifest documents, one schema a kind; the JSON Schema for editors comes from here too. */
import { type AnswerSchema, PROVIDERS } from '@cardinal/tools'
import { z } from 'zod'
import { LIMITS, type LimitName } from './limits.ts'

const name = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
    'a name: lower-case letters, digits and dashes, 1 to 63 characters',
  )
const apiVersion = z.literal('cardinal/v1', 'only `cardinal/v1` is known')
const duration = z.string().regex(/^\d+(\.\d+)?(ms|s|m|h|d)$/, 'a duration, as 500ms, 30s, 5m, 2h or 7d')

const slot = z.string().describe('where it stands: `header.NAME`, `query.NAME` or `body.NAME`')
const ref = z.string().describe('the name of the secret; `{key}` in it is the key of the agent')
const written = z
  .enum(['plain', 'bearer', 'basic'])
  .optional()
  .describe('as it is, behind `Bearer `, or as base64 behind `Basic `')
const shown = z
  .literal('status')
  .optional()
  .describe('of the answer the agent sees the status alone; for secrets of fewer than 12 bytes')

const agentSpec = z.strictObject({
  program: z
    .string()
    .describe('path of the TypeScript program, or of a core module (`.wasm`), beside this file'),
  /** Checked by `cards`, which knows its own language and its own errors. */
  card: z.unknown().optional().describe('what instances may do now, and may ever do'),
  files: z
    .record(
      z.string().regex(/^(?:\/(?!\.{1,2}(?:\/|$))[^/\0]+)+$/, 'a path from the root, as /data/rates.csv'),
      z.string(),
    )
    .optional()
    .describe(
      'files that every instance begins with: where they stand, and which file beside this one they are',
    ),
  secrets: z
    .record(
      z.string().regex(/^[A-Za-z_][A-Za-z0-9_-]{0,63}$/, 'a name of a handle'),
      z.discriminatedUnion(
        'tool',
        [
          z.strictObject({
            ref,
            tool: z.literal('http.fetch'),
            host: z.string().describe('the one host that it is sent to, as in URLs'),
            slot,
            as: written,
            answer: shown,
          }),
          z.strictObject({ ref, tool: z.literal('secret.reveal') }),
        ],
        'a handle is for `http.fetch` or `secret.reveal`; a declared tool names its secret itself',
      ),
    )
    .optional()
    .describe('handles by which the program names secrets, and the one place where each may stand'),
  middleware: z
    .array(name)
    .optional()
    .describe('middleware before whatever is done under this card, and under every card taken from it'),
  concurrency: z.literal('serial').optional(),
  timeout: duration.optional().describe('how long one invocation may take; 1h if left out'),
  idle: duration
    .optional()
    .describe('how long an instance stays in memory with nothing to do; 30s if left out'),
  idempotency: z
    .array(
      z.strictObject({
        host: z.string(),
        method: z.array(z.string()).min(1),
        header: z.string().regex(/^[A-Za-z0-9-]+$/, 'a header name'),
      }),
    )
    .optional()
    .describe('requests that carry an idempotency key, and in which header'),
})

const agentDocument = z.strictObject({
  apiVersion,
  kind: z.literal('Agent'),
  metadata: z.strictObject({ tenant: name, name }),
  spec: agentSpec,
})

const zoneDocument = z.strictObject({
  apiVersion,
  kind: z.literal('Zone'),
  metadata: z.strictObject({ name }),
  spec: z.strictObject({
    hosts: z.array(z.string()).min(1).describe('names or addresses as they stand in URLs'),
    ranges: z
      .array(z.string())
      .min(1)
      .describe('private ranges that these names may resolve into, as 10.1.0.0/16'),
  }),
})

const TYPE = z.enum(['string', 'number', 'integer', 'boolean', 'object', 'array'])
const ANSWER_TYPE = z.enum(['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'])
const scalar = z.union([z.string(), z.number(), z.boolean()])
/** JSON Schema of an answer. Patterns and references are left out: the node checks answers itself. */
const answer: z.ZodType<AnswerSchema> = z.lazy(() =>
  z.strictObject({
    type: z.union([ANSWER_TYPE, z.array(ANSWER_TYPE).min(1)]).optional(),
    title: z.string().optional(),
    description: z.string().optional(),
    properties: z.record(z.string(), answer).optional(),
    required: z.array(z.string()).optional(),
    additionalProperties: z.union([z.boolean(), answer]).optional(),
    items: answer.optional(),
    anyOf: z.array(answer).min(1).optional(),
    enum: z
      .array(z.union([scalar, z.null()]))
      .min(1)
      .optional(),
    const: z.union([scalar, z.null()]).optional(),
    minLength: z.int().min(0).optional(),
    maxLength: z.int().min(0).optional(),
    minimum: z.number().optional(),
    maximum: z.number().optional(),
    minItems: z.int().min(0).optional(),
    maxItems: z.int().min(0).optional(),
  }),
)

/** `anyOf` a type and null is how generators write an argument that may be left out. */
const nullable = z.tuple([z.strictObject({ type: TYPE }), z.strictObject({ type: z.literal('null') })])
const property = z
  .strictObject({
    type: TYPE.optional(),
    anyOf: nullable.optional(),
    title: z.string().optional(),
    description: z.string().optional(),
    enum: z.array(scalar).min(1).optional(),
    minLength: z.int().min(0).optional(),
    maxLength: z.int().min(0).optional(),
    minimum: z.number().optional(),
    maximum: z.number().optional(),
    default: z.union([scalar, z.null()]).optional(),
    properties: z.record(z.string(), answer).optional(),
    required: z.array(z.string()).optional(),
    additionalProperties: z.union([z.boolean(), answer]).optional(),
    items: answer.optional(),
    minItems: z.int().min(0).optional(),
    maxItems: z.int().min(0).optional(),
  })
  .refine((p) => (p.type === undefined) !== (p.anyOf === undefined), 'one of `type` and `anyOf`')

const plainEnv = z.string().regex(/^[A-Z][A-Z0-9_]*$/, 'a variable, as API_KEY')
const fileName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'a file name')
const egress = z
  .array(z.record(z.string(), z.unknown()))
  .min(1)
  .max(100)
  .describe(
    'grants of the way out, as { host: api.example, path: /v1/*, method: [GET] }; left out: no network',
  )
const cliSpec = z.strictObject({
  program: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._+-]*$/, 'the name of a program, as jq'),
  args: z.array(
    z.union([
      z.string(),
      z.strictObject({
        flag: z.string().regex(/^--?[A-Za-z0-9][A-Za-z0-9-]*$/, 'a flag, as --limit'),
        arg: z.string(),
      }),
      z.strictObject({ positional: z.string() }),
      z.strictObject({
        file: z.string(),
        named: fileName,
        as: z.literal('base64').optional().describe('the argument is Base64 of what the file holds'),
      }),
      z.strictObject({ out: fileName }),
    ]),
  ),
  flagsEnd: z.literal('none').optional().describe('the program does not know `--`'),
  stdin: z.string().optional().describe('the argument that is its standard input'),
  egress: egress.optional(),
  env: z.record(plainEnv, z.string()).optional(),
  secret: z.strictObject({ ref, env: plainEnv }).optional(),
  exits: z
    .array(z.int().min(0).max(255))
    .min(1)
    .optional()
    .describe('exit codes that are no failure; 0 if left out'),
  answer: z
    .literal('json')
    .optional()
    .describe('its standard output is the answer; else {code, stdout, stderr}'),
  timeout: duration.optional().describe('30s if left out'),
  memory: z.int().min(16).max(65_536).optional().describe('MiB of address space; 1024 if left out'),
})

const component = {
  component: z.string().describe('path of the component (.wasm), beside this file'),
  fuel: z
    .int()
    .min(1_000_000)
    .max(10_000_000_000)
    .optional()
    .describe('of one call; 1,000,000,000 if left out'),
  memory: z.int().min(1).max(1024).optional().describe('MiB of one call; 64 if left out'),
}

const toolDocument = z.strictObject({
  apiVersion,
  kind: z.literal('Tool'),
  metadata: z.strictObject({
    tenant: name,
    name: z
      .string()
      .max(128)
      .regex(/^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$/, 'a dotted name of a tool, as `bank.pay`'),
  }),
  spec: z
    .strictObject({
      about: z.string().optional(),
      in: z
        .strictObject({
          type: z.literal('object'),
          title: z.string().optional(),
          description: z.string().optional(),
          properties: z.record(
            z.string().regex(/^[A-Za-z_][A-Za-z0-9_-]{0,63}$/, 'a name of an argument'),
            property,
          ),
          required: z.array(z.string()).optional(),
          additionalProperties: z.literal(false).optional(),
        })
        .describe('the arguments: JSON Schema without patterns and references'),
      out: answer
        .optional()
        .describe('the answer: JSON Schema without patterns and references; any JSON if left out'),
      effect: z
        .enum(['read', 'idempotent', 'once'])
        .describe('repeated freely, repeated with the same key, or never repeated'),
      http: z
        .strictObject({
          method: z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']),
          url: z.string().describe('`{name}` in a segment of the path is an argument'),
          query: z.record(z.string(), z.string()).optional(),
          headers: z.record(z.string().regex(/^[A-Za-z0-9-]+$/, 'a header name'), z.string()).optional(),
          body: z.literal('json').optional().describe('all arguments that stand nowhere else'),
          secret: z
            .strictObject({ ref, slot, as: written, answer: shown })
            .optional()
            .describe('the secret that the request carries; a grant names it'),
          idempotencyHeader: z
            .string()
            .regex(/^[A-Za-z0-9-]+$/, 'a header name')
            .optional(),
        })
        .optional(),
      cli: cliSpec.optional().describe('a program in the sandbox'),
      host: z
        .strictObject({
          function: name.describe('which function of the operator (`cardinal serve --tool NAME=FILE`)'),
          secret: z.strictObject({ ref }).optional(),
          timeout: duration.optional().describe('30s if left out'),
        })
        .optional()
        .describe('code of the host'),
      wasm: z.strictObject(component).optional().describe('a WebAssembly component, which reaches nothing'),
      capture: z
        .record(z.string(), z.string())
        .optional()
        .describe(
          'fields of the answer that go into the vault before anybody sees them, and under which names',
        ),
      dimensions: z
        .strictObject({ resource: z.string().optional(), path: z.string().optional() })
        .optional()
        .describe('which argument also stands in which dimension of a grant'),
      spend: z
        .record(z.string().regex(/^[A-Z]{3}$/, 'a currency, as EUR'), z.string())
        .optional()
        .describe('which argument is an amount of which currency: it is reserved from the budgets of cards'),
      sinks: z
        .array(z.string())
        .optional()
        .describe('where the arguments can be carried to besides the host of the URL'),
      yields: z.array(z.string()).optional().describe('labels of what it answers'),
    })
    .refine(
      (spec) => [spec.http, spec.cli, spec.host, spec.wasm].filter((kind) => kind !== undefined).length === 1,
      'one of `http`, `cli`, `wasm` and `host`',
    ),
})

const networkDocument = z.strictObject({
  apiVersion,
  kind: z.literal('Network'),
  metadata: z.strictObject({ name }),
  spec: z.strictObject({
    deny: z
      .array(z.string())
      .describe('hosts, `*.suffix` or ranges that no agent reaches, whatever its card says'),
  }),
})

const PATH = 'a path into JSON, as items.*.email; ** stands for any number of names'
const redaction = z.strictObject({
  path: z.string().optional().describe(PATH),
  pattern: z.string().max(1000).optional().describe('in the syntax of RE2'),
  known: z.enum(['email', 'iban', 'card', 'phone']).optional(),
  with: z.string().max(200).optional().describe('what stands there instead; [redacted] if left out'),
})
const doings = {
  redact: z.strictObject({
    args: z.array(redaction).min(1).optional(),
    answer: z.array(redaction).min(1).optional(),
  }),
  rateLimit: z.strictObject({
    calls: z.int().min(1).max(1_000_000),
    per: z.enum(['second', 'minute', 'hour', 'day']),
    by: z
      .enum(['agent', 'type', 'tenant'])
      .optional()
      .describe('whose calls are counted; of an agent, if left out'),
    wait: duration
      .optional()
      .describe('what is beyond waits so long at most (60s); left out: it is told when to come back'),
  }),
  budget: z
    .strictObject({
      by: z
        .enum(['agent', 'type', 'tenant'])
        .optional()
        .describe('who shares it; an agent has it for itself, if left out'),
      per: z.enum(['day', 'month']).describe('in UTC'),
      calls: z.unknown().optional(),
      asks: z.unknown().optional().describe('how often a person may be asked'),
      tokens: z.unknown().optional(),
      bytesOut: z.unknown().optional(),
      spend: z.unknown().optional().describe('by currency, as in limits of cards'),
    })
    .refine(({ by: _by, per: _per, ...most }) => Object.keys(most).length > 0, 'something that is counted'),
  retry: z.strictObject({
    times: z
      .int()
      .min(1)
      .max(10)
      .describe('attempts in all; of what is repeated at all: reads, and what is keyed'),
    first: duration
      .optional()
      .describe('the wait before the second; 200ms if left out, and twice that each time'),
    most: duration.optional().describe('the longest wait; 10s if left out'),
  }),
  cache: z.strictObject({ for: duration.describe('how long an answer to a read is given again') }),
  schema: z.strictObject({ args: answer.optional(), answer: answer.optional() }),
  dryRun: z.strictObject({ answer: z.unknown().describe('what is answered; nothing is performed') }),
  approval: z.strictObject({
    roles: z.array(z.string().min(1)).min(1).describe('all of these must approve'),
    people: z
      .int()
      .min(2)
      .max(5)
      .optional()
      .describe('so many different people, of the one role; four eyes: 2'),
    expires: duration.optional().describe('when nobody has, it is refused'),
    when: z
      .strictObject({
        arg: z.string().describe(PATH),
        atLeast: z
          .string()
          .regex(/^\d{1,18}(\.\d{1,18})?$/, 'an amount, in quotes')
          .optional(),
        in: z.array(scalar).min(1).optional(),
      })
      .refine((when) => (when.atLeast === undefined) !== (when.in === undefined), 'one of `atLeast` and `in`')
      .optional()
      .describe('only then; always, if left out'),
  }),
  guardrail: z.strictObject({
    url: z.url().describe('posted {when, tool, args, value}; answers {allow, reason}'),
    on: z.array(z.enum(['request', 'response'])).min(1),
  }),
  audit: z.strictObject({}).describe('a line of every effect to whoever watches the node'),
  module: z
    .strictObject({ name, with: z.unknown().optional() })
    .describe('a module of the operator of the node'),
  wasm: z
    .strictObject({ ...component, with: z.unknown().optional() })
    .describe('a WebAssembly component, which reaches nothing'),
} as const
const DOINGS = Object.keys(doings) as (keyof typeof doings)[]

const middlewareDocument = z.strictObject({
  apiVersion,
  kind: z.literal('Middleware'),
  metadata: z.strictObject({ tenant: name, name }),
  spec: z
    .strictObject({
      tools: z
        .array(
          z
            .string()
            .regex(/^(\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?)$/, 'a tool, as bank.pay, bank.* or *'),
        )
        .optional()
        .describe('before which tools it stands; left out: before those of agents whose manifests name it'),
      order: z.int().min(0).max(1000).optional().describe('lower ones stand farther out; 100 if left out'),
      ...(Object.fromEntries(Object.entries(doings).map(([key, one]) => [key, one.optional()])) as {
        [K in keyof typeof doings]: z.ZodOptional<(typeof doings)[K]>
      }),
    })
    .refine((spec) => DOINGS.filter((key) => spec[key] !== undefined).length === 1, {
      message: `exactly one of ${Object.keys(doings).join(', ')}`,
    }),
})

const effectClass = z.enum(['read', 'idempotent', 'once'])
const mcpServerDocument = z.strictObject({
  apiVersion,
  kind: z.literal('McpServer'),
  metadata: z.strictObject({ tenant: name, name }),
  spec: z
    .strictObject({
      stdio: z
        .strictObject({
          package: name.describe('a folder below the one that the node was started with (`--packages`)'),
          command: z
            .array(z.string())
            .min(1)
            .describe('in the sandbox, where the package is the working folder'),
          env: z.record(plainEnv, z.string()).optional(),
          egress: egress.optional(),
          secret: z.strictObject({ ref, env: plainEnv }).optional(),
        })
        .optional(),
      http: z
        .strictObject({
          url: z.url({ protocol: /^https?$/ }),
          secret: z
            .strictObject({
              ref,
              header: z.string().regex(/^[A-Za-z0-9-]+$/, 'a header name'),
              as: z.enum(['plain', 'bearer']).optional(),
            })
            .optional(),
        })
        .optional(),
      effects: z
        .record(z.string(), effectClass)
        .optional()
        .describe('by the names that the server gives its tools; `once` where nothing is said'),
      sinks: z
        .array(z.string())
        .optional()
        .describe('where arguments can be carried to; anywhere, if left out'),
      yields: z.array(z.string()).optional().describe('labels of what it answers, besides `untrusted`'),
      timeout: duration.optional().describe('of one call; 60s if left out'),
    })
    .refine((spec) => (spec.stdio === undefined) !== (spec.http === undefined), 'one of `stdio` and `http`'),
})

const anySchema = z.record(z.string(), z.unknown())
const mcpToolsDocument = z.strictObject({
  apiVersion,
  kind: z.literal('McpTools'),
  metadata: z.strictObject({ tenant: name, name: name.describe('of the server') }),
  spec: z.strictObject({
    integrity: z
      .string()
      .regex(/^sha256-[A-Za-z0-9+/]{43}=$/, 'sha256-…')
      .optional(),
    tools: z
      .array(
        z.strictObject({
          name: z.string().min(1).max(128),
          description: z.string().optional(),
          inputSchema: anySchema,
          outputSchema: anySchema.optional(),
        }),
      )
      .max(1000),
  }),
})

const price = z.string().regex(/^\d{1,9}(\.\d{1,12})?$/, 'a plain decimal, in quotes')
const modelDocument = z.strictObject({
  apiVersion,
  kind: z.literal('Model'),
  metadata: z.strictObject({
    tenant: name,
    name: name.describe('as agents and cards call it: the sink `model:NAME`'),
  }),
  spec: z.strictObject({
    provider: z.enum(PROVIDERS),
    model: z.string().min(1).describe('as the provider calls it'),
    url: z
      .url({ protocol: /^https?$/ })
      .optional()
      .describe('where it is; each provider has a place, if it is left out'),
    region: z
      .string()
      .regex(/^[a-z0-9-]+$/)
      .optional()
      .describe('of Bedrock'),
    secret: z.strictObject({ ref }).optional().describe('its key'),
    maxTokens: z
      .int()
      .min(1)
      .max(1_000_000)
      .optional()
      .describe('the most that one answer may have; 4096 if left out'),
    price: z
      .record(
        z.string().regex(/^[A-Z]{3}$/, 'a currency, as EUR'),
        z.strictObject({ input: price, output: price }),
      )
      .optional()
      .describe('for a million tokens: reserved from `spend` before, and settled after'),
    yields: z.array(z.string()).optional().describe('labels of what it answers; untrusted, if left out'),
    timeout: duration.optional().describe('120s if left out'),
  }),
})

const amount = z.union([z.int().min(0), z.string()])
const limitsDocument = z.strictObject({
  apiVersion,
  kind: z.literal('Limits'),
  metadata: z.strictObject({
    tenant: name,
    name: z
      .string()
      .regex(
        /^[a-z0-9][a-z0-9-]{0,62}(\/[A-Za-z0-9._~@-]{1,128})?$/,
        'a type, or one agent of it, as clerk or clerk/alice',
      )
      .optional()
      .describe('a type, or one agent as `type/key`; the whole tenant, if left out'),
  }),
  spec: z.strictObject(
    Object.fromEntries(
      Object.entries(LIMITS).map(([limit, { about }]) => [limit, amount.optional().describe(about)]),
    ) as { [Name in LimitName]: z.ZodOptional<typeof amount> },
  ),
})

export type LimitsDocument = z.infer<typeof limitsDocument>
export type ModelDocument = z.infer<typeof modelDocument>
export type McpServerDocument = z.infer<typeof mcpServerDocument>
export type McpToolsDocument = z.infer<typeof mcpToolsDocument>
export type MiddlewareDocument = z.infer<typeof middlewareDocument>
export type NetworkDocument = z.infer<typeof networkDocument>
export type ToolDocument = z.infer<typeof toolDocument>
export type AgentDocument = z.infer<typeof agentDocument>
export type ZoneDocument = z.infer<typeof zoneDocument>

export const KINDS = {
  Agent: agentDocument,
  Zone: zoneDocument,
  Network: networkDocument,
  Tool: toolDocument,
  Middleware: middlewareDocument,
  McpServer: mcpServerDocument,
  Model: modelDocument,
  McpTools: mcpToolsDocument,
  Limits: limitsDocument,
} as const

/** The JSON Schema of all kinds, for editors. */
export function manifestJsonSchema(): object {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Cardinal manifest',
    oneOf: Object.values(KINDS).map((schema) => z.toJSONSchema(schema, { target: 'draft-2020-12' })),
  }
}
