/** The agent that random SQL is asked of. */
import { programFile } from '../support/kernel.ts'

export const KEEPER = {
  name: 'keeper',
  file: programFile('keeper.ts'),
  now: [],
  limits: '{ homeBytes: 4MiB }',
}
