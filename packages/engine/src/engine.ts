/**
 * The engine as the kernel uses it: images, instances and turns.
 *
 * A guest's failure is a value in the outcome; a host's failure is thrown, and then the attempt
 * never happened. Mirrors `engine.rs`. Owns the native threads; holds no policy.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

interface NativeOutcome {
  readonly job: number
  readonly status: 'ok' | 'guest' | 'host'
  readonly kind?: string
  readonly detail?: string
  readonly output?: Buffer
  readonly fuel: number
  readonly micros: number
}

interface NativeEngine {
  boot(job: number, script: Buffer): void
  extend(job: number, parent: number, script: Buffer, name: string): void
  load(job: number, id: number, bytes: Buffer, described: boolean, warm: Buffer): void
  unload(id: number): void
  create(instance: number, image: number, maximum: number, saved?: Buffer): void
  deliver(
    job: number,
    instance: number,
    lane: number,
    events: Buffer,
    clockMs: number,
    seed: Buffer,
    fuel: number,
  ): void
  save(job: number, instance: number, lane: number): void
  drop(instance: number): void
  take(): NativeOutcome[]
  close(): void
}

interface NativeOptions {
  readonly threads: number
  readonly optimize: boolean
  readonly wasm: Buffer
  readonly cacheFolder?: string
  readonly cacheKey?: Buffer
}

type NativeModule = { Engine: new (options: NativeOptions, notify: () => void) => NativeEngine }

export interface EngineOptions {
  /** Turn threads; the number of cores is a good choice. */
  readonly threads: number
  /** Compile for speed (the default) or fast to compile; guests behave the same under both. */
  readonly optimize?: boolean
  /** Where compiled artefacts are kept, and the key that marks them as this node's own. */
  readonly cache?: { readonly folder: string; readonly key: Buffer }
}

/** The guest's own doing: the same on every machine and every run. */
export interface GuestFailure {
  readonly ok: false
  readonly kind: string
  readonly detail: string
}

export type Built = { readonly ok: true; readonly bytes: Buffer } | GuestFailure
export type TurnOutcome =
  | { readonly ok: true; readonly output: Buffer; readonly fuel: number; readonly micros: number }
  | (GuestFailure & { readonly micros: number })

/** The host could not do what was asked; nothing happened. */
export class EngineFailure extends Error {}

export interface Turn {
  readonly events: readonly Buffer[]
  readonly clockMs: number
  /** 32 bytes. */
  readonly seed: Buffer
  readonly fuel: number
}

/** A program with its initialised memory, mapped by all its instances. Lives until `unload`. */
export interface Image {
  readonly id: number
  /** What the program declares of itself, as JSON. */
  readonly about: string
}

/** One guest. Turns and saves of one instance must not overlap; the caller sees to that. */
export interface Instance {
  readonly id: number
}

interface Waiting {
  readonly resolve: (outcome: NativeOutcome) => void
  readonly reject: (error: Error) => void
}

/** Identifies guest kind and build: replay never crosses a change of it. */
export const ENGINE_VERSION = 'wasmtime-48.0.8/quickjs-wasi-3.6.2/3'

export class Engine {
  readonly #native: NativeEngine
  readonly #waiting = new Map<number, Waiting>()
  // The native callback is weak; this timer keeps the process alive exactly while a job is open.
  readonly #alive = setInterval(() => {}, 2 ** 30).unref()
  #nextJob = 1
  #nextId = 1
  #closed = false

