/** When the memory of an agent that is awake is saved, and how: with its state, at a durable entry, under its own key. */
import type { Tip } from '@cardinal/oplog'
import type { Context } from './context.ts'
import type { Identity } from './replay.ts'
import { type Sealed, sealSnapshot } from './snapshots.ts'
import { type AgentState, encodeState } from './state.ts'

/** What repeating a turn costs beside what its guest does: reading, decrypting and folding its entries. */
const REPEAT_MICROS = 100
/** Memory is saved once repeating what came after the last save would take so much longer than saving... */
const SAVE_WHEN_TIMES = 5
/** ...and this long at least, so that what is called often is not saved all the time. */
const SAVE_WHEN_MICROS = 15_000
/** What a first save is taken to cost. */
const SAVE_MICROS = 1000

export class Saving {
  readonly #ctx: Context
  readonly #who: Identity
  /** What it would take to repeat the turns since the last save, and what that save took. */
  #toRepeatMicros = 0
  #saveMicros = SAVE_MICROS
  /** The file of its last save and of the one before, where memory was too large for a row. */
  #files: readonly (string | undefined)[]
  /** Whether files of others than these were looked for since it woke: a kill may have left some. */
  #swept = false

  /** `file`: that of the save that the agent came back from. */
  constructor(ctx: Context, who: Identity, file: string | undefined) {
    this.#ctx = ctx
    this.#who = who
    this.#files = file === undefined ? [] : [file]
  }

  /** A turn has run, and would have to be repeated. */
  ran(micros: number): void {
    this.#toRepeatMicros += micros + REPEAT_MICROS
  }

  /** Whether saving now costs less than repeating later. */
  get isDue(): boolean {
    return this.#toRepeatMicros > Math.max(SAVE_WHEN_MICROS, SAVE_WHEN_TIMES * this.#saveMicros)
  }

  /** Memory is as the record has it, for now. */
  restart(): void {
    this.#toRepeatMicros = 0
  }

  /** What was saved is of a life that has ended. */
  async forget(): Promise<void> {
    this.restart()
    this.#files = []
    await this.#ctx.memoryFiles.keepOnly(this.#who.birth)
  }

  /**
   * Saves the state as it is now and the memory beside it. `commit` writes the bytes where the agent keeps them, and
   * says whether they are kept. False, and said aloud: a host that cannot write has saved nothing, and more is repeated
   * later.
   */
  async save(
    state: AgentState,
    memoryOf: () => Promise<Buffer>,
    commit: (tip: Tip, bytes: Buffer) => Promise<boolean>,
  ): Promise<boolean> {
    const ctx = this.#ctx
    const began = performance.now()
    const { tip } = state
    const encoded = encodeState(state)
    const sealed = await this.#seal(encoded, tip, await memoryOf())
    if (!sealed) return false
    await ctx.log.untilDurable(tip.pos)
    ctx.crashPoint('snapshot.before')
    const kept = await commit(tip, sealed.bytes)
    ctx.crashPoint('snapshot.saved')
    if (kept) await this.#keepFile(sealed.file)
    else
      ctx.onNotice(`\`${this.#who.address}\`: what there is of it could not be saved; it is repeated later`)
    this.restart()
    this.#saveMicros = (performance.now() - began) * 1000
    return kept
  }

  /** Undefined: the disk has no room for large memory now. What was saved before stays, and so does what came after it. */
  async #seal(encoded: string, tip: Tip, memory: Buffer): Promise<Sealed | undefined> {
    const { memoryFiles, homes, onNotice } = this.#ctx
    const { birth, key, address } = this.#who
    try {
      return await sealSnapshot(memoryFiles, birth, encoded, tip, memory, key)
    } catch (error) {
      if (!homes.isOfDisk(error)) throw error
      onNotice(`\`${address}\`: its memory could not be saved: ${(error as Error).message}`)
      this.restart()
      return undefined
    }
  }

  /** The file of this save and the one before it stay: a power cut may bring back the row that names that one. */
  async #keepFile(file: string | undefined): Promise<void> {
    const [before] = this.#files
    if (this.#swept && file === undefined && before === undefined && this.#files.length < 2) return
    this.#swept = true
    this.#files = [file, before]
    await this.#ctx.memoryFiles.keepOnly(this.#who.birth, ...this.#files)
  }
}
