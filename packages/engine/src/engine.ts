/**
 * The engine as the kernel uses it: images, instances and turns.
 *
 * A guest's failure is a value in the outcome; a host's failure is thrown, and then the attempt
 * never happened. Mirrors `engine.rs`. Owns the native threads; holds no policy.
 */
import { createHash } from 'node:crypto'
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
  readonly home?: { readonly digest: Buffer; readonly stops: readonly number[] }
  readonly denied: boolean
}

interface NativeHome {
  readonly found?: number
  readonly file: string
}

interface NativeEngine {
  boot(job: number): void
  extend(job: number, parent: number, script: Buffer, name: string, sdk: boolean): void
  build(job: number, wasm: Buffer): void
  load(
    job: number,
    id: number,
    bytes: Buffer,
    parent: number | undefined,
    wasm: Buffer | undefined,
    described: boolean,
    warm: Buffer,
  ): void
  rehearse(job: number, image: number, events: Buffer): void
  setFirst(image: number, first: Buffer): void
  unload(id: number): void
  create(instance: number, image: number, saved?: Buffer, home?: NativeHome): void
  deliver(
    job: number,
    instance: number,
    lane: number,
    events: Buffer,
    clockMs: number,
    seed: Buffer,
    fuel: number,
    memory: number,
    steps: number,
    quota: number,
    repeat?: number[],
  ): void
  findHome(job: number, id: number, file: string): void
  dropHome(id: number): void
  commitHome(job: number, instance: number, lane: number, seq: number, hash: Buffer, bytes: Buffer): void
  readHome(
    job: number,
    instance: number,
    lane: number,
    sql: string,
    max: number,
    steps: number,
    clockMs: number,
  ): void
  checkHome(job: number, instance: number, lane: number): void
  checkpointFile(job: number, file: string): void
  parkHome(job: number, instance: number, lane: number): void
  descriptors(): number
  exportHome(job: number, instance: number, lane: number, to: string): void
  checkExport(job: number, file: string): void
  adoptHome(job: number, id: number, from: string, to: string): void
  checkpointHome(job: number, instance: number, lane: number): void
  loadComponent(job: number, id: number, bytes: Buffer): void
  unloadComponent(id: number): void
  runComponent(job: number, id: number, lane: number, input: string, fuel: number, memory: number): void
  save(job: number, instance: number, lane: number): void
  drop(instance: number): void
  setWeight(lane: number, weight: number): void
  take(): NativeOutcome[]
  close(): void
}

interface NativeOptions {
  readonly threads: number
  readonly compiler: Compiler
  readonly wasm: Buffer
  readonly cacheFolder?: string
  readonly cacheKey?: Buffer
}

type NativeModule = { Engine: new (options: NativeOptions, notify: () => void) => NativeEngine }

/**
 * How guests are run: machine code compiled for speed (the default), machine code compiled quickly, or wasmtime's
 * own bytecode. They behave the same under all of them, to the byte.
 */
export type Compiler = 'optimized' | 'quick' | 'pulley'

export interface EngineOptions {
  /** Turn threads; the number of cores is a good choice. */
  readonly threads: number
  readonly compiler?: Compiler
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
  | {
      readonly ok: true
      readonly output: Buffer
      readonly fuel: number
      readonly micros: number
      /** Undefined: the turn did not touch its home. */
      readonly home: HomeUse | undefined
      /** It wanted more memory than it may have, and may have told nobody. */
      readonly denied: boolean
    }
  | (GuestFailure & { readonly micros: number; readonly denied: boolean })

/** The host could not do what was asked; nothing happened. */
export class EngineFailure extends Error {
  /** The disk under a home: full, or it does not answer. */
  get ofDisk(): boolean {
    return this.message.startsWith('home: the disk: ')
  }

