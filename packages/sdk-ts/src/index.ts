/** What agent programs import from `@cardinal/sdk`. */
export { Agent, declassify, event, log, sleep, tool } from './agent.ts'
export { agent, spawn } from './agents.ts'
export { cards, offers, tools } from './cards.ts'
export {
  Cancelled,
  CardinalError,
  Indeterminate,
  Refused,
  type RefusedBy,
  Stopped,
  Unavailable,
  Withheld,
} from './errors.ts'
export { type Secret, secret } from './secret.ts'
export type {
  Admits,
  Call,
  Card,
  Duration,
  Grant,
  Json,
  Limits,
  Method,
  Narrow,
  Offer,
  Opts,
  Ref,
  Schema,
  Stub,
  ToolInfo,
  Tools,
  Verdict,
} from './types.ts'
