/** So much of something in a day or month, for an agent, a type or a tenant. The kernel counts it, durably. */
import type { Budget } from './declaration.ts'
import type { Call, Middleware } from './middleware.ts'

export function budget(budget: Budget): Omit<Middleware, 'name' | 'digest'> {
  return { budget }
}

/** Who shares one budget. */
export function whose(
  { tenant, type, key }: Pick<Call, 'tenant' | 'type' | 'key'>,
  by: Budget['by'],
): string {
  return by === 'tenant' ? tenant : by === 'type' ? `${tenant}/${type}` : `${tenant}/${type}/${key}`
}
