/** Another process that takes POSTs and counts them. Says its port on stdout, and ends with its stdin. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'

let taken = 0
const server = http.createServer((request, response) => {
  request.resume()
  request.on('end', () => response.end(String(++taken)))
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`))
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
