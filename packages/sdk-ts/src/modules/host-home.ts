/** The home as the SDK image has it: modules that are bundled into a program reach it here. */
import type { HomeError, home } from '../guest/home.ts'

interface Sdk {
  readonly home: typeof home
  readonly HomeError: typeof HomeError
}

const sdk = (globalThis as unknown as Record<symbol, Sdk>)[Symbol.for('cardinal.sdk')] as Sdk

export const agentHome = sdk.home
export const SqlFailure = sdk.HomeError
