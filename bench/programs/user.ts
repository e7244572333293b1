import { Agent, tool } from '@cardinal/sdk'

/** Uses one tool, once. */
export default class User extends Agent {
  static methods = { use: {} }
  async use({ name, args }: { name: string; args: unknown }) {
    return await tool(name as never, args as never)
  }
}
