/**
 * Memory of agents that is too large for a row: a file each, written in pieces, so that nobody waits long for the
 * kernel's thread meanwhile.
 *
 *     memory/<birth>/<nonce>.mem:  pieces of 8 MiB, each iv 12 · tag 16 · u32 length · sealed under the agent's key
 *
 * A piece is bound to its number and to the entry at which memory was saved. A file counts only once the row or the
 * home that names it is committed, and is never written again. A save leaves the file before it too: a power cut may
 * bring back the row that names that one.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { type PayloadKey, syncFolder } from '@cardinal/oplog'

const PIECE = 8 << 20
const HEAD = 32

/** What names a file: it stands in the sealed part of a save. */
export interface MemoryFile {
  readonly name: string
  readonly bytes: number
  readonly pieces: number
}

type At = { readonly seq: number; readonly hash: Buffer }

export class MemoryFiles {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  #of(birth: Buffer): string {
    return path.join(this.#folder, birth.toString('hex'))
  }

  /** Writes memory into a new file, durable when this resolves. On a failure nothing is left of it. */
  async write(birth: Buffer, at: At, key: PayloadKey, memory: Buffer): Promise<MemoryFile> {
    const name = `${randomBytes(8).toString('hex')}.mem`
    const file = path.join(this.#of(birth), name)
    try {
      fs.mkdirSync(this.#of(birth), { recursive: true, mode: 0o700 })
      const pieces = await this.#write(file, at, key, memory)
      syncFolder(this.#of(birth))
      syncFolder(this.#folder)
      return { name, bytes: memory.length, pieces }
    } catch (error) {
      fs.rmSync(file, { force: true })
      throw error
    }
  }

  async #write(name: string, at: At, key: PayloadKey, memory: Buffer): Promise<number> {
    const file = await fs.promises.open(name, 'wx', 0o600)
    let piece = 0
    try {
      for (let from = 0; from < memory.length; from += PIECE, piece++) {
        const iv = randomBytes(12)
        const cipher = createCipheriv('aes-256-gcm', key.key, iv)
        cipher.setAAD(aad(at, piece))
        const sealed = cipher.update(memory.subarray(from, from + PIECE))
        cipher.final()
        const length = Buffer.alloc(4)
        length.writeUInt32LE(sealed.length)
        await file.appendFile(Buffer.concat([iv, cipher.getAuthTag(), length]))
        await file.appendFile(sealed)
        // Piece by piece: the log would wait for the disk until all of it was written.
        await file.datasync()
      }
      await file.sync()
    } finally {
      await file.close()
    }
    return piece
  }

  /** Undefined: it is not there, or not as it was written. */
  async read(birth: Buffer, at: At, key: PayloadKey, said: MemoryFile): Promise<Buffer | undefined> {
    let file: fs.promises.FileHandle
    try {
      file = await fs.promises.open(path.join(this.#of(birth), path.basename(said.name)), 'r')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
    try {
      const memory = Buffer.allocUnsafe(said.bytes)
      let to = 0
      for (let piece = 0; piece < said.pieces; piece++) {
        const head = Buffer.alloc(HEAD)
        if ((await file.read(head)).bytesRead < HEAD) return undefined
        const length = head.readUInt32LE(28)
        if (length > PIECE || to + length > memory.length) return undefined
        const sealed = memory.subarray(to, to + length)
        if ((await file.read(sealed)).bytesRead < length) return undefined
        const opener = createDecipheriv('aes-256-gcm', key.key, head.subarray(0, 12))
        opener.setAAD(aad(at, piece))
        opener.setAuthTag(head.subarray(12, 28))
        const clear = opener.update(sealed)
        try {
          opener.final()
        } catch {
          return undefined
        }
        clear.copy(memory, to)
        to += length
      }
      return to === memory.length ? memory : undefined
    } finally {
      await file.close()
    }
  }

  /** Removes the files that an agent has now, but these. One that is written meanwhile stays. */
  async keepOnly(birth: Buffer, ...names: readonly (string | undefined)[]): Promise<void> {
    const folder = this.#of(birth)
    if (!fs.existsSync(folder)) return
    const others = fs.readdirSync(folder).filter((name) => !names.includes(name))
    // Those of a gigabyte take the disk a while.
    for (const name of others) await fs.promises.rm(path.join(folder, name), { force: true })
  }

  /** Of an agent that writes no more. */
  removeAll(birth: Buffer): Promise<void> {
    return fs.promises.rm(this.#of(birth), { recursive: true, force: true })
  }
}

function aad({ seq, hash }: At, piece: number): Buffer {
  return Buffer.concat([Buffer.from(`cardinal.memory.1.${seq}.${piece}.`), hash])
}
