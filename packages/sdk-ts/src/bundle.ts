/** Turning a TypeScript program into one script that an image is built from. Runs outside the sandbox, runs nothing of the program. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type BuildFailure, build, type Message, type Plugin } from 'esbuild'

/** What is sent to a node: one script, and the map of its lines to the program's own files. */
export interface Bundle {
  readonly code: string
  readonly map: string
}

/** A module that keeps to the turn ABI, whatever it was written in: its bytes, as base64. */
export interface CoreModule {
  readonly wasm: string
}

/** What an agent's type is made of. */
export type Program = Bundle | CoreModule

/** A program that does not compile: one line a mistake, as `file:line:col message`. */
export class BundleError extends Error {
  readonly class = 'Malformed'
  readonly code = 'BadProgram'
}

const here = path.dirname(fileURLToPath(import.meta.url))
const requireHere = createRequire(import.meta.url)
const SDK = 'globalThis[Symbol.for("cardinal.sdk")]'
const EXPORTS = [
  'Agent',
  'Cancelled',
  'CardinalError',
  'Indeterminate',
  'Refused',
  'Stopped',
  'Unavailable',
  'Withheld',
  'agent',
  'cards',
  'declassify',
  'event',
  'log',
  'secret',
  'offers',
  'sleep',
  'spawn',
  'tool',
  'tools',
]

/** `@cardinal/sdk` is already in the image that a program is evaluated over; importing it reads it from there. */
const sdkFromImage: Plugin = {
  name: 'cardinal-sdk',
  setup(builder) {
    builder.onResolve({ filter: /^@cardinal\/sdk$/ }, () => ({ path: 'sdk', namespace: 'cardinal' }))
    builder.onResolve({ filter: /^@cardinal\/sdk\/graph$/ }, () => ({
      path: path.join(here, 'modules', 'graph.ts'),
    }))
    builder.onLoad({ filter: /.*/, namespace: 'cardinal' }, () => ({
      contents: `const sdk = ${SDK};\nexport const { ${EXPORTS.join(', ')} } = sdk;`,
      loader: 'js',
    }))
  },
}

/** Modules of Node that an agent has, and packages in whose place ours stand. */
const MODULES: Readonly<Record<string, string>> = {
  'better-sqlite3': 'better-sqlite3.ts',
  fs: 'fs.ts',
  'fs/promises': 'fs-promises.ts',
  path: 'path.ts',
  'path/posix': 'path.ts',
  process: 'process.ts',
  sqlite: 'sqlite.ts',
  stream: 'stream.ts',
  'stream/promises': 'stream-promises.ts',
}
/** Packages that are what Node calls by the same name. */
const PACKAGES: Readonly<Record<string, string>> = {
  buffer: 'buffer/index.js',
  events: 'events/events.js',
  string_decoder: 'string_decoder/lib/string_decoder.js',
}
/** Without `node:` a program means the package, where Node does not keep the name for itself. */
const ALSO_BARE =
  /^(better-sqlite3|fs|fs\/promises|path|path\/posix|process\/?|stream|stream\/promises|events|string_decoder|buffer)$/

/** `node:sqlite` and what else a program may import from Node is bundled with it, from the SDK. */
const nodeModules: Plugin = {
  name: 'cardinal-node',
  setup(builder) {
    const resolve = (name: string) => {
      const file = MODULES[name]
      if (file !== undefined) return { path: path.join(here, 'modules', file) }
      const bundled = PACKAGES[name]
      return bundled === undefined ? undefined : { path: requireHere.resolve(bundled) }
    }
    builder.onResolve({ filter: /^node:/ }, ({ path: name }) => resolve(name.slice('node:'.length)))
    builder.onLoad({ filter: /path-browserify[\\/]index\.js$/ }, async ({ path: file }) => ({
      contents: `const process = { cwd: () => '/' };\n${await readFile(file, 'utf8')}`,
      loader: 'js',
    }))
    builder.onResolve({ filter: ALSO_BARE }, ({ path: name }) => resolve(name.replace(/\/$/, '')))
  },
}

/**
 * Bundles the program at `file`; `files` are all that were read for it. `initial` are files that every
 * agent of it begins with, 4 MiB in all: where they stand, and their bytes.
 *
 * @example
 * const { code } = await bundleProgram('/agents/clerk.ts')
 */
