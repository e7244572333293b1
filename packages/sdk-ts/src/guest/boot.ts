/** Evaluated once into the base image: globals, the SDK, and the three functions the engine calls. */
import './globals.ts'
import './fetch.ts'
import { Agent } from '../agent.ts'
import * as sdk from '../index.ts'
import { collect, deliver, describe, register } from '../runtime.ts'
import * as fileTree from './file-tree.ts'
import { HomeError, home } from './home.ts'
import * as homeRows from './home-rows.ts'
import { type InitialFile, putInitial } from './put-file.ts'
import './context.ts'

const scope = globalThis as unknown as Record<string | symbol, unknown>
scope.__cardinal_deliver = deliver
scope.__cardinal_collect = collect
scope.__cardinal_describe = describe
// The bundler turns `import … from "@cardinal/sdk"` into a read of this one frozen object.
Object.defineProperty(scope, Symbol.for('cardinal.sdk'), {
  value: Object.freeze({
    ...sdk,
    home: Object.freeze(home),
    HomeError,
    fileTree: Object.freeze({ ...fileTree }),
    homeRows: Object.freeze({ ...homeRows }),
    register: (given: unknown, files: readonly InitialFile[] = []) => {
      register(given, Agent as unknown as new () => object)
      putInitial(files)
    },
  }),
})
