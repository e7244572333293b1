/** The public surface of middleware. */

export { whose } from './budget.ts'
export { type Did, type Ran, runRequests, runResponses } from './chain.ts'
export type { Budget, MiddlewareDeclaration } from './declaration.ts'
export { parsePath } from './json.ts'
export { type AuditLine, makeMiddleware, type OwnModule, type Ports } from './make.ts'
export type { Back, Call, Middleware, Retry, Step } from './middleware.ts'
export { ModuleHost } from './module-host.ts'
export { wrongRedaction } from './redact.ts'
