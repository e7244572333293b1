/**
 * The log as the kernel uses it: append now, be told when durable, read back.
 *
 * Appending only assigns a position and hashes; the log's own thread writes whatever has queued
 * while the last commit ran. A commit begins when somebody waits for one, or a moment later. A batch
 * that holds half of all that is not durable yet is closed, and may wait at the thread behind the one
 * being written: else many callers in step would leave each of the two threads idle in turn.
 * After any failure to write or sync the log is poisoned: `onFatal` is called once and nothing more
 * becomes durable; the process must end.
 */
import fs from 'node:fs'
import path from 'node:path'
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import { type Batch, prepareSpare, type SkippedSync } from './commit.ts'
import { assert, LogError } from './errors.ts'
import {
  COMMIT_FRAME,
  entryBytes,
  offsetOf,
  PAGE_BYTES,
  type Pos,
  payloadBytes,
  segmentOf,
  toPos,
} from './format.ts'
import { checkHead, headText, readHead, writeHead } from './head.ts'
import type { KeySlots, NodeKey } from './keys.ts'
import { type NewEntry, OpenBatch, Salts, type Tip } from './open-batch.ts'
import { type Entry, Reader } from './reader.ts'
import { type Scan, type ScannedEntry, scanLog } from './scan.ts'
import { makeTailDurable } from './tail.ts'
import type { FromWriter, ThreadData, ToWriter } from './writer-thread.ts'

export interface LogOptions {
  readonly folder: string
  readonly nodeKey: NodeKey
  readonly keySlots: KeySlots
  /** Files outside the data folder that also keep the head. */
  readonly anchors: readonly string[]
  readonly onFatal: (error: LogError) => void
  readonly onEntry?: (entry: ScannedEntry) => void
  /**
   * An entry that the caller knows, with all before it: then nothing is read before the segment in which it
   * stands. If it does not stand there, everything is read.
   */
  readonly known?: { readonly pos: number; readonly hash: Buffer } | undefined
  readonly segmentBytes?: number
  /** Accept that the log ends exactly here although a head says otherwise. */
  readonly acceptLoss?: number
  readonly now: () => number
  readonly skipSync?: SkippedSync
}

const SEGMENT_BYTES = 16 << 20
const MAX_PENDING_BYTES = 32 << 20
const HEAD_EVERY_MS = 200
const LAZY_MS = 2
const SPARE_RETRY_MS = 1000
/**
 * Fewer entries than this wait for the commit that is being written and then go together: a commit of
 * their own behind it costs more latency than it saves.
 */
const MIN_BATCH = 128
const LEAST_BATCH_BYTES = 2048

interface Waiter {
  readonly pos: Pos
  readonly done: () => void
}

/** Entries are told once it is known from where on they are read. */
function scanFrom({ folder, nodeKey, onEntry = () => {}, known }: LogOptions): Scan {
  const of = { node: nodeKey.node, publicKey: nodeKey.publicKey }
  if (!known || segmentOf(known.pos as Pos) === 1) return scanLog(folder, { ...of, onEntry })
  const found: ScannedEntry[] = []
  const scan = scanLog(folder, {
    ...of,
    from: segmentOf(known.pos as Pos),
    onEntry: (entry) => found.push(entry),
  })
  const there = found.some(({ pos, hash }) => pos === known.pos && hash.equals(known.hash))
  if (!there) return scanLog(folder, { ...of, onEntry })
  found.forEach(onEntry)
  return scan
}

export class Log {
  readonly #options: LogOptions
  readonly #segmentBytes: number
  readonly #port: MessagePort
  readonly #worker: Worker
  readonly #sent: Int32Array
  readonly #closed: Batch[] = []
  readonly #waiters: Waiter[] = []
  readonly #rooms: (() => void)[] = []
  readonly #reader: Reader
  readonly #salts = new Salts()
  #waitersFrom = 0
  #open: OpenBatch
  #durable: Pos
  #lastCommit: Buffer
  #pendingBytes = 0
  #pendingEntries = 0
  /** With the log's thread, oldest first: one being written, one waiting. */
  readonly #inFlight: { readonly bytes: number; readonly entries: number }[] = []
  /** Somebody waits for everything up to here. */
  #wanted = 0
  #lazy: NodeJS.Timeout | undefined
  #flushScheduled = false
  #failed: LogError | undefined
  #spareFailed = false
  #spareRunning = false
  #headTimer: NodeJS.Timeout | undefined
  #onClosed: (() => void) | undefined

