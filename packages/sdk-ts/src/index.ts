/** What agent programs import from `@cardinal/sdk`. */
export { Agent, event, log, sleep, tool } from './agent.ts'
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
export type { Call, Card, Duration, Grant, Json, Method, Opts, Ref, Schema, Tools } from './types.ts'
