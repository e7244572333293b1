/** Streams over files, in chunks of 64 KiB. What one turn does not read, a later one does: they are data of the agent. */
import { Buffer } from 'buffer'
import { type Encoding, optionsOf, type PathLike, toPath } from './fs-arguments.ts'
import { closeSync, openSync, readSync, writeSync } from './fs-descriptors.ts'
import { Readable, Writable } from './stream.ts'

interface StreamOptions {
  readonly flags?: string
  readonly encoding?: Encoding | null
  readonly fd?: number
  readonly mode?: number
  readonly autoClose?: boolean
  readonly emitClose?: boolean
  readonly start?: number
  readonly highWaterMark?: number
}

interface ReadStreamOptions extends StreamOptions {
  /** The last byte that is read. */
  readonly end?: number
}

type Done = (error?: Error | null) => void
const CHUNK = 65_536

/** Does something at once and tells a stream how it went. */
function telling(done: Done, act: () => void): void {
  try {
    act()
  } catch (error) {
    done(error as Error)
    return
  }
  done()
}

function requirePlace(name: string, value: number | undefined): void {
  if (
    value === undefined ||
    (Number.isSafeInteger(value) && value >= 0) ||
    value === Number.POSITIVE_INFINITY
  )
    return
  throw Object.assign(new RangeError(`The value of "${name}" is out of range.`), { code: 'ERR_OUT_OF_RANGE' })
}

export class ReadStream extends Readable {
  readonly path: string | undefined
  readonly flags: string
  readonly mode: number
  fd: number | null
  bytesRead = 0
  #at: number | undefined
  readonly #end: number
  readonly #closes: boolean

  constructor(path: PathLike | undefined, given?: ReadStreamOptions | Encoding | null) {
    const options = optionsOf<ReadStreamOptions>(given)
    const { start, end, encoding, highWaterMark = CHUNK, autoClose = true, emitClose = true } = options
    requirePlace('start', start)
    requirePlace('end', end)
    super({ highWaterMark, autoDestroy: autoClose, emitClose, ...(encoding && { encoding }) })
    this.path = options.fd === undefined ? toPath(path) : undefined
    this.flags = options.flags ?? 'r'
    this.mode = options.mode ?? 0o644
    this.fd = options.fd ?? null
    this.#at = start
    this.#end = end ?? Number.POSITIVE_INFINITY
    this.#closes = autoClose
  }

  get pending(): boolean {
    return this.fd === null
  }

  override _construct(done: Done): void {
    openOne(this, done)
  }

  override _read(size: number): void {
    const left = this.#end - (this.#at ?? this.bytesRead) + 1
    const buffer = Buffer.alloc(Math.max(0, Math.min(size, left)))
    let count = 0
    try {
      if (buffer.length > 0) count = readSync(this.fd as number, buffer, 0, buffer.length, this.#at ?? null)
    } catch (error) {
      this.destroy(error as Error)
      return
    }
    this.bytesRead += count
    if (this.#at !== undefined) this.#at += count
    this.push(count === 0 ? null : buffer.subarray(0, count))
  }

  override _destroy(error: Error | null, done: Done): void {
    closeOne(this.fd, this.#closes, error, done)
    this.fd = null
  }

  close(done?: Done): void {
    closing(this, done)
  }
}

export class WriteStream extends Writable {
  readonly path: string | undefined
  readonly flags: string
  readonly mode: number
  fd: number | null
  bytesWritten = 0
  #at: number | undefined
  readonly #closes: boolean

  constructor(path: PathLike | undefined, given?: StreamOptions | Encoding | null) {
    const options = optionsOf<StreamOptions>(given)
    const { start, encoding, highWaterMark = CHUNK, autoClose = true, emitClose = true } = options
    requirePlace('start', start)
    super({
      highWaterMark,
      autoDestroy: autoClose,
      emitClose,
      decodeStrings: true,
      ...(encoding && { defaultEncoding: encoding }),
    })
    this.path = options.fd === undefined ? toPath(path) : undefined
    this.flags = options.flags ?? (start === undefined ? 'w' : 'r+')
    this.mode = options.mode ?? 0o644
    this.fd = options.fd ?? null
    this.#at = start
    this.#closes = autoClose
  }

  get pending(): boolean {
    return this.fd === null
  }

  override _construct(done: Done): void {
    openOne(this, done)
  }

  override _write(data: Uint8Array, _encoding: string, done: Done): void {
    telling(done, () => {
      const count = writeSync(this.fd as number, data, 0, data.length, this.#at ?? null)
      this.bytesWritten += count
      if (this.#at !== undefined) this.#at += count
    })
  }

  override _destroy(error: Error | null, done: Done): void {
    closeOne(this.fd, this.#closes, error, done)
    this.fd = null
  }

  close(done?: Done): void {
    closing(this, done)
  }
}

function openOne(stream: ReadStream | WriteStream, done: Done): void {
  telling(done, () => {
    stream.fd ??= openSync(stream.path as string, stream.flags, stream.mode)
    stream.emit('open', stream.fd)
    stream.emit('ready')
  })
}

function closeOne(fd: number | null, closes: boolean, error: Error | null, done: Done): void {
  if (fd === null || !closes) return done(error)
  try {
    closeSync(fd)
  } catch (failed) {
    return done(error ?? (failed as Error))
  }
  done(error)
}

function closing(stream: Readable | Writable, done?: Done): void {
  if (done) stream.once('close', () => done())
  if (stream instanceof Writable) stream.end()
  else stream.destroy()
}

export function createReadStream(path: PathLike, options?: ReadStreamOptions | Encoding | null): ReadStream {
  return new ReadStream(path, options)
}

export function createWriteStream(path: PathLike, options?: StreamOptions | Encoding | null): WriteStream {
  return new WriteStream(path, options)
}
