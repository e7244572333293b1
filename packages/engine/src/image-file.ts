/** What the head of an image file says: what it lies over, and which module it was made of. Mirrors `image.rs`. */

const MAGIC = 'CARDIMG2'
const KIND_AT = 8
const MODULE_AT = 9
const PARENT_AT = 41
const HASH = 32

export interface ImageFile {
  readonly kind: 'js' | 'core'
  /** SHA-256 of the image that it lies over, as hex; undefined: it lies over none, or is of an old format. */
  readonly parent: string | undefined
  /** SHA-256 of its module, as hex; undefined: the engine's own. */
  readonly module: string | undefined
}

/** Reads the head of an image file, which nobody has checked but by its hash. */
export function readImage(bytes: Buffer): ImageFile {
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC)
    return { kind: 'js', parent: undefined, module: undefined }
  const parent = bytes.subarray(PARENT_AT, PARENT_AT + HASH)
  const core = bytes[KIND_AT] === 1
  return {
    kind: core ? 'core' : 'js',
    parent: parent.every((byte) => byte === 0) ? undefined : parent.toString('hex'),
    module: core ? bytes.toString('hex', MODULE_AT, MODULE_AT + HASH) : undefined,
  }
}