  /**
   * Opens an engine with its own threads. Close it, or the process stays alive.
   *
   * @example
   * const engine = new Engine({ threads: 2 })
   * const image = await engine.load(bytes)
   * const instance = engine.create(image, { maximumBytes: 64 << 20 })
   */
  constructor(options: EngineOptions) {
    const native = require('../build/engine.node') as NativeModule
    const { cache } = options
    this.#native = new native.Engine(
      {
        threads: options.threads,
        optimize: options.optimize ?? true,
        wasm: readFileSync(require.resolve('quickjs-wasi/quickjs.wasm')),
        ...(cache && { cacheFolder: cache.folder, cacheKey: cache.key }),
      },
      () => this.#drain(),
    )
  }

  /** Boots QuickJS, evaluates the SDK and returns the bytes of an image. */
  async boot(script: Buffer): Promise<Built> {
    return built(await this.#job((job) => this.#native.boot(job, script)))
  }

  /** Evaluates a program over an image and returns the bytes of a new image. */
  async extend(parent: Image, script: Buffer, name: string): Promise<Built> {
    return built(await this.#job((job) => this.#native.extend(job, parent.id, script, name)))
  }

  /**
   * Maps image bytes for instances; `about` is read from the program, unless it is a bare base. `warm`
   * are events of a first turn as instances will see it; it is run once and thrown away.
   */
  async load(
    bytes: Buffer,
    options: { readonly base?: boolean; readonly warm?: readonly Buffer[] } = {},
  ): Promise<Image> {
    const id = this.#nextId++
    const outcome = await this.#job((job) =>
      this.#native.load(job, id, bytes, !options.base, frame(options.warm ?? [])),
    )
    if (outcome.status === 'guest') throw new EngineFailure(`image: ${outcome.kind}: ${outcome.detail}`)
    return { id, about: requireOutput(outcome).toString() }
  }

  unload(image: Image): void {
    this.#native.unload(image.id)
  }

  /** Reserves an instance over an image, or over an image and a snapshot of an instance of it. */
  create(image: Image, options: { readonly maximumBytes: number; readonly saved?: Buffer }): Instance {
    const id = this.#nextId++
    this.#native.create(id, image.id, options.maximumBytes, options.saved)
    return { id }
  }

  /**
   * Runs one turn on a turn thread. `lane` is whoever shares a cap on long turns: a tenant.
   * After an outcome that is not ok the instance is gone; drop it.
   */
  async deliver(instance: Instance, lane: number, turn: Turn): Promise<TurnOutcome> {
    const events = frame(turn.events)
    const outcome = await this.#job((job) =>
      this.#native.deliver(job, instance.id, lane, events, turn.clockMs, turn.seed, turn.fuel),
    )
    if (outcome.status === 'guest') return { ...guestFailure(outcome), micros: outcome.micros }
    return { ok: true, output: requireOutput(outcome), fuel: outcome.fuel, micros: outcome.micros }
  }

  /** The snapshot of a quiet instance: what its memory holds beyond its image. */
  async save(instance: Instance, lane: number): Promise<Buffer> {
    return requireOutput(await this.#job((job) => this.#native.save(job, instance.id, lane)))
  }

  drop(instance: Instance): void {
    this.#native.drop(instance.id)
  }

  /** Ends the threads. Jobs that have not ended are rejected. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native.close()
    clearInterval(this.#alive)
    for (const waiting of this.#waiting.values()) waiting.reject(new EngineFailure('the engine was closed'))
    this.#waiting.clear()
  }

  #job(submit: (job: number) => void): Promise<NativeOutcome> {
    if (this.#closed) return Promise.reject(new EngineFailure('the engine was closed'))
    const job = this.#nextJob++
    return new Promise((resolve, reject) => {
      this.#waiting.set(job, { resolve, reject })
      if (this.#waiting.size === 1) this.#alive.ref()
      try {
        submit(job)
      } catch (error) {
        this.#waiting.delete(job)
        reject(new EngineFailure(error instanceof Error ? error.message : String(error)))
      }
    })
  }

  #drain(): void {
    for (const outcome of this.#native.take()) {
      const waiting = this.#waiting.get(outcome.job)
      this.#waiting.delete(outcome.job)
      if (this.#waiting.size === 0) this.#alive.unref()
      if (outcome.status === 'host') waiting?.reject(new EngineFailure(outcome.detail ?? 'unknown'))
      else waiting?.resolve(outcome)
    }
  }
}

function built(outcome: NativeOutcome): Built {
  if (outcome.status === 'guest') return guestFailure(outcome)
  return { ok: true, bytes: requireOutput(outcome) }
}

function guestFailure(outcome: NativeOutcome): GuestFailure {
  return { ok: false, kind: outcome.kind ?? 'Trap', detail: outcome.detail ?? '' }
}

function requireOutput(outcome: NativeOutcome): Buffer {
  if (!outcome.output) throw new EngineFailure('an outcome without output')
  return outcome.output
}

function frame(events: readonly Buffer[]): Buffer {
  let size = 0
  for (const event of events) size += 4 + event.length
  const out = Buffer.allocUnsafe(size)
  let at = 0
  for (const event of events) {
    at = out.writeUInt32LE(event.length, at)
    at += event.copy(out, at)
  }
  return out
}
