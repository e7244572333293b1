/**
 * What turns run on: which engine, and which SQLite. Another one may behave otherwise in something that no record of
 * ours holds, so turns that ran on one are never repeated on another: `drain` saves everybody before a change.
 */
import { KernelError } from './errors.ts'

export interface RunsOn {
  readonly engine: string
  readonly sqlite: string
}

/** The engine of builds that did not say which it was. */
export const FIRST_ENGINE = 'wasmtime-48/host-1'

const NAMES = { engine: 'the engine', sqlite: 'SQLite' } as const

export function ranOnOther(address: string, what: keyof RunsOn, made: string, here: string): KernelError {
  const message = `\`${address}\` has turns after its last save that ran on ${NAMES[what]} ${made}; this is ${here}. Start the kernel that wrote them once more, run \`cardinal drain\`, and stop it: then all is saved`
  return what === 'sqlite'
    ? new KernelError('Unavailable', 'OtherSqlite', message)
    : new KernelError('Unavailable', 'OtherEngine', message)
}
