/** The public surface of the log. */
export type { SkippedSync } from './commit.ts'
export { LogError, type LogErrorClass, type LogErrorCode } from './errors.ts'
export { syncFolder, writeFileDurably } from './files.ts'
export {
  type EntryHeader,
  NO_POS,
  offsetOf,
  type Pos,
  type Seq,
  segmentName,
  segmentOf,
  sha256,
  sizeOfEntry,
  ZERO_HASH,
} from './format.ts'
export {
  checkDisclosed,
  checkInclusion,
  type Disclosed,
  disclose,
  type Inclusion,
  proveEntry,
} from './inclusion.ts'
export {
  hmacSha256,
  KeySlots,
  type NodeKey,
  openNodeKey,
  type PayloadKey,
  publicKeyFromHex,
  purposeKey,
} from './keys.ts'
export { Log, type LogOptions } from './log.ts'
export type { NewEntry, Tip } from './open-batch.ts'
export type { Entry } from './reader.ts'
export type { ScannedEntry } from './scan.ts'
export { type Verification, verifyLog } from './verify.ts'
