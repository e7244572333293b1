/** Random histories by the hundred thousand, on as many threads as there are cores. */
import os from 'node:os'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { Sim } from '@cardinal/cards'
import { check, showFailure } from './run.ts'

interface Share {
  readonly seed: number
  readonly histories: number
}

type Message = { readonly done: number } | { readonly problem: string }

const TELL_EVERY = 200

export interface HistorySweep {
  readonly histories: number
  readonly problems: readonly string[]
}

/** Runs the histories of `histories` seeds from `seed` on; stops at the first problem of each thread. */
export async function historySweep(
  { seed, histories }: Share,
  tell: (done: number) => void,
): Promise<HistorySweep> {
  const threads = os.availableParallelism()
  const share = Math.ceil(histories / threads)
  const problems: string[] = []
  let done = 0
  const run = (i: number) =>
    new Promise<void>((resolve, reject) => {
      const data: Share = { seed: seed + i * share, histories: Math.min(share, histories - i * share) }
      const worker = new Worker(import.meta.filename, { workerData: data })
      worker.on('message', (message: Message) => {
        if ('problem' in message) {
          problems.push(message.problem)
          return
        }
        done += message.done
        tell(done)
      })
      worker.on('error', reject)
      worker.on('exit', () => resolve())
    })
  await Promise.all(Array.from({ length: threads }, (_, i) => run(i)))
  return { histories: done, problems }
}

function work({ seed, histories }: Share): void {
  let done = 0
  for (let i = 0; i < histories; i++) {
    const failure = check(() => new Sim(), (seed + i) % 2 ** 31)
    if (failure) {
      parentPort?.postMessage({ problem: showFailure(failure) } satisfies Message)
      return
    }
    done += 1
    if (done === TELL_EVERY || i === histories - 1) {
      parentPort?.postMessage({ done } satisfies Message)
      done = 0
    }
  }
}

if (!isMainThread) work(workerData as Share)
