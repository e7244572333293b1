/** The home as the SDK image has it: modules that are bundled into a program reach it here. */
import type * as tree from '../guest/file-tree.ts'
import type { HomeError, home } from '../guest/home.ts'
import type * as rows from '../guest/home-rows.ts'

interface Sdk {
  readonly home: typeof home
  readonly HomeError: typeof HomeError
  readonly fileTree: typeof tree
  readonly homeRows: typeof rows
}

const sdk = (globalThis as unknown as Record<symbol, Sdk>)[Symbol.for('cardinal.sdk')] as Sdk

export const agentHome = sdk.home
export const SqlFailure = sdk.HomeError
export const fileTree = sdk.fileTree
export const homeRows = sdk.homeRows
