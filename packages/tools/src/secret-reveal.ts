/**
 * `secret.reveal`: hands the bytes of a secret to an agent. An explicit right, never implied by the one to
 * send it somewhere: from then on it is in the agent's memory and in its record, as any answer of a tool.
 */
import { placeOfSecret } from './secret-slot.ts'
import type { Tool } from './tool.ts'

export function secretReveal(): Tool {
  return {
    name: 'secret.reveal',
    about: 'gives an agent the value of a secret that its manifest binds to this tool',
    sinks: [],
    yields: ['secret'],
    defaults: { required: ['secret'], irreversible: true },
    translate: (args, { secrets, key }) => {
      const handle = (args as { secret?: unknown } | null)?.secret
      const binding =
        typeof handle === 'string' && Object.hasOwn(secrets, handle) ? secrets[handle] : undefined
      if (binding?.tool !== 'secret.reveal')
        return { bad: 'a secret that this agent has no handle of for it', code: 'NoSuchSecret' }
      const ref = binding.ref.replaceAll('{key}', key)
      const request = { tool: ['secret', 'reveal'], secret: placeOfSecret(ref), args: new Map() }
      return { request, cost: { calls: 1, bytesOut: 0 }, effectClass: 'read', plan: ref }
    },
    perform: async (plan, attempt) => {
      const secret = await attempt.secret(plan as string)
      if ('class' in secret) return { ok: false, error: secret }
      return { ok: true, value: secret.value.toString() }
    },
  }
}