  /** Something about a home. It may be what the guest does there. */
  get ofHome(): boolean {
    return this.message.startsWith('home: ')
  }
}

export interface Turn {
  readonly events: readonly Buffer[]
  readonly clockMs: number
  /** 32 bytes. */
  readonly seed: Buffer
  readonly fuel: number
  /** Bytes to which its linear memory may grow. What is more already stays. */
  readonly memoryBytes: number
  /** Steps of SQL; 100 nanoseconds of a processor count as one at least. */
  readonly sqlSteps: number
  /** Bytes that the tables, files and indexes of its home may take. */
  readonly homeBytes: number
  /** The stops of a turn that is repeated, as `HomeUse` told them; undefined: it happens for the first time. */
  readonly repeat?: readonly Stop[] | undefined
}

/** A stop that is no pure function of what the guest did: the call of the turn, the row of the call. */
export interface Stop {
  readonly call: number
  readonly row: number
  readonly kind: 'spent' | 'full'
}

export interface HomeUse {
  /** SHA-256 over everything that the home answered in this turn. */
  readonly digest: Buffer
  readonly stops: readonly Stop[]
}

/** What SQLite, or the rules of a home, have against a statement. */
export interface HomeProblem {
  readonly code: number
  readonly error: string
}

/** Rows as JSON: integers that are no safe numbers as texts, bytes as `{ hex }`. */
export interface HomeRows {
  readonly columns: readonly string[]
  readonly rows: readonly (readonly unknown[])[]
  /** There were more than were asked for. */
  readonly more: boolean
}

/** A home that was found, and what was committed with it. Goes into one instance, or is dropped. */
export interface FoundHome {
  readonly id: number
  readonly file: string
  readonly seq: number
  readonly hash: Buffer
  readonly bytes: Buffer
}

/** A program with its initialised memory, mapped by all its instances. Lives until `unload`. */
export interface Image {
  readonly id: number
  /** What the program declares of itself, as JSON. */
  readonly about: string
  /** The front of the hash of its first turn, over which it is saved. */
  readonly first?: Buffer
}

/** Saves over a first turn begin so; then come eight bytes of the image's hash, then of that of the first turn. */
const OVER_FIRST = Buffer.from('CARDSNP3')
const FIRST_AT = 16
const FIRST_BYTES = 8

/** Code of others as a function from a text to a text. Lives until `unloadComponent`. */
export interface Component {
  readonly id: number
}

/** What a component answered, by its own word `ok` or not; or why it did not. */
export type Called =
  | { readonly done: true; readonly ok: boolean; readonly text: string }
  | ({ readonly done: false } & GuestFailure)

/** One guest. Turns and saves of one instance must not overlap; the caller sees to that. */
export interface Instance {
  readonly id: number
}

interface Waiting {
  readonly resolve: (outcome: NativeOutcome) => void
  readonly reject: (error: Error) => void
}

/** What answers a guest's SQL: turns that used a home are never repeated by another. */
export const SQLITE_VERSION = '3.54.1/1'

/**
 * What a guest can tell of its host beside SQL: what its work costs in fuel, what host functions answer, how it is
 * driven. Turns are never repeated on another.
 */
export const TURNS_VERSION = 'wasmtime-48/host-1'

/** Identifies guest kind and build: images of QuickJS are made anew when it changes. */
export const ENGINE_VERSION = 'wasmtime-48.0.8/quickjs-wasi-3.6.2/5'

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
   * const image = await engine.load(bytes, { parent })
   * const instance = engine.create(image)
   */
  constructor(options: EngineOptions) {
    const native = require('../build/engine.node') as NativeModule
    const { cache } = options
    this.#native = new native.Engine(
      {
        threads: options.threads,
        compiler: options.compiler ?? 'optimized',
        wasm: readFileSync(require.resolve('quickjs-wasi/quickjs.wasm')),
        ...(cache && { cacheFolder: cache.folder, cacheKey: cache.key }),
      },
      () => this.#drain(),
    )
  }

  /** Jobs that were handed over and have not come back: turns, saves, looks. */
  get pending(): number {
    return this.#waiting.size
  }

  /** Boots QuickJS and returns the bytes of the image that all others of QuickJS lie over. */
  async boot(): Promise<Built> {
    return built(await this.#job((job) => this.#native.boot(job)))
  }

  /** Evaluates a script over an image and returns the bytes of a new image, which lies over that one. */
  async extend(
    parent: Image,
    script: Buffer,
    name: string,
    options: { readonly sdk?: boolean } = {},
  ): Promise<Built> {
    const { sdk = false } = options
    return built(await this.#job((job) => this.#native.extend(job, parent.id, script, name, sdk)))
  }

  /** Boots a core module that keeps to the turn ABI and returns the bytes of its image; `BadModule` if it does not. */
  async build(wasm: Buffer): Promise<Built> {
    return built(await this.#job((job) => this.#native.build(job, wasm)))
  }

  /**
   * Loads image bytes for instances; `about` is read from the program, unless it is a bare base. `parent` is the
   * image that it lies over and `wasm` the module that it was made of, where `readImage` names one. `warm` are
   * events of a first turn as instances will see it; it is run once and thrown away.
   */
  async load(
    bytes: Buffer,
    options: {
      readonly base?: boolean
      readonly parent?: Image | undefined
      readonly wasm?: Buffer | undefined
      readonly warm?: readonly Buffer[]
    } = {},
  ): Promise<Image> {
    const id = this.#nextId++
    const { base = false, parent, wasm, warm = [] } = options
    const outcome = await this.#job((job) =>
      this.#native.load(job, id, bytes, parent?.id, wasm, !base, frame(warm)),
    )
    if (outcome.status === 'guest') throw new EngineFailure(`image: ${outcome.kind}: ${outcome.detail}`)
    return { id, about: requireOutput(outcome).toString() }
  }

  /**
   * Runs a first turn over an image and throws it away. What comes of it is what a save of it would be: given to
   * `withFirst`, saves say only how they differ from it. A program that fails in it has none.
   */
  async rehearse(image: Image, events: readonly Buffer[]): Promise<Built> {
    return built(await this.#job((job) => this.#native.rehearse(job, image.id, frame(events))))
  }

  /** The image as it is saved over a first turn of it, from the next save on. Before anything over that is restored. */
  withFirst(image: Image, first: Buffer): Image {
    this.#native.setFirst(image.id, first)
    return { ...image, first: createHash('sha256').update(first).digest().subarray(0, FIRST_BYTES) }
  }

  /** Whether a save lies over nothing that the image has not. */
  restores(image: Image, saved: Buffer): boolean {
    if (!saved.subarray(0, OVER_FIRST.length).equals(OVER_FIRST)) return true
    return image.first?.equals(saved.subarray(FIRST_AT, FIRST_AT + FIRST_BYTES)) ?? false
  }

  unload(image: Image): void {
    this.#native.unload(image.id)
  }

  /**
   * Reserves an instance over an image, or over an image and a snapshot of an instance of it. `home` is
   * one that was found, or the file that one is made in as soon as the guest stores something.
   */
  create(
    image: Image,
    options: {
      readonly saved?: Buffer | undefined
      readonly home?: FoundHome | string | undefined
    } = {},
  ): Instance {
    const id = this.#nextId++
    const { home } = options
    const given = typeof home === 'object' ? { file: home.file, found: home.id } : home && { file: home }
    this.#native.create(id, image.id, options.saved, given || undefined)
    return { id }
  }

  /**
   * Compiles a component (component model, without imports, exporting `run: func(args: string) ->
   * result<string, string>`), or says what is wrong with it. Lives until `unloadComponent`.
   */
  async loadComponent(bytes: Buffer): Promise<Component | GuestFailure> {
    const id = this.#nextId++
    const outcome = await this.#job((job) => this.#native.loadComponent(job, id, bytes))
    return outcome.status === 'guest' ? guestFailure(outcome) : { id }
  }

  unloadComponent(component: Component): void {
    this.#native.unloadComponent(component.id)
  }

  /** Calls a component in an instance of its own, which ends with the call. It keeps nothing. */
  async runComponent(
    component: Component,
    lane: number,
    input: string,
    bounds: { readonly fuel: number; readonly memoryBytes: number },
  ): Promise<Called> {
    const { fuel, memoryBytes } = bounds
    const outcome = await this.#job((job) =>
      this.#native.runComponent(job, component.id, lane, input, fuel, memoryBytes),
    )
    if (outcome.status === 'guest') return { done: false, ...guestFailure(outcome) }
    const bytes = requireOutput(outcome)
    return { done: true, ok: bytes[0] === 1, text: bytes.subarray(1).toString() }
  }

  /**
   * Opens the home in a file and reads what was committed with it. Undefined: there is none, or only a
   * part of one (a file without its log, a file that cannot be read), which is removed.
   */
  async findHome(file: string): Promise<FoundHome | undefined> {
    const id = this.#nextId++
    const pair = requireOutput(await this.#job((job) => this.#native.findHome(job, id, file)))
    if (pair.length === 0) return undefined
    const hashEnd = 12 + pair.readUInt32LE(8)
    return {
      id,
      file,
      seq: Number(pair.readBigInt64LE(0)),
      hash: pair.subarray(12, hashEnd),
      bytes: pair.subarray(hashEnd),
    }
  }

  /** Closes a home that was found and goes into no instance. */
  dropHome(home: FoundHome): void {
    this.#native.dropHome(home.id)
  }

  /**
   * Commits what a quiet instance has stored, together with `bytes`, its memory: one pair. Resolves with
   * the length of the home's write-ahead log. On a failure the instance is gone; drop it.
   */
  async commitHome(instance: Instance, lane: number, pair: Omit<FoundHome, 'id' | 'file'>): Promise<number> {
    const outcome = await this.#job((job) =>
      this.#native.commitHome(job, instance.id, lane, pair.seq, pair.hash, pair.bytes),
    )
    return Number(requireOutput(outcome).readBigUInt64LE(0))
  }

  /**
   * Reads a quiet instance's home with one statement that cannot write. What is wrong with the statement is
   * an answer.
   */
  async readHome(
    instance: Instance,
    lane: number,
    read: {
      readonly sql: string
      readonly maxRows: number
      readonly sqlSteps: number
      readonly clockMs: number
    },
  ): Promise<HomeRows | HomeProblem> {
    const { sql, maxRows, sqlSteps, clockMs } = read
    const outcome = await this.#job((job) =>
      this.#native.readHome(job, instance.id, lane, sql, maxRows, sqlSteps, clockMs),
    )
    return JSON.parse(requireOutput(outcome).toString())
  }

  /** SQLite's own check of a quiet instance's home: what is wrong with it. */
  async checkHome(instance: Instance, lane: number): Promise<string[]> {
    const outcome = await this.#job((job) => this.#native.checkHome(job, instance.id, lane))
    return JSON.parse(requireOutput(outcome).toString())
  }

  /** Closes the file of a quiet instance's home until somebody needs it, between its commit and its next turn. */
  async parkHome(instance: Instance, lane: number): Promise<void> {
    await this.#job((job) => this.#native.parkHome(job, instance.id, lane))
  }

  /** How many descriptors this process may have open. */
  get descriptors(): number {
    return this.#native.descriptors()
  }

  /**
   * Writes what a quiet instance has stored, as it was committed just before, into a file that is not there
   * yet: a database without anything of the kernel's.
   */
  async exportHome(instance: Instance, lane: number, to: string): Promise<void> {
    requireOutput(await this.#job((job) => this.#native.exportHome(job, instance.id, lane, to)))
  }

  /** What speaks against taking in a file that was exported; empty: nothing. */
  async checkExport(file: string): Promise<string[]> {
    return JSON.parse(requireOutput(await this.#job((job) => this.#native.checkExport(job, file))).toString())
  }

  /** Makes the home of a file out of one that was exported, in the place of whatever home was there. */
  async adoptHome(from: string, to: string): Promise<FoundHome> {
    const id = this.#nextId++
    requireOutput(await this.#job((job) => this.#native.adoptHome(job, id, from, to)))
    return { id, file: to, seq: 0, hash: Buffer.alloc(0), bytes: Buffer.alloc(0) }
  }

  /** Moves the write-ahead log of a home that nobody has open into its file; both are synced. */
  async checkpointFile(file: string): Promise<void> {
    await this.#job((job) => this.#native.checkpointFile(job, file))
  }

  /** The same for a quiet instance, between its commit and its next turn. */
  async checkpointHome(instance: Instance, lane: number): Promise<void> {
    await this.#job((job) => this.#native.checkpointHome(job, instance.id, lane))
  }

  /**
   * Runs one turn on a turn thread. `lane` is whoever shares a cap on long turns: a tenant.
   * After an outcome that is not ok the instance is gone; drop it.
   */
  async deliver(instance: Instance, lane: number, turn: Turn): Promise<TurnOutcome> {
    const events = frame(turn.events)
    const repeat = turn.repeat?.flatMap(({ call, row, kind }) => [call, row, STOP_KINDS.indexOf(kind)])
    const { clockMs, seed, sqlSteps, homeBytes } = turn
    const outcome = await this.#job((job) =>
      this.#native.deliver(
        job,
        instance.id,
        lane,
        events,
        clockMs,
        seed,
        turn.fuel,
        turn.memoryBytes,
        sqlSteps,
        homeBytes,
        repeat,
      ),
    )
    const { micros, fuel, home, denied } = outcome
    if (outcome.status === 'guest') return { ...guestFailure(outcome), micros, denied }
    return { ok: true, output: requireOutput(outcome), fuel, micros, home: home && homeUse(home), denied }
  }

  /** The snapshot of a quiet instance: what its memory holds beyond its image. */
  async save(instance: Instance, lane: number): Promise<Buffer> {
    return requireOutput(await this.#job((job) => this.#native.save(job, instance.id, lane)))
  }

  /** The share of a lane at the turn threads while others want them too, where those have 100. */
  setWeight(lane: number, weight: number): void {
    this.#native.setWeight(lane, weight)
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

const STOP_KINDS = ['spent', 'full'] as const

function homeUse({ digest, stops }: NonNullable<NativeOutcome['home']>): HomeUse {
  const found: Stop[] = []
  for (let i = 0; i < stops.length; i += 3) {
    const [call, row, kind] = stops.slice(i, i + 3) as [number, number, 0 | 1]
    found.push({ call, row, kind: STOP_KINDS[kind] })
  }
  return { digest, stops: found }
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
