/** A component from JavaScript, as `jco componentize --backend qjs` makes it: once for each source in a run. */
import path from 'node:path'
import { componentize } from 'componentize-qjs'

const made = new Map<string, Promise<Buffer>>()

export function componentOf(jsSource: string, world = 'tool', wit = witOf(world)): Promise<Buffer> {
  const key = `${world}\0${wit}\0${jsSource}`
  const known = made.get(key) ?? make(jsSource, world, wit)
  made.set(key, known)
  return known
}

function witOf(world: string): string {
  return path.join(import.meta.dirname, '../components', `${world}.wit`)
}

async function make(jsSource: string, world: string, witPath: string): Promise<Buffer> {
  const { component } = await componentize({ witPath, jsSource, world, stubWasi: true, sync: true })
  return component
}
