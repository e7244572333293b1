/**
 * Runs inside a sandbox that has a way out, as the parent of its program: programs speak to a port of loopback,
 * and the door listens on a socket of the file system, which is all that leads out of the sandbox's network.
 *
 *   node egress-relay.mjs SOCKET PORT PROGRAM [ARGUMENT…]
 *
 * JavaScript, and nothing else of ours: it starts with each program, and taking types out first costs as long again.
 */
import { spawn } from 'node:child_process'
import net from 'node:net'

const [socket = '', port = '', program = '', ...args] = process.argv.slice(2)

const server = net.createServer((inside) => {
  const outside = net.connect(socket)
  const end = () => {
    inside.destroy()
    outside.destroy()
  }
  inside.on('error', end)
  outside.on('error', end)
  inside.on('close', end)
  outside.on('close', end)
  inside.pipe(outside).pipe(inside)
})
server.listen(Number(port), '127.0.0.1', () => {
  const child = spawn(program, args, { stdio: 'inherit' })
  child.on('error', () => {
    process.stderr.write(`sandbox: 0: exec: ${program}: not found\n`, () => process.exit(127))
  })
  child.on('exit', (code, signal) => {
    if (signal) process.kill(process.pid, signal)
    else process.exit(code ?? 1)
  })
})
