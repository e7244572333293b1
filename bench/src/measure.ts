/** Timing: percentiles, throughput, and the calibration loop that makes figures of two machines comparable. */
import { hash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

export interface Figures {
  readonly n: number
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

export interface Row extends Partial<Figures> {
  readonly row: number
  readonly name: string
  readonly unit: string
  readonly value?: number
  readonly goal: string
  readonly met: boolean
  readonly note: string
}

export function percentiles(samples: number[]): Figures {
  const sorted = [...samples].sort((a, b) => a - b)
  const at = (p: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] as number
  return { n: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) }
}

/** Runs `work` so often, after a warm-up, one at a time; milliseconds each. */
export async function each(
  n: number,
  warmUp: number,
  work: (i: number) => Promise<unknown>,
): Promise<Figures> {
  for (let i = 0; i < warmUp; i++) await work(i)
  const samples: number[] = []
  for (let i = 0; i < n; i++) {
    const began = performance.now()
    await work(warmUp + i)
    samples.push(performance.now() - began)
  }
  return percentiles(samples)
}

/** Runs `work` so often, `width` at a time; operations a second and the latency of each. */
export async function wide(
  n: number,
  width: number,
  work: (i: number) => Promise<unknown>,
): Promise<Figures & { perSecond: number }> {
  const samples: number[] = []
  let next = 0
  const began = performance.now()
  const worker = async () => {
    while (next < n) {
      const i = next++
      const at = performance.now()
      await work(i)
      samples.push(performance.now() - at)
    }
  }
  await Promise.all(Array.from({ length: width }, worker))
  return { ...percentiles(samples), perSecond: (n / (performance.now() - began)) * 1000 }
}

/** A fixed piece of work: hashes a second on one core, and one synced sector of the disk. */
export function calibrate(folder: string): { sha256PerSecond: number; fdatasyncMs: Figures } {
  const block = Buffer.alloc(400, 7)
  const began = performance.now()
  let count = 0
  while (performance.now() - began < 500) {
    for (let i = 0; i < 1000; i++) hash('sha256', block, 'buffer')
    count += 1000
  }
  const file = path.join(folder, 'calibrate')
  const fd = fs.openSync(file, 'w')
  fs.writeSync(fd, Buffer.alloc(1 << 20))
  fs.fsyncSync(fd)
  const samples: number[] = []
  for (let i = 0; i < 500; i++) {
    const at = performance.now()
    fs.writeSync(fd, Buffer.alloc(512, i), 0, 512, i * 512)
    fs.fdatasyncSync(fd)
    samples.push(performance.now() - at)
  }
  fs.closeSync(fd)
  fs.rmSync(file)
  return {
    sha256PerSecond: Math.round(count / ((performance.now() - began) / 1000)),
    fdatasyncMs: percentiles(samples),
  }
}

export function machine(): object {
  const [cpu] = os.cpus()
  return {
    cpu: cpu?.model,
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    node: process.versions.node,
    kernel: os.release(),
    loadAverage: os.loadavg()[0],
  }
}

/** Bytes of memory that belong to this process alone. */
export function privateBytes(): number {
  const text = fs.readFileSync('/proc/self/smaps_rollup', 'utf8')
  return Number(/Private_Dirty:\s+(\d+)/.exec(text)?.[1]) * 1024
}
