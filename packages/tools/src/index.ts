/** The public surface of tools. */

export { type EgressPolicy, isDeniable, isRange, type Network, type Zone } from './address.ts'
export { type AnswerSchema, MAX_ANSWER_DEPTH } from './answer-schema.ts'
export { declaredTool, defaultsAmong, placeholders, type ToolDeclaration, templatesOf } from './declared.ts'
export { type HttpOptions, type HttpTool, httpFetch } from './http-fetch.ts'
export { isOwnHeader } from './http-request.ts'
export { checkArgs } from './schema.ts'
export type {
  Attempt,
  BadArguments,
  EffectClass,
  Receipt,
  Tool,
  ToolSettings,
  Translated,
  WireError,
} from './tool.ts'
