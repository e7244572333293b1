/**
 * Finds the boxes of a bound that hold a request without looking at all of them.
 *
 * By tool first. Of many boxes for one tool, by the one dimension in which they differ most: a place is
 * held by the cell of that place, by those of the places above it, and by everything.
 */
import type { Bound } from './bound.ts'
import { type Box, boxHas, type Request } from './box.ts'
import { type Cell, cellHas } from './cell.ts'

type Place = 'host' | 'resource' | 'path' | 'secret'
const PLACES: readonly Place[] = ['host', 'resource', 'path', 'secret']
/** Below this, looking at each is quicker. */
const FEW = 5
const SEPARATOR = '\n'

const EMPTY: readonly Box[] = []

/** The boxes of one tool by their cells in one dimension. */
class PlaceIndex {
  readonly #dimension: Place
  readonly #exact = new Map<string, Box[]>()
  readonly #under = new Map<string, Box[]>()
  readonly #rest: Box[] = []

  constructor(dimension: Place, boxes: readonly Box[]) {
    this.#dimension = dimension
    for (const box of boxes) {
      const cell = box[dimension]
      if (cell.kind === 'exact' || cell.kind === 'under') {
        const map = cell.kind === 'exact' ? this.#exact : this.#under
        const key = cell.at.join(SEPARATOR)
        map.set(key, [...(map.get(key) ?? []), box])
      } else this.#rest.push(box)
    }
  }

  holding(q: Request): Box[] {
    const found: Box[] = []
    add(found, this.#rest, q)
    const place = q[this.#dimension]
    if (place === undefined) return found
    let key = ''
    for (let i = 0; i < place.length; i++) {
      add(found, this.#under.get(key), q)
      key = i === 0 ? (place[0] as string) : key + SEPARATOR + place[i]
    }
    add(found, this.#exact.get(key), q)
    return found
  }
}

function add(found: Box[], boxes: readonly Box[] | undefined, q: Request): void {
  if (boxes) for (const box of boxes) if (boxHas(box, q)) found.push(box)
}

class ToolIndex {
  readonly #boxes: readonly Box[]
  readonly #places: PlaceIndex | undefined

  constructor(boxes: readonly Box[]) {
    this.#boxes = boxes
    if (boxes.length >= FEW) this.#places = new PlaceIndex(mostDifferent(boxes), boxes)
  }

  holding(q: Request): Box[] {
    if (this.#places) return this.#places.holding(q)
    const found: Box[] = []
    add(found, this.#boxes, q)
    return found
  }
}

function mostDifferent(boxes: readonly Box[]): Place {
  const kinds = (place: Place) => new Set(boxes.map((box) => keyOf(box[place]))).size
  return PLACES.reduce((best, place) => (kinds(place) > kinds(best) ? place : best))
}

function keyOf(cell: Cell): string {
  return cell.kind === 'exact' || cell.kind === 'under' ? `${cell.kind}${cell.at.join(SEPARATOR)}` : cell.kind
}

/** The tools that are asked for are those that are declared, so this stays small; beyond, it starts anew. */
const MAX_TOOLS = 1024

/** A bound, ready to be asked. Bounds never change, so what is found once holds. */
export class BoundIndex {
  readonly #bound: Bound
  readonly #tools = new Map<string, ToolIndex>()

  constructor(bound: Bound) {
    this.#bound = bound
  }

  /** The boxes that hold the request, whose tool has this name. */
  holding(q: Request, tool: string): readonly Box[] {
    if (this.#bound.length === 0) return EMPTY
    let index = this.#tools.get(tool)
    if (!index) {
      if (this.#tools.size >= MAX_TOOLS) this.#tools.clear()
      index = new ToolIndex(this.#bound.filter((box) => cellHas(box.tool, q.tool)))
      this.#tools.set(tool, index)
    }
    return index.holding(q)
  }
}
