/** What packages made for Node ask of `process` and an agent can give: work that comes next, in the same turn. */
export function nextTick(act: (...given: unknown[]) => void, ...given: unknown[]): void {
  queueMicrotask(() => act(...given))
}

export const env = {}
export default { nextTick, env }
