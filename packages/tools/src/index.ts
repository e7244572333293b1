/** The public surface of tools. */

export { type EgressPolicy, isDeniable, isRange, type Network, type Zone } from './address.ts'
export { type AnswerSchema, MAX_ANSWER_DEPTH, wrongAnswer } from './answer-schema.ts'
export { MAX_OUTS } from './cli-run.ts'
export { cliTool } from './cli-tool.ts'
export type { CalledComponent, ComponentBounds, ComponentRef, RunComponent } from './component.ts'
export {
  type CliDeclaration,
  type CliWord,
  type Defaulted,
  defaultedOf,
  defaultsAmong,
  type HostDeclaration,
  type HttpDeclaration,
  type ToolDeclaration,
  type WasmDeclaration,
} from './declaration.ts'
export { declaredTool, placeholders, templatesOf } from './declared.ts'
export { type DoorOptions, EgressDoor } from './egress-door.ts'
export { type EgressGrant, egressBound } from './egress-grants.ts'
export { EgressProxy } from './egress-proxy.ts'
export { hostTool, type OwnFunction, ownFunction } from './host-tool.ts'
export { httpFetch } from './http-fetch.ts'
export { isOwnHeader } from './http-request.ts'
export { CHAT_DEFAULTS, type ChatOptions, llmChat, type ScriptedModel } from './llm-chat.ts'
export {
  type McpAccepted,
  type McpServerDeclaration,
  type McpToolDeclaration,
  mcpToolName,
  mcpTools,
  type PinnedTool,
} from './mcp-declaration.ts'
export { McpProblem, McpServers } from './mcp-servers.ts'
export { mcpDefaults, mcpTool } from './mcp-tool.ts'
export { type ModelDeclaration, PROVIDERS } from './model-declaration.ts'
export { OwnCode } from './own-code.ts'
export { checkArgs, isNested } from './schema.ts'
export { secretReveal } from './secret-reveal.ts'
export { parseSlot, type SecretBinding } from './secret-slot.ts'
export type {
  Attempt,
  BadArguments,
  EffectClass,
  Receipt,
  Tool,
  ToolSettings,
  Translated,
  Used,
  WireError,
} from './tool.ts'
export { infoOf, type ToolInfo, typesOf } from './tool-info.ts'
export { treeDigest } from './tree-digest.ts'
export { wasmTool } from './wasm-tool.ts'
