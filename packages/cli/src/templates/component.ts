/** What `cardinal tools new` writes: a tool in TypeScript that becomes a WebAssembly component. */

const WIT = `package cardinal:tool@0.1.0;

/// A tool: JSON arguments in, a JSON answer out. It is given nothing else.
world tool {
  export run: func(args: string) -> result<string, string>;
}
`

const TOOL = `interface Args {
  readonly a: number
  readonly b: number
}

/** What it throws reaches the agent as the tool's own words; nothing was done then. */
export function run(given: string): string {
  const { a, b } = JSON.parse(given) as Args
  if (!Number.isFinite(a + b)) throw 'numbers that have a sum'
  return JSON.stringify({ sum: a + b })
}
`

const MANIFEST = (tool: string, tenant: string) => `apiVersion: cardinal/v1
kind: Tool
metadata: { tenant: ${tenant}, name: ${tool} }
spec:
  about: the sum of two numbers
  effect: read
  in: { type: object, properties: { a: { type: number }, b: { type: number } }, required: [a, b] }
  out: { type: object, properties: { sum: { type: number } }, required: [sum] }
  wasm: { component: ./tool.wasm, fuel: 1000000000, memory: 64 }
`

const BUILD =
  'esbuild tool.ts --bundle --format=esm --outfile=tool.js && jco componentize tool.js --wit tool.wit --world-name tool --backend qjs --backend-qjs-stub-wasi --backend-qjs-disable-async -o tool.wasm'

/** Files by name. */
export function componentTemplate(tool: string, tenant: string): Readonly<Record<string, string>> {
  const manifest = {
    name: tool.replaceAll('.', '-'),
    private: true,
    type: 'module',
    scripts: { build: BUILD },
    devDependencies: { '@bytecodealliance/jco': '1.35.0', esbuild: '0.28.2' },
  }
  return {
    'tool.ts': TOOL,
    'tool.wit': WIT,
    'tool.yaml': MANIFEST(tool, tenant),
    'package.json': `${JSON.stringify(manifest, null, 2)}\n`,
    '.gitignore': 'node_modules/\ntool.js\n',
  }
}
