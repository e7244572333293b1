/**
 * Programs as images: built once, kept in the data folder by the hash of their bytes, mapped by all
 * their instances. Images are durable data: replay needs exactly the one an agent was born with.
 *
 * They lie in layers, each a difference from the one below: QuickJS, the SDK over it, a program over that. A
 * program of TypeScript is some kilobytes; a core module is a layer of its own, beside the module that it runs.
 */
import fs from 'node:fs'
import { SourceMap } from 'node:module'
import path from 'node:path'
import { type Built, ENGINE_VERSION, type Engine, type Image, readImage } from '@cardinal/engine'
import { sha256, syncFolder, writeFileDurably } from '@cardinal/oplog'
import { bundleGuest, type Program } from '@cardinal/sdk/bundle'
import { KernelError } from './errors.ts'
import { birthEvent } from './wire.ts'

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

/** A first turn that asks for nothing: instances of any program begin like this. No word of it is anybody's. */
const WARM = [
  birthEvent({ tenant: 'tenant', type: 'agent', key: 'somebody' }, ['card_00000000000000000000']),
  Buffer.from('{"t":"rehearse","id":"inv_000000000000000000000000","method":"status","args":null}'),
]

/** Images that stay loaded though nobody lives over them: each takes some kilobytes. */
const MAX_IDLE = 1024

export class Images {
  readonly #folder: string
  readonly #engine: Engine
  readonly #onNotice: (text: string) => void
  /** The one that was asked for longest ago is the first. */
  readonly #loaded = new Map<string, Promise<LoadedImage>>()
  /** How many agents that are awake live over each. */
  readonly #held = new Map<string, number>()
  readonly #maps = new Map<string, SourceMap>()
  /** Layers that programs lie over. */
  readonly #layers = new Map<string, Promise<Image>>()
  #sdk: Promise<Image> | undefined

  constructor(folder: string, engine: Engine, onNotice: (text: string) => void) {
    this.#onNotice = onNotice
    this.#folder = folder
    this.#engine = engine
    fs.mkdirSync(folder, { recursive: true })
  }

  /** The hash of the image that a program makes. Writes nothing but the layers below it. */
  async hashOf(program: Program, name: string): Promise<string> {
    return sha256(await this.#make(program, name)).toString('hex')
  }

  /**
   * Builds a program's image, or finds it; durable when this resolves. A program that throws while it loads, and a
   * module whose state could not be saved, is `BadProgram`.
   */
  async build(program: Program, name: string): Promise<LoadedImage> {
    const bytes = await this.#make(program, name)
    const hash = sha256(bytes).toString('hex')
    const map = 'code' in program ? program.map : ''
    if ('wasm' in program) {
      const wasm = Buffer.from(program.wasm, 'base64')
      this.#write(`${sha256(wasm).toString('hex')}.wasm`, wasm)
    } else this.#write(`${hash}.map`, map)
    this.#write(`${hash}.img`, bytes)
    try {
      return await this.get(hash)
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== 'BadImage') throw error
      throw new KernelError('Malformed', 'BadProgram', this.#mapped(error.message, map))
    }
  }

  async #make(program: Program, name: string): Promise<Buffer> {
    if ('wasm' in program) {
      const built = await this.#engine.build(Buffer.from(program.wasm, 'base64'))
      if (built.ok) return built.bytes
      throw new KernelError('Malformed', 'BadProgram', `the module of \`${name}\`: ${built.detail}`)
    }
    const built = await this.#engine.extend(await this.#requireSdk(), Buffer.from(program.code), `${name}.js`)
    if (built.ok) return built.bytes
    throw new KernelError(
      'Malformed',
      'BadProgram',
      `the program failed while it was loaded: ${this.#mapped(built.detail, program.map)}`,
    )
  }

