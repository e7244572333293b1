import { Agent, tools } from '@cardinal/sdk'

/** Says which tools it has. */
export default class Lister extends Agent {
  static methods = { list: {} }
  async list() {
    return await tools()
  }
}
