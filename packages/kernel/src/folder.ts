/** The data folder: where things lie in it, and its one owner. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import Database from 'better-sqlite3'
import { KernelError } from './errors.ts'

export interface Folder {
  readonly root: string
  readonly keys: string
  readonly log: string
  readonly images: string
  readonly components: string
  readonly homes: string
  /** Large memories of agents, as they were saved. */
  readonly memory: string
  readonly derived: string
  readonly saves: string
  readonly secrets: string
  /** Ways out of sandboxes that are open. */
  readonly doors: string
  readonly cache: string
  readonly token: string
}

export function layout(root: string): Folder {
  const at = (name: string) => path.join(root, name)
  return {
    root,
    keys: at('keys'),
    log: at('log'),
    images: at('images'),
    components: at('components'),
    homes: at('homes'),
    memory: at('memory'),
    derived: at('derived.db'),
    saves: at('saves.db'),
    secrets: at('secrets'),
    doors: at('doors'),
    cache: at('cache'),
    token: at('token'),
  }
}

/** Where heads are kept outside the data folder, so that an older copy of the folder is noticed. */
export function anchorFile(node: string): string {
  const state = process.env.XDG_STATE_HOME ?? path.join(os.homedir(), '.local', 'state')
  return path.join(state, 'cardinal', `${node}.head`)
}

export interface Lock {
  release(): void
}

/**
 * Takes the folder for this process. The lock is SQLite's own on a file of no other use: the
 * operating system gives it back when the process ends, however it ends.
 */
export function lockFolder(root: string): Lock {
  fs.mkdirSync(root, { recursive: true, mode: 0o700 })
  const db = new Database(path.join(root, 'lock'), { timeout: 0 })
  try {
    db.pragma('locking_mode = exclusive')
    db.exec('begin exclusive')
  } catch {
    db.close()
    throw new KernelError('Conflict', 'FolderInUse', `\`${root}\` is in use by another kernel`)
  }
  return { release: () => db.close() }
}
