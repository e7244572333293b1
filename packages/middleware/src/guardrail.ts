/** A customer's classifier: asked over HTTP about what goes out, or what comes back. Only a clear yes lets it pass. */
import type { Guardrail } from './declaration.ts'
import type { Call, Middleware } from './middleware.ts'

/** Posts JSON through the one door out, and gives the JSON that it was answered; rejects for anything else. */
export type PostJson = (url: string, body: unknown, signal: AbortSignal) => Promise<unknown>

export function guardrail({ url, on }: Guardrail, post: PostJson): Omit<Middleware, 'name' | 'digest'> {
  const verdict = async (body: object, signal: AbortSignal): Promise<string | undefined> => {
    const answer = (await post(url, body, signal)) as { allow?: unknown; reason?: unknown } | null
    if (answer?.allow === true) return undefined
    return typeof answer?.reason === 'string' ? answer.reason.slice(0, 200) : 'it does not allow this'
  }
  const said = ({ tool, args, tenant, type, key, effect }: Call) => ({
    tool,
    args,
    agent: `${tenant}/${type}/${key}`,
    effect,
  })
  return {
    leaves: true,
    ...(on.includes('request') && {
      request: async (call, signal) => {
        const no = await verdict({ when: 'request', ...said(call) }, signal)
        return no === undefined ? { do: 'pass' } : { do: 'refuse', code: 'GuardrailRefused', message: no }
      },
    }),
    ...(on.includes('response') && {
      response: async (call, value, signal) => {
        const no = await verdict({ when: 'response', ...said(call), value }, signal)
        return no === undefined ? { value } : { withhold: no }
      },
    }),
  }
}