export async function bundleProgram(
  file: string,
  initial: Iterable<readonly [path: string, bytes: Buffer]> = [],
): Promise<Bundle & { readonly files: string[] }> {
  const root = path.dirname(file)
  const given = JSON.stringify(initialFiles(initial))
  const contents = `import program from ${JSON.stringify(`./${path.basename(file)}`)};\n${SDK}.register(program, ${given});`
  const entry = { resolveDir: root, sourcefile: 'cardinal:entry' }
  const plain = await bundle({ ...entry, contents }, root)
  if (!NAMES_INTL.test(plain.code)) return plain
  const intl = path.join(here, 'guest', 'intl.ts')
  return bundle({ ...entry, contents: `import ${JSON.stringify(intl)};\n${contents}` }, root)
}

const CHUNK = 65_536
const MAX_INITIAL = 4 << 20

/** As the guest writes them: their chunks in hex. They are in the image, which all agents of it share. */
function initialFiles(files: Iterable<readonly [path: string, bytes: Buffer]>): [string, string[]][] {
  let left = MAX_INITIAL
  return [...files].map(([at, bytes]) => {
    left -= bytes.length
    if (left < 0) throw new BundleError(`initial files of more than ${MAX_INITIAL} bytes, with \`${at}\``)
    const chunks: string[] = []
    for (let i = 0; i < bytes.length; i += CHUNK) chunks.push(bytes.subarray(i, i + CHUNK).toString('hex'))
    return [at, chunks]
  })
}

/**
 * Async functions become generators over `then`, and so go through the `then` of `guest/context.ts`,
 * which keeps them with the invocation that they serve; the language's own `await` cannot be told.
 */
const LOWERED = { 'async-await': false, 'async-generator': false, 'for-await': false }

/** What a program that needs `Intl` cannot do without writing. `Buffer` only has another name for its `toString`. */
const NAMES_INTL = /\bIntl\b|\btoLocale(?:|Date|Time)String\b(?! = Buffer\d*\.prototype\.toString\b)/

/** Bundles what every image begins with: globals, SDK and the turn functions. */
export async function bundleGuest(): Promise<Bundle> {
  const entry = { contents: 'import "./guest/boot.ts"', resolveDir: here, sourcefile: 'cardinal:entry' }
  // The SDK itself waits by the language's own `await`, which no program can poison.
  const { code, map } = await bundle(entry, here, false)
  return { code, map }
}

async function bundle(
  stdin: { contents: string; resolveDir: string; sourcefile: string },
  root: string,
  lowered = true,
): Promise<Bundle & { readonly files: string[] }> {
  try {
    const result = await build({
      stdin: { ...stdin, loader: 'js' },
      absWorkingDir: root,
      bundle: true,
      write: false,
      metafile: true,
      outfile: 'program.js',
      format: 'iife',
      target: 'es2023',
      // Names that a program gave its classes are data: they stand in errors, fields and answers.
      keepNames: true,
      // What many packages ask for at their top, and no bundler leaves in.
      define: { 'process.env.NODE_ENV': '"production"' },
      ...(lowered && { supported: LOWERED }),
      platform: 'neutral',
      mainFields: ['module', 'main'],
      conditions: ['import', 'module', 'default'],
      sourcemap: 'external',
      sourcesContent: false,
      charset: 'utf8',
      logLevel: 'silent',
      legalComments: 'none',
      // A program beside no node_modules of its own still finds what the SDK offers, such as zod.
      nodePaths: [path.join(here, '..', 'node_modules')],
      plugins: stdin.contents.includes('guest/boot') ? [] : [sdkFromImage, nodeModules],
    })
    const [map, code] = ['.map', '.js'].map(
      (end) => result.outputFiles.find((f) => f.path.endsWith(end))?.text ?? '',
    )
    const files = Object.keys(result.metafile.inputs)
      .filter((name) => !/^(cardinal|<)/.test(name))
      .map((name) => path.resolve(root, name))
    return { code: code as string, map: map as string, files }
  } catch (error) {
    const failure = error as BuildFailure
    if (!Array.isArray(failure.errors)) throw error
    throw new BundleError(failure.errors.map(showMessage).join('\n'))
  }
}

function showMessage({ location, text }: Message): string {
  if (/Top-level await is not/.test(text) && location)
    return `${location.file}:${location.line}:${location.column + 1} a program has no top-level await: it is loaded once, when its image is built; await inside a method`
  const hint = /Could not resolve "node:|Could not resolve "(fs|path|net|http|child_process)"/.test(text)
    ? ' (an agent has no Node modules; see docs/globals.md)'
    : ''
  return location ? `${location.file}:${location.line}:${location.column + 1} ${text}${hint}` : text
}
