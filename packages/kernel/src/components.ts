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

/** Calls that are at work at a time, and the memory that all of them may take. */
const MAX_CALLS = 16
const MAX_MEMORY = 2 ** 31
/** Lanes of tenants are counted from 1; these are behind them, so that no component holds up an agent's turns. */
const FIRST_LANE = 2 ** 31
const LANES = 64

/** Those of one component wait for one another where they take long. */
function laneOf(digest: string): number {
  return FIRST_LANE + (Number.parseInt(digest.slice(0, 8), 16) % LANES)
}

class Cancelled extends Error {}

export class Components {
  readonly #folder: string
  readonly #engine: Engine
  readonly #loaded = new Map<string, Promise<Component>>()
  #calls = 0
  #bytes = 0
  readonly #waiting: (() => void)[] = []

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
    const file = this.#file(componentDigest(bytes))
    if (fs.existsSync(file) && fs.readFileSync(file).equals(bytes)) return
    await this.check(bytes)
    writeFileDurably(file, bytes)
    syncFolder(this.#folder)
  }

  /** Rejects where it cannot be had, and where `signal` says that nobody waits any more. */
  async run(
    digest: string,
    input: string,
    bounds: ComponentBounds,
    signal: AbortSignal,
  ): Promise<CalledComponent> {
    const component = await this.#get(digest)
    const leave = await this.#enter(bounds.memoryBytes, signal)
    const called = this.#engine.runComponent(component, laneOf(digest), input, bounds).finally(leave)
    const gone = Promise.withResolvers<never>()
    const end = () => gone.reject(new Cancelled('nobody waits for it any more'))
    signal.addEventListener('abort', end, { once: true })
    try {
      return await Promise.race([called, gone.promise])
    } finally {
      signal.removeEventListener('abort', end)
      // What nobody waits for any more ends by its fuel, and nobody is told.
      called.catch(() => {})
      gone.promise.catch(() => {})
    }
  }

  /** Waits until there is room beside the calls that are at work. Resolves with what gives it back. */
  async #enter(memoryBytes: number, signal: AbortSignal): Promise<() => void> {
    const isRoom = () =>
      this.#calls === 0 || (this.#calls < MAX_CALLS && this.#bytes + memoryBytes <= MAX_MEMORY)
    const next = () => this.#waiting.shift()?.()
    while (!isRoom() && !signal.aborted) await this.#turn(signal)
    if (signal.aborted) {
      // Whoever was woken in vain wakes the one behind.
      if (isRoom()) next()
      throw new Cancelled('nobody waits for it any more')
    }
    this.#calls++
    this.#bytes += memoryBytes
    return () => {
      this.#calls--
      this.#bytes -= memoryBytes
      next()
    }
  }

  /** Resolves when room was given back, or nobody waits any more. */
  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const go = () => {
        signal.removeEventListener('abort', go)
        const at = this.#waiting.indexOf(go)
        if (at >= 0) this.#waiting.splice(at, 1)
        resolve()
      }
      this.#waiting.push(go)
      signal.addEventListener('abort', go, { once: true })
    })
  }

  /** Forgets what was compiled of those that no declaration names any more; their files stay. */
  retain(digests: ReadonlySet<string>): void {
    for (const [digest, loading] of this.#loaded) {
      if (digests.has(digest)) continue
      this.#loaded.delete(digest)
      loading.then((component) => this.#engine.unloadComponent(component)).catch(() => {})
    }
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
