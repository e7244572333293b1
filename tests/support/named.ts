/**
 * Reaches names through the door, in a sandbox that has its own file of names: what tests of
 * egress run beside them. Reads one URL a line, and says what became of it.
 */
import { createInterface } from 'node:readline'
import { EgressDoor } from '@cardinal/tools'

const [zone = ''] = process.argv.slice(2)
const door = new EgressDoor({
  policy: {
    zones: () => [{ name: 'test', hosts: zone.split(','), ranges: ['127.0.0.1/32'] }],
    networks: () => [],
    version: () => 0,
    ownPorts: () => new Set(),
  },
  connections: 1,
  timeoutMs: 3000,
})
for await (const line of createInterface({ input: process.stdin })) {
  const url = new URL(line)
  try {
    const answer = await door.fetchTo(url.origin, () => ({}))(url)
    process.stdout.write(`${answer.status} ${await answer.text()}\n`)
  } catch (error) {
    const { code, cause } = error as { code?: string; cause?: { code?: string } }
    process.stdout.write(`${cause?.code ?? code}\n`)
  }
}
await door.close()
