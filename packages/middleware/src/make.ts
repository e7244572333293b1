/** From a declaration to the middleware that it is. */
import { hash } from 'node:crypto'
import type { RunComponent } from '@cardinal/tools'
import { approval } from './approval.ts'
import { budget } from './budget.ts'
import { cache } from './cache.ts'
import { component } from './component.ts'
import type { MiddlewareDeclaration } from './declaration.ts'
import { guardrail, type PostJson } from './guardrail.ts'
import type { Call, Middleware } from './middleware.ts'
import { rateLimit } from './rate-limit.ts'
import { redact } from './redact.ts'
import { schema } from './schema.ts'

/** What middleware needs of its host. */
export interface Ports {
  readonly post: PostJson
  /** A line for whoever watches; the record is the kernel's. */
  readonly audit: (line: AuditLine) => void
  /** The operator's own, by name. */
  readonly module: (name: string) => OwnModule | undefined
  readonly component: RunComponent
}

/** A module of the operator's, as it was when the node started. */
export interface OwnModule {
  readonly digest: string
  make(config: unknown): Omit<Middleware, 'name' | 'digest'>
}

export interface AuditLine {
  readonly time: string
  readonly effect: string
  readonly tool: string
  readonly card: string
  readonly args: unknown
  readonly outcome: string
}

export function makeMiddleware(declaration: MiddlewareDeclaration, ports: Ports): Middleware {
  const { name } = declaration
  const own = declaration.module && ports.module(declaration.module.name)
  const digest = hash('sha256', JSON.stringify([declaration, own?.digest ?? null])).slice(0, 16)
  return { ...doing(declaration, ports, own), name, digest }
}

function doing(
  declaration: MiddlewareDeclaration,
  ports: Ports,
  own: OwnModule | undefined,
): Omit<Middleware, 'name' | 'digest'> {
  const {
    redact: hiding,
    rateLimit: rate,
    budget: counting,
    retry,
    cache: keeping,
    schema: shape,
  } = declaration
  const { dryRun, approval: asking, guardrail: guard, audit, module, wasm } = declaration
  if (hiding) return redact(hiding)
  if (rate) return rateLimit(rate)
  if (counting) return budget(counting)
  if (retry) return { retry }
  if (keeping) return cache(keeping)
  if (shape) return schema(shape)
  if (asking) return approval(asking)
  if (guard) return guardrail(guard, ports.post)
  if (audit) return auditing(ports)
  if (dryRun)
    return { request: () => ({ do: 'answer', receipt: { ok: true, value: dryRun.answer }, read: false }) }
  if (wasm) return component(wasm, ports.component)
  if (module && own) return own.make(module.with ?? null)
  // Its module is not on this node, or its declaration is of a later version: nothing passes.
  return {
    request: () => ({ do: 'refuse', code: 'NoSuchMiddleware', message: 'this node does not have it' }),
  }
}

function auditing({ audit }: Ports): Omit<Middleware, 'name' | 'digest'> {
  return {
    ended: ({ effect, tool, card, args, nowMs }: Call, receipt) =>
      audit({
        time: new Date(nowMs).toISOString(),
        effect,
        tool,
        card,
        args,
        outcome: receipt.ok ? 'done' : `${receipt.error.class} ${receipt.error.code}`,
      }),
  }
}
