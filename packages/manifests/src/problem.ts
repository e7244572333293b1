/** What is wrong with a part of a document, and where in its `spec` it stands. */
export class ToolProblem extends Error {
  readonly path: readonly (string | number)[]
  constructor(path: readonly (string | number)[], message: string) {
    super(message)
    this.path = path
  }
}
