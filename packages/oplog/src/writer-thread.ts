/** The log's thread: takes closed batches in order, writes each, says so. Blocks while there is none. */
import { createPrivateKey } from 'node:crypto'
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { type Batch, Writer, type WriterOptions } from './commit.ts'

export interface ThreadData extends Omit<WriterOptions, 'privateKey'> {
  readonly privatePem: string
  readonly port: MessagePort
  /** One word: how many messages were ever sent. */
  readonly sent: Int32Array
}

export type ToWriter = { readonly batch: Batch } | { readonly close: true }
export type FromWriter =
  | { readonly durable: number; readonly lastCommit: Uint8Array }
  | { readonly failed: { readonly code: string; readonly message: string } }
  | { readonly closed: true }

const data = workerData as ThreadData
const { port, sent } = data

/**
 * Sleeping and waking cost about as much as a commit's own work. So the thread looks a while for
 * more before it sleeps, if at its last wait more came soon.
 */
const SPIN_MS = 0.16
const SOON_MS = 0.25
let cameSoon = true

function waitForMore(taken: number): void {
  const began = performance.now()
  const until = began + (cameSoon ? SPIN_MS : 0)
  while (performance.now() < until) if (Atomics.load(sent, 0) !== taken) return
  Atomics.wait(sent, 0, taken)
  cameSoon = performance.now() - began < SOON_MS
}

function run(): void {
  const writer = new Writer({ ...data, privateKey: createPrivateKey(data.privatePem) })
  let taken = 0
  for (;;) {
    waitForMore(taken)
    for (;;) {
      const received = receiveMessageOnPort(port) as { message: ToWriter } | undefined
      if (!received) break
      // As the counter itself, which wraps at 32 bits.
      taken = (taken + 1) | 0
      if ('close' in received.message) {
        writer.close()
        port.postMessage({ closed: true } satisfies FromWriter)
        return
      }
      writer.write(received.message.batch)
      const durable = received.message.batch.base + received.message.batch.bytes.byteLength
      port.postMessage({ durable, lastCommit: writer.lastCommit } satisfies FromWriter)
    }
  }
}

try {
  run()
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException
  port.postMessage({ failed: { code: code ?? 'EIO', message } } satisfies FromWriter)
}
