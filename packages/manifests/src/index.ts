/** The public surface of manifests. */
export { manifestJsonSchema } from './document.ts'
export { ManifestError } from './errors.ts'
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