  /** Loads an image by its hash; what lies in the file must answer to it. */
  get(hash: string): Promise<LoadedImage> {
    const known = this.#loaded.get(hash)
    const loading = known ?? this.#load(hash)
    this.#loaded.delete(hash)
    this.#loaded.set(hash, loading)
    if (known === undefined) {
      loading.catch(() => this.#loaded.delete(hash))
      this.#unloadIdle()
    }
    return loading
  }

  /** Somebody lives over it. */
  hold({ hash }: LoadedImage): void {
    this.#held.set(hash, (this.#held.get(hash) ?? 0) + 1)
  }

  /** Somebody who held it is gone. */
  letGo({ hash }: LoadedImage): void {
    const left = (this.#held.get(hash) ?? 0) - 1
    if (left > 0) this.#held.set(hash, left)
    else this.#held.delete(hash)
  }

  #unloadIdle(): void {
    for (const [hash, loading] of this.#loaded) {
      if (this.#loaded.size <= this.#held.size + MAX_IDLE) return
      if (this.#held.has(hash)) continue
      this.#loaded.delete(hash)
      this.#maps.delete(hash)
      loading.then(
        ({ image }) => this.#engine.unload(image),
        () => {},
      )
    }
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

  /** The bytes of a file that is called by their hash. */
  #read(name: string): Buffer {
    const file = path.join(this.#folder, name)
    const what = `image \`${name.replace(/\.img$/, '')}\``
    if (!fs.existsSync(file))
      throw new KernelError('Corrupt', 'NoImage', `${what} is missing from \`images\``)
    const bytes = fs.readFileSync(file)
    if (sha256(bytes).toString('hex') !== path.parse(name).name)
      throw new KernelError('Corrupt', 'NoImage', `${what} does not answer to its hash`)
    return bytes
  }

  #readIfWhole(name: string): Buffer | undefined {
    try {
      return this.#read(name)
    } catch (error) {
      if (error instanceof KernelError) return undefined
      throw error
    }
  }

  async #load(hash: string): Promise<LoadedImage> {
    const opened = await this.#open(this.#read(`${hash}.img`), { warm: WARM })
    const image = await this.#withFirst(hash, opened)
    const { methods } = JSON.parse(image.about) as { methods: Record<string, MethodInfo> }
    return { hash, image, methods }
  }

  /**
   * With the first turn that its agents are saved over: rehearsed once, and kept, for what is saved over it is lost
   * with it. A program that fails in it has none, and neither has one for whose there is no room now: it only saves room.
   */
  async #withFirst(hash: string, image: Image): Promise<Image> {
    try {
      return await this.#requireFirst(hash, image)
    } catch (error) {
      this.#onNotice(`image \`${hash}\` is used without a first turn: ${(error as Error).message}`)
      return image
    }
  }

  async #requireFirst(hash: string, image: Image): Promise<Image> {
    const name = `first-of-${hash}`
    const known = this.#pointed(name)
    const kept = known === undefined ? undefined : this.#readIfWhole(`${known}.first`)
    if (kept) return this.#engine.withFirst(image, kept)
    if (known !== undefined) fs.rmSync(path.join(this.#folder, `${known}.first`), { force: true })
    const first = await this.#engine.rehearse(image, WARM)
    if (!first.ok) return image
    this.#point(name, first.bytes, 'first')
    return this.#engine.withFirst(image, first.bytes)
  }

  /** With what it lies over, and the module that it was made of. */
  async #open(bytes: Buffer, options: Parameters<Engine['load']>[1]): Promise<Image> {
    const { parent, module } = readImage(bytes)
    const over = parent === undefined ? undefined : await this.#layer(parent)
    const wasm = module === undefined ? undefined : this.#read(`${module}.wasm`)
    try {
      return await this.#engine.load(bytes, { ...options, parent: over, wasm })
    } catch (error) {
      throw new KernelError('Malformed', 'BadImage', (error as Error).message.replace(/^image: \w+: /, ''))
    }
  }

  /** A layer that others lie over, by its hash. It stays. */
  #layer(hash: string): Promise<Image> {
    const known = this.#layers.get(hash)
    if (known) return known
    const loading = (async () => this.#open(this.#read(`${hash}.img`), { base: true }))()
    this.#layers.set(hash, loading)
    loading.catch(() => this.#layers.delete(hash))
    return loading
  }

  #requireSdk(): Promise<Image> {
    this.#sdk ??= this.#loadSdk()
    this.#sdk.catch(() => {
      this.#sdk = undefined
    })
    return this.#sdk
  }

  /** The layers that this build makes, kept by what they are made of. */
  async #loadSdk(): Promise<Image> {
    const guest = await bundleGuest()
    const engine = await this.#madeOf(ENGINE_VERSION, () => this.#engine.boot())
    return this.#layer(
      await this.#madeOf(`${ENGINE_VERSION}\0${guest.code}`, async () =>
        this.#engine.extend(await this.#layer(engine), Buffer.from(guest.code), 'cardinal:sdk', {
          sdk: true,
        }),
      ),
    )
  }

  /** The hash of a layer, made unless this folder knows it. */
  async #madeOf(inputs: string, make: () => Promise<Built>): Promise<string> {
    const name = `made-of-${sha256(Buffer.from(inputs)).toString('hex')}`
    const known = this.#pointed(name)
    if (known !== undefined && fs.existsSync(path.join(this.#folder, `${known}.img`))) return known
    const built = await make()
    if (!built.ok)
      throw new KernelError('Bug', 'BadImage', `a layer is not made: ${built.kind}: ${built.detail}`)
    return this.#point(name, built.bytes, 'img')
  }

  /** The hash that a file says. */
  #pointed(name: string): string | undefined {
    const file = path.join(this.#folder, name)
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : undefined
  }

  /** Writes bytes under their hash, and then a file that says which. */
  #point(name: string, bytes: Buffer, ending: 'img' | 'first'): string {
    const hash = sha256(bytes).toString('hex')
    this.#write(`${hash}.${ending}`, bytes)
    fs.rmSync(path.join(this.#folder, name), { force: true })
    this.#write(name, hash)
    return hash
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
