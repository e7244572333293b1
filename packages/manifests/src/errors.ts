/** An error in a manifest, with the place in the file that a person must look at. */
export class ManifestError extends Error {
  readonly class = 'Malformed'
  readonly code = 'BadManifest'
  readonly file: string
  readonly line: number
  readonly col: number
  readonly path: string

  constructor(at: { file: string; line: number; col: number }, path: string, message: string) {
    super(`${at.file}:${at.line}:${at.col} ${path === '' ? '' : `${path}: `}${message}`)
    this.name = 'Malformed'
    this.file = at.file
    this.line = at.line
    this.col = at.col
    this.path = path
  }
}
