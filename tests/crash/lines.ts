/** What the processes of these tests share: requests as lines, and an end without warning. */
import readline from 'node:readline'

export function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

/** Kill −9, of this process, before anything else happens in it. */
export function killMyself(): never {
  process.kill(process.pid, 'SIGKILL')
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
}

/** Answers one JSON request a line until standard input ends. */
export async function answerLines<Asked>(answer: (asked: Asked) => Promise<object>): Promise<void> {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line) as Asked & { ref: number }
    // Answers come in any order; `ref` says which request each belongs to.
    answer(asked).then(
      (value) => say({ ref: asked.ref, ...value }),
      (error) =>
        say({ ref: asked.ref, error: { class: error.class, code: error.code, message: error.message } }),
    )
  }
}