  /**
   * Opens the log: scans it, cuts a torn end, makes the tail durable, and starts the thread.
   * Throws `Corrupt` (nothing is changed then) if anything else does not check.
   */
  static open(options: LogOptions): Log {
    const { folder, nodeKey } = options
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
    const scan = scanFrom(options)
    const known = [path.join(folder, '..', 'head'), ...options.anchors]
    const heads = known.map((file) => ({ file, head: readHead(file, nodeKey.node, nodeKey.publicKey) }))
    for (const { file, head } of heads) {
      if (head && options.acceptLoss !== scan.end)
        checkHead(head, scan.end, scan.commitAt, `\`${path.basename(file)}\``)
    }
    if (scan.commits > 0 && !heads[0]?.head && options.acceptLoss !== scan.end) {
      throw new LogError(
        'Corrupt',
        'LogShort',
        `the file \`head\` is missing; an operator may accept that the log ends here with \`--accept-loss ${scan.end}\``,
      )
    }
    if (scan.segments > 0) makeTailDurable(folder, segmentOf(scan.end), scan.end, scan.torn)
    const log = new Log(options, scan.end, scan.lastCommit)
    // From the first commit on there is a head; a log without one has lost it.
    log.#writeHead()
    return log
  }

  private constructor(options: LogOptions, end: Pos, lastCommit: Buffer) {
    this.#options = options
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES
    this.#open = new OpenBatch(end, this.#salts, LEAST_BATCH_BYTES)
    this.#reader = new Reader(options.folder)
    this.#durable = end
    this.#lastCommit = lastCommit
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    this.#sent = new Int32Array(new SharedArrayBuffer(4))
    const data: ThreadData = {
      folder: options.folder,
      node: options.nodeKey.node,
      publicHex: options.nodeKey.publicHex,
      privatePem: options.nodeKey.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
      segmentBytes: this.#segmentBytes,
      keySlots: options.keySlots.path,
      lastCommit,
      segment: segmentOf(end),
      skipSync: options.skipSync,
      port: port2,
      sent: this.#sent,
    }
    this.#worker = new Worker(new URL('./writer-thread.ts', import.meta.url), {
      workerData: data,
      transferList: [port2],
      name: 'cardinal-log',
    })
    this.#worker.on('error', (error) => this.#fail('EIO', error.message))
    this.#port.on('message', (message: FromWriter) => this.#receive(message))
    this.#port.unref()
    this.#worker.unref()
    this.#prepareSpare()
  }

  /** Where the next entry may begin, at the earliest. */
  get end(): Pos {
    return (this.#open.base + this.#open.used) as Pos
  }
  /** Everything that begins before this position is on disk. */
  get durable(): Pos {
    return this.#durable
  }
  /** True while the disk could not take another segment: accept nothing new, finish what is open. */
  get low(): boolean {
    return this.#spareFailed
  }
  get congested(): boolean {
    return this.#pendingBytes > MAX_PENDING_BYTES
  }

  /**
   * Appends an entry and returns where it stands and its hash, which is its agent's new tip. It is
   * durable only once `whenDurable` says so; until then nothing that depends on it may leave the node.
   */
  append(entry: NewEntry): Tip {
    if (this.#failed) throw this.#failed
    const metaBytes = Buffer.byteLength(entry.meta)
    let size = entryBytes(entry.kind, metaBytes, entry.payloads.length)
    for (const payload of entry.payloads) size += payloadBytes(payload.length)
    if (size + COMMIT_FRAME + PAGE_BYTES > this.#segmentBytes) {
      throw new LogError(
        'Malformed',
        'EntryTooLarge',
        `an entry of ${size} bytes does not fit a segment of ${this.#segmentBytes}`,
      )
    }
    if (offsetOf(this.#open.base) + this.#open.bytes + size > this.#segmentBytes) this.#nextSegment()
    const tip = this.#open.write(entry, size, metaBytes)
    this.#pendingBytes += size
    this.#pendingEntries++
    const { entries } = this.#open
    if (entries >= MIN_BATCH && entries >= this.#pendingEntries / 2) this.#closeBatch()
    // Nobody may be waiting for this entry alone: what somebody does wait for will take it along.
    this.#lazy ??= setTimeout(() => {
      this.#lazy = undefined
      this.#want(this.end)
    }, LAZY_MS).unref()
    return tip
  }

  /** Calls back once everything up to and including `pos` is durable; at once if it is. */
  whenDurable(pos: Pos, done: () => void): void {
    if (pos < this.#durable) return done()
    this.#waiters.push({ pos, done })
    this.#want(pos)
  }

  untilDurable(pos: Pos): Promise<void> {
    return new Promise((resolve) => this.whenDurable(pos, resolve))
  }

  /** Resolves when less is pending than the bound allows: who appends much waits here first. */
  room(): Promise<void> {
    if (!this.congested) return Promise.resolve()
    this.#want(this.end)
    return new Promise((resolve) => this.#rooms.push(resolve))
  }

  /** Reads a durable entry. Its hash is of the bytes read; compare it with what the caller knows. */
  read(pos: Pos): Entry {
    if (pos >= this.#durable)
      throw new LogError('Malformed', 'NoSuchEntry', `no durable entry at position ${pos}`)
    return this.#reader.read(pos)
  }

  /** Where each durable entry begins, in their order, read from the segments. */
  positions(): Pos[] {
    const found: Pos[] = []
    const end = this.#durable
    const { folder, nodeKey } = this.#options
    scanLog(folder, {
      node: nodeKey.node,
      publicKey: nodeKey.publicKey,
      onEntry: ({ pos }) => {
        if (pos < end) found.push(pos)
      },
    })
    return found
  }

  /** Makes everything durable and ends the thread. */
  async close(): Promise<void> {
    if (!this.#failed && this.end > this.#durable) await this.untilDurable((this.end - 1) as Pos)
    clearTimeout(this.#headTimer)
    clearTimeout(this.#lazy)
    if (!this.#failed) {
      await new Promise<void>((resolve) => {
        this.#onClosed = resolve
        this.#port.ref()
        this.#post({ close: true })
      })
      this.#writeHead()
    }
    await this.#end()
  }

  /** Ends the thread and leaves what is not durable undone, for an owner that could not open the rest. */
  async abandon(): Promise<void> {
    this.#failed ??= new LogError('Unavailable', 'LogFailed', 'the log was abandoned')
    clearTimeout(this.#headTimer)
    clearTimeout(this.#lazy)
    await this.#end()
  }

  async #end(): Promise<void> {
    await this.#worker.terminate()
    this.#port.close()
    this.#reader.close()
  }

  #nextSegment(): void {
    this.#closeBatch()
    const base = toPos(segmentOf(this.#open.base) + 1, PAGE_BYTES)
    this.#open = new OpenBatch(base, this.#salts, LEAST_BATCH_BYTES)
  }

  #want(pos: number): void {
    this.#wanted = Math.max(this.#wanted, pos)
    this.#scheduleFlush()
  }

  #scheduleFlush(): void {
    if (this.#flushScheduled || !this.#mayPost()) return
    this.#flushScheduled = true
    // A microtask later: entries of one tick share a commit, and nobody waits for a timer.
    queueMicrotask(() => {
      this.#flushScheduled = false
      this.#flush()
    })
  }

  #mayPost(): boolean {
    return this.#inFlight.length === 0 || (this.#inFlight.length === 1 && this.#closed.length > 0)
  }

  #flush(): void {
    while (!this.#failed && this.#mayPost()) {
      if (this.#closed.length === 0) this.#closeBatch()
      const batch = this.#closed.shift()
      if (!batch) return
      this.#inFlight.push({ bytes: batch.bytes.length - COMMIT_FRAME, entries: batch.starts.length })
      // Whoever waits for durability keeps the process alive; an idle log does not.
      this.#port.ref()
      this.#post({ batch }, [batch.bytes.buffer as ArrayBuffer])
    }
  }

  #post(message: ToWriter, transfer: ArrayBuffer[] = []): void {
    this.#port.postMessage(message, transfer)
    Atomics.add(this.#sent, 0, 1)
    Atomics.notify(this.#sent, 0)
  }

  #closeBatch(): void {
    const open = this.#open
    if (open.entries === 0) return
    const { keySlots, now } = this.#options
    this.#closed.push(open.close(now(), keySlots.dirty))
    keySlots.dirty = false
    // The next batch is likely to be as large; memory that it does not need would only be zeroed.
    const next = (open.base + open.bytes) as Pos
    this.#open = new OpenBatch(next, this.#salts, Math.max(LEAST_BATCH_BYTES, open.bytes))
  }

  #receive(message: FromWriter): void {
    if ('failed' in message) return this.#fail(message.failed.code, message.failed.message)
    if ('closed' in message) return this.#onClosed?.()
    const written = this.#inFlight.shift()
    assert(written, 'a batch that was posted is reported')
    const rotated = segmentOf(message.durable as Pos) !== segmentOf(this.#durable)
    this.#pendingBytes -= written.bytes
    this.#pendingEntries -= written.entries
    this.#durable = message.durable as Pos
    this.#lastCommit = Buffer.from(message.lastCommit)
    if (this.#closed.length > 0 || this.#wanted >= this.#durable) this.#flush()
    if (this.#inFlight.length === 0) this.#port.unref()
    if (rotated) this.#prepareSpare()
    this.#scheduleHead()
    this.#wake()
  }

  #wake(): void {
    while (this.#waitersFrom < this.#waiters.length) {
      const waiter = this.#waiters[this.#waitersFrom] as Waiter
      if (waiter.pos >= this.#durable) break
      this.#waitersFrom++
      waiter.done()
    }
    if (this.#waitersFrom > 1024 || this.#waitersFrom === this.#waiters.length) {
      this.#waiters.splice(0, this.#waitersFrom)
      this.#waitersFrom = 0
    }
    if (!this.congested) for (const resolve of this.#rooms.splice(0)) resolve()
  }

  #fail(code: string, message: string): void {
    if (this.#failed) return
    this.#failed =
      code === 'ENOSPC' || code === 'EDQUOT'
        ? new LogError(
            'Unavailable',
            'DiskFull',
            `the disk of \`${this.#options.folder}\` is full; nothing acknowledged is lost`,
          )
        : new LogError('Unavailable', 'LogFailed', `the log could not be written: ${message}`)
    this.#options.onFatal(this.#failed)
  }

  #scheduleHead(): void {
    this.#headTimer ??= setTimeout(() => {
      this.#headTimer = undefined
      if (!this.#failed) this.#writeHead()
    }, HEAD_EVERY_MS).unref()
  }

  #writeHead(): void {
    const { nodeKey, folder, anchors } = this.#options
    const text = headText(
      { end: this.#durable, commit: this.#lastCommit.toString('hex') },
      nodeKey.node,
      nodeKey.privateKey,
    )
    try {
      for (const file of [path.join(folder, '..', 'head'), ...anchors]) writeHead(file, text)
    } catch (error) {
      // The head may lag: a full disk here must not end what the log itself can still do.
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') this.#fail('EIO', (error as Error).message)
    }
  }

  #prepareSpare(): void {
    if (this.#spareRunning) return
    this.#spareRunning = true
    prepareSpare(this.#options.folder, this.#segmentBytes).then(
      () => {
        this.#spareFailed = false
        this.#spareRunning = false
      },
      (error: NodeJS.ErrnoException) => {
        // Whatever else keeps it from being made is met, and said, when the segment is needed.
        this.#spareFailed = error.code === 'ENOSPC' || error.code === 'EDQUOT'
        this.#spareRunning = false
        setTimeout(() => this.#prepareSpare(), SPARE_RETRY_MS).unref()
      },
    )
  }
}
