/** `node:stream` in an agent: the streams of Node 18, as the package `readable-stream` keeps them. */
import type * as node from 'node:stream'
import streams from 'readable-stream/lib/ours/browser.js'

export type Readable = node.Readable
export type Writable = node.Writable
export const { Duplex, PassThrough, Readable, Transform, Writable } = streams
export const { addAbortSignal, finished, pipeline, promises } = streams
export default streams
