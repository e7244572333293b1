/** Checks arguments and results against schemas that are narrower than the tool's own. */
import { wrongAnswer } from '@cardinal/tools'
import type { MiddlewareDeclaration } from './declaration.ts'
import type { Middleware } from './middleware.ts'

export function schema({
  args,
  answer,
}: NonNullable<MiddlewareDeclaration['schema']>): Omit<Middleware, 'name' | 'digest'> {
  return {
    ...(args && {
      request: (call) => {
        const wrong = wrongAnswer(args, call.args)
        if (wrong === undefined) return { do: 'pass' }
        return {
          do: 'refuse',
          code: 'SchemaRefused',
          message: `the arguments are not as its schema says, at ${wrong}`,
        }
      },
    }),
    ...(answer && {
      response: (_call, value) => {
        const wrong = wrongAnswer(answer, value)
        return wrong === undefined ? { value } : { withhold: `it is not as the schema says, at ${wrong}` }
      },
    }),
  }
}
