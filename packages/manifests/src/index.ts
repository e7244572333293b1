/** The public surface of manifests. */
export { manifestJsonSchema } from './document.ts'
export { ManifestError } from './errors.ts'
export {
  LIMIT_NAMES,
  LIMITS,
  type Limit,
  type LimitName,
  type LimitsDeclaration,
  type LimitValues,
  showLimit,
} from './limits.ts'
export {
  type AgentManifest,
  type DeclaringManifest,
  type Manifest,
  type McpServerManifest,
  type MiddlewareManifest,
  type NetworkManifest,
  nameOfComponent,
  type ParseOptions,
  parseFiles,
  parseManifests,
  type ToolManifest,
  type ZoneManifest,
} from './parse.ts'
export { type ComponentFile, findComponents, findPrograms, type ProgramRef } from './programs.ts'
