/** The shape of manifest documents, one schema a kind; the JSON Schema for editors comes from here too. */
import type { AnswerSchema } from '@cardinal/tools'
import { z } from 'zod'

const name = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
    'a name: lower-case letters, digits and dashes, 1 to 63 characters',
  )
const apiVersion = z.literal('cardinal/v1', 'only `cardinal/v1` is known')
const duration = z.string().regex(/^\d+(\.\d+)?(ms|s|m|h|d)$/, 'a duration, as 500ms, 30s, 5m, 2h or 7d')

const agentSpec = z.strictObject({
  program: z.string().describe('path of the TypeScript program, beside this file'),
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

const TYPE = z.enum(['string', 'number', 'integer', 'boolean'])
const ANSWER_TYPE = z.enum(['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'])
const scalar = z.union([z.string(), z.number(), z.boolean()])
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
  })
  .refine((p) => (p.type === undefined) !== (p.anyOf === undefined), 'one of `type` and `anyOf`')

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
  spec: z.strictObject({
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
    http: z.strictObject({
      method: z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']),
      url: z.string().describe('`{name}` in a segment of the path is an argument'),
      query: z.record(z.string(), z.string()).optional(),
      headers: z.record(z.string().regex(/^[A-Za-z0-9-]+$/, 'a header name'), z.string()).optional(),
      body: z.literal('json').optional().describe('all arguments that stand nowhere else'),
      idempotencyHeader: z
        .string()
        .regex(/^[A-Za-z0-9-]+$/, 'a header name')
        .optional(),
    }),
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
  }),
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

export type NetworkDocument = z.infer<typeof networkDocument>
export type ToolDocument = z.infer<typeof toolDocument>
export type AgentDocument = z.infer<typeof agentDocument>
export type ZoneDocument = z.infer<typeof zoneDocument>

export const KINDS = {
  Agent: agentDocument,
  Zone: zoneDocument,
  Network: networkDocument,
  Tool: toolDocument,
} as const

/** The JSON Schema of all kinds, for editors. */
export function manifestJsonSchema(): object {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Cardinal manifest',
    oneOf: Object.values(KINDS).map((schema) => z.toJSONSchema(schema, { target: 'draft-2020-12' })),
  }
}
