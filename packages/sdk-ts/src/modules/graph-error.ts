/** What a graph answers to what it cannot do; `code` is stable. */

export type GraphCode = 'BadPattern' | 'BadProperties' | 'BadName' | 'NoSuchNode' | 'NoSuchValue' | 'TooMany'

export class GraphError extends Error {
  readonly code: GraphCode
  constructor(code: GraphCode, message: string) {
    super(message)
    this.name = 'GraphError'
    this.code = code
  }
}
