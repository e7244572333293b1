/**
 * Ways out of sandboxes: each a forward proxy on a socket of the file system, which is mounted into one sandbox, and
 * decides each request by the tool's own card before it takes it to the door.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { Bound } from '@cardinal/cards'
import { EgressCa } from './egress-ca.ts'
import type { EgressDoor } from './egress-door.ts'
import { type NoteEgress, type Room, Way } from './egress-way.ts'

/** A way out that is open. */
export interface WayOut {
  /** A folder that holds the socket and what is to be trusted. */
  readonly folder: string
  close(): void
}

/** Opens a way out for one tenant. */
export type OpenWay = (bound: Bound, note: NoteEgress) => Promise<WayOut>

/** What stands in the folder of a way out. */
export const SOCKET = 'door.sock'
export const TRUSTED = 'ca.pem'
const PREFIX = 'door-'
/** Sockets of all ways together, and of those of one tenant: a node has others to serve. */
const ALL_SOCKETS = 1024
const TENANT_SOCKETS = 256
/** The system takes no longer name of a socket than 107 bytes. */
const MAX_SOCKET_PATH = 100

/** Opens ways out, all by one authority. */
export class EgressProxy {
  readonly #door: EgressDoor
  readonly #base: string
  readonly #all = { sockets: ALL_SOCKETS }
  readonly #rooms = new Map<string, Room>()
  #ca: EgressCa | undefined

  /** `base`: a folder of the node's own. What an earlier run left in it is removed. */
  constructor(door: EgressDoor, base: string) {
    this.#door = door
    fs.rmSync(base, { recursive: true, force: true })
    // Sockets have short names, whatever their folder is called.
    this.#base = path.join(base, `${PREFIX}XXXXXX`, SOCKET).length > MAX_SOCKET_PATH ? os.tmpdir() : base
  }

  /** Whatever goes through it lies within `bound`. */
  async open(tenant: string, bound: Bound, note: NoteEgress): Promise<WayOut> {
    this.#ca ??= new EgressCa()
    const pem = await this.#ca.pem()
    fs.mkdirSync(this.#base, { recursive: true, mode: 0o700 })
    const folder = fs.mkdtempSync(path.join(this.#base, PREFIX))
    const way = new Way(this.#door, this.#ca, { bound, note, room: this.#roomOf(tenant) })
    const close = () => {
      way.close()
      fs.rmSync(folder, { recursive: true, force: true })
    }
    try {
      fs.writeFileSync(path.join(folder, TRUSTED), pem)
      await way.listen(path.join(folder, SOCKET))
      return { folder, close }
    } catch (error) {
      close()
      throw error
    }
  }

  #roomOf(tenant: string): Room {
    const known = this.#rooms.get(tenant)
    if (known) return known
    const made = { own: { sockets: TENANT_SOCKETS }, all: this.#all }
    this.#rooms.set(tenant, made)
    return made
  }
}
