/** The shape of manifest documents, one schema a kind; the JSON Schema for editors comes from here too. */
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

export type AgentDocument = z.infer<typeof agentDocument>
export type ZoneDocument = z.infer<typeof zoneDocument>

export const KINDS = { Agent: agentDocument, Zone: zoneDocument } as const

/** The JSON Schema of all kinds, for editors. */
export function manifestJsonSchema(): object {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Cardinal manifest',
    oneOf: Object.values(KINDS).map((schema) => z.toJSONSchema(schema, { target: 'draft-2020-12' })),
  }
}
