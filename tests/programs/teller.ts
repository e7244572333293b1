import { Agent, CardinalError, tool } from '@cardinal/sdk'

/** Uses whatever tool it is told to, and says what came of it. */
export default class Teller extends Agent {
  static methods = { use: {} }

  async use({ name, args }: { name: string; args: unknown }) {
    try {
      return { ok: true, value: await tool(name as never, args as never) }
    } catch (error) {
      if (!(error instanceof CardinalError)) throw error
      return { ok: false, name: error.name, code: error.code, message: error.message, ...pick(error) }
    }
  }
}

function pick(error: object) {
  const { by, missing } = error as { by?: string; missing?: unknown }
  return { ...(by !== undefined && { by }), ...(missing !== undefined && { missing }) }
}
