/** Code of others as WebAssembly components: what declarations say of one, and what a call of it is. */

export interface ComponentBounds {
  /** What one call may take: about as many instructions. */
  readonly fuel: number
  readonly memoryBytes: number
}

/** A component in a declaration: its bytes are kept under their digest. */
export interface ComponentRef extends ComponentBounds {
  /** SHA-256, hexadecimal. */
  readonly digest: string
}

/** `ok`: as it says itself. Or it gave no answer, and why. */
export type CalledComponent =
  | { readonly done: true; readonly ok: boolean; readonly text: string }
  | { readonly done: false; readonly kind: string; readonly detail: string }

/** Calls a component once; rejects for what the host cannot do, and where nobody waits any more. */
export type RunComponent = (
  digest: string,
  input: string,
  bounds: ComponentBounds,
  signal: AbortSignal,
) => Promise<CalledComponent>
