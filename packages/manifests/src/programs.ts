/** Which programs the documents of a file name, before anything is validated: for whoever has to bundle them. */
import { parseAllDocuments } from 'yaml'
import { nameOfComponent } from './parse.ts'

export interface ProgramRef {
  /** `tenant/name`. */
  readonly agent: string
  readonly program: string
  /** Where each file stands for the agent, and which file it is here. */
  readonly files: readonly (readonly [path: string, file: string])[]
}

/** Lenient on purpose: what is not well-formed here is reported by `parseManifests`, with its place. */
export function findPrograms(text: string): ProgramRef[] {
  const documents = parseAllDocuments(text)
  if (!Array.isArray(documents)) return []
  return documents.flatMap((document) => {
    if (document.errors.length > 0) return []
    const { kind, metadata, spec } = toShape(document)
    if (kind !== 'Agent' || typeof spec?.program !== 'string') return []
    const files = Object.entries(spec.files ?? {}).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    )
    return [{ agent: `${String(metadata?.tenant)}/${String(metadata?.name)}`, program: spec.program, files }]
  })
}

export interface ComponentFile {
  /** As `nameOfComponent` has it. */
  readonly name: string
  readonly component: string
}

/** Which components they name; lenient in the same way. */
export function findComponents(text: string): ComponentFile[] {
  const documents = parseAllDocuments(text)
  if (!Array.isArray(documents)) return []
  return documents.flatMap((document) => {
    if (document.errors.length > 0) return []
    const { kind, metadata, spec } = toShape(document)
    const component = spec?.wasm?.component
    if ((kind !== 'Tool' && kind !== 'Middleware') || typeof component !== 'string') return []
    return [{ name: nameOfComponent(kind, String(metadata?.tenant), String(metadata?.name)), component }]
  })
}

interface Shape {
  readonly kind?: unknown
  readonly metadata?: { readonly tenant?: unknown; readonly name?: unknown }
  readonly spec?: {
    readonly program?: unknown
    readonly files?: Readonly<Record<string, unknown>>
    readonly wasm?: { readonly component?: unknown }
  }
}

function toShape(document: { toJS(options: { maxAliasCount: number }): unknown }): Shape {
  try {
    return (document.toJS({ maxAliasCount: 0 }) ?? {}) as Shape
  } catch {
    return {}
  }
}
