/** A tool that does nothing, at once: what is left is the node's own cost. */
import type { Tool } from '@cardinal/tools'

export const step: Tool = {
  name: 'bench.step',
  about: 'does nothing, at once',
  defaults: {},
  sinks: [],
  yields: [],
  translate: (args) => ({
    request: { tool: ['bench', 'step'], args: new Map(Object.entries(args as object)) },
    cost: { calls: 1, bytesOut: 0 },
    effectClass: 'read',
    plan: null,
  }),
  perform: async () => ({ ok: true, value: null }),
}
