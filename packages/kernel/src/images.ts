/**
 * Programs as images: built once, kept in the data folder by the hash of their bytes, mapped by all
 * their instances. Images are durable data: replay needs exactly the one an agent was born with.
 */
import fs from 'node:fs'
import { SourceMap } from 'node:module'
import path from 'node:path'
import { ENGINE_VERSION, type Engine, type Image } from '@cardinal/engine'
import { sha256, syncFolder, writeFileDurably } from '@cardinal/oplog'
import { type Bundle, bundleGuest } from '@cardinal/sdk/bundle'
import { KernelError } from './errors.ts'

export interface MethodInfo {
  readonly about?: string
  readonly shared?: boolean
  readonly authority?: 'caller' | 'own'
  /** What it lets callers add to the agent. */
  readonly admits?: '*' | { readonly labels?: readonly string[]; readonly flow?: readonly string[] }
  readonly in?: Record<string, unknown>
  readonly out?: Record<string, unknown>
}

export interface LoadedImage {
  readonly hash: string
  readonly image: Image
  readonly methods: Readonly<Record<string, MethodInfo>>
}

/** A first turn that asks for nothing: instances of any program begin like this. */
const WARM = [
  '{"t":"birth","address":"a/a/a","key":"a","card":{"id":""}}',
  '{"t":"invoke","id":"","method":"","args":null}',
].map((event) => Buffer.from(event))

export class Images {
  readonly #folder: string
  readonly #engine: Engine
  readonly #loaded = new Map<string, Promise<LoadedImage>>()
  readonly #maps = new Map<string, SourceMap>()
  #base: Promise<Image> | undefined

  constructor(folder: string, engine: Engine) {
    this.#folder = folder
    this.#engine = engine
    fs.mkdirSync(folder, { recursive: true })
  }

  /** The hash of the image that a program makes. Writes nothing. */
  async hashOf(bundle: Bundle, name: string): Promise<string> {
    return sha256(await this.#extend(bundle, name)).toString('hex')
  }

  /** Builds a program's image, or finds it; durable when this resolves. A program that throws while it loads is `BadProgram`. */
  async build(bundle: Bundle, name: string): Promise<LoadedImage> {
    const bytes = await this.#extend(bundle, name)
    const hash = sha256(bytes).toString('hex')
    this.#write(`${hash}.map`, bundle.map)
    this.#write(`${hash}.img`, bytes)
    try {
      return await this.get(hash)
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== 'BadImage') throw error
      throw new KernelError('Malformed', 'BadProgram', this.#mapped(error.message, bundle.map))
    }
  }

  async #extend(bundle: Bundle, name: string): Promise<Buffer> {
    const built = await this.#engine.extend(await this.#requireBase(), Buffer.from(bundle.code), `${name}.js`)
    if (built.ok) return built.bytes
    throw new KernelError(
      'Malformed',
      'BadProgram',
      `the program failed while it was loaded: ${this.#mapped(built.detail, bundle.map)}`,
    )
  }

  /** Loads an image by its hash; what lies in the file must answer to it. */
  get(hash: string): Promise<LoadedImage> {
    const known = this.#loaded.get(hash)
    if (known) return known
    const loading = this.#load(hash)
    this.#loaded.set(hash, loading)
    loading.catch(() => this.#loaded.delete(hash))
    return loading
  }

  /** A guest's stack with the program's own files and lines; frames of the SDK are left out. */
  mapStack(hash: string, text: string): string {
    if (!text.includes('    at ')) return text
    let map = this.#maps.get(hash)
    if (!map) {
      const file = path.join(this.#folder, `${hash}.map`)
      if (!fs.existsSync(file)) return text
      map = new SourceMap(JSON.parse(fs.readFileSync(file, 'utf8')))
      this.#maps.set(hash, map)
    }
    return mapLines(text, map)
  }

  #mapped(text: string, map: string): string {
    return map === '' ? text : mapLines(text, new SourceMap(JSON.parse(map)))
  }

  async #load(hash: string): Promise<LoadedImage> {
    const file = path.join(this.#folder, `${hash}.img`)
    if (!fs.existsSync(file))
      throw new KernelError('Corrupt', 'NoImage', `image \`${hash}\` is missing from \`images\``)
    const bytes = fs.readFileSync(file)
    if (sha256(bytes).toString('hex') !== hash)
      throw new KernelError('Corrupt', 'NoImage', `image \`${hash}\` does not answer to its hash`)
    let image: Image
    try {
      image = await this.#engine.load(bytes, { warm: WARM })
    } catch (error) {
      throw new KernelError('Malformed', 'BadImage', (error as Error).message.replace(/^image: \w+: /, ''))
    }
    const { methods } = JSON.parse(image.about) as { methods: Record<string, MethodInfo> }
    return { hash, image, methods }
  }

  #requireBase(): Promise<Image> {
    this.#base ??= this.#loadBase()
    return this.#base
  }

  async #loadBase(): Promise<Image> {
    const guest = await bundleGuest()
    const name = `base-${sha256(Buffer.from(`${ENGINE_VERSION}\0${guest.code}`)).toString('hex')}.img`
    const file = path.join(this.#folder, name)
    if (!fs.existsSync(file)) {
      const built = await this.#engine.boot(Buffer.from(guest.code))
      if (!built.ok)
        throw new KernelError('Bug', 'BadImage', `the SDK does not boot: ${built.kind}: ${built.detail}`)
      this.#write(name, built.bytes)
    }
    return this.#engine.load(fs.readFileSync(file), { base: true })
  }

  #write(name: string, bytes: string | Buffer): void {
    const file = path.join(this.#folder, name)
    if (fs.existsSync(file)) return
    writeFileDurably(file, bytes)
    syncFolder(this.#folder)
  }
}

const FRAME = /^\s*at (.*?)\s*\(?([^\s()]+):(\d+):(\d+)\)?$/

function mapLines(text: string, map: SourceMap): string {
  const lines: string[] = []
  for (const line of text.split('\n')) {
    const frame = FRAME.exec(line)
    if (!frame) {
      if (line.trim() !== '') lines.push(line)
      continue
    }
    const [, name = '', file = '', row = '1', column = '1'] = frame
    if (file.startsWith('cardinal:') || file === 'native') continue
    const entry = map.findEntry(Number(row) - 1, Number(column) - 1)
    if (!('originalSource' in entry) || entry.originalSource.startsWith('cardinal:')) continue
    lines.push(
      `    at ${name} (${entry.originalSource}:${entry.originalLine + 1}:${entry.originalColumn + 1})`,
    )
  }
  return lines.join('\n')
}
