/** `node:stream/promises` in an agent. */
import { promises } from './stream.ts'

export const { finished, pipeline } = promises
export default promises
