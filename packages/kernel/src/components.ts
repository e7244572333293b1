/**
 * Components that manifests name, by the digest of their bytes: kept with the images, compiled when they are
 * first called. Each call is an instance of its own.
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import type { Component, Engine } from '@cardinal/engine'
import { syncFolder, writeFileDurably } from '@cardinal/oplog'
import type { CalledComponent, ComponentBounds } from '@cardinal/tools'
import { KernelError } from './errors.ts'

/** Whoever compiles one holds a thread: QuickJS with a program takes 1.6 MB, StarlingMonkey 12. */
const MAX_BYTES = 32 << 20

export function componentDigest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

export class Components {
  readonly #folder: string
  readonly #engine: Engine
  readonly #loaded = new Map<string, Promise<Component>>()
  /** Calls are spread over the threads; none belongs to an agent. */
  #lane = 0

  constructor(folder: string, engine: Engine) {
    this.#folder = folder
    this.#engine = engine
    fs.mkdirSync(folder, { recursive: true })
  }

  has(digest: string): boolean {
    return fs.existsSync(this.#file(digest))
  }

  /** Throws `BadComponent` for what is none that is run here. */
  async check(bytes: Buffer): Promise<void> {
    this.#engine.unloadComponent(await this.#compile(bytes))
  }

  /** The same, and keeps it; durable when this resolves. */
  async keep(bytes: Buffer): Promise<void> {
    const digest = componentDigest(bytes)
    if (this.has(digest)) return
    await this.check(bytes)
    writeFileDurably(this.#file(digest), bytes)
    syncFolder(this.#folder)
  }

  async run(digest: string, input: string, bounds: ComponentBounds): Promise<CalledComponent> {
    const component = await this.#get(digest)
    this.#lane = (this.#lane + 1) % 1024
    return this.#engine.runComponent(component, 1 + this.#lane, input, bounds)
  }

  #get(digest: string): Promise<Component> {
    const known = this.#loaded.get(digest)
    if (known) return known
    const loading = this.#load(digest)
    this.#loaded.set(digest, loading)
    loading.catch(() => this.#loaded.delete(digest))
    return loading
  }

  async #load(digest: string): Promise<Component> {
    if (!this.has(digest)) throw new KernelError('NotFound', 'NoComponent', `no component ${digest}`)
    const bytes = fs.readFileSync(this.#file(digest))
    if (componentDigest(bytes) !== digest)
      throw new KernelError('Corrupt', 'BadComponent', `${this.#file(digest)} is not what it was`)
    return this.#compile(bytes)
  }

  async #compile(bytes: Buffer): Promise<Component> {
    if (bytes.length > MAX_BYTES)
      throw new KernelError('Malformed', 'BadComponent', `a component of more than ${MAX_BYTES} bytes`)
    const loaded = await this.#engine.loadComponent(bytes)
    if ('id' in loaded) return loaded
    throw new KernelError('Malformed', 'BadComponent', loaded.detail)
  }

  #file(digest: string): string {
    return path.join(this.#folder, `${digest}.wasm`)
  }
}
