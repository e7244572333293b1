/** One client of a node's API, with connections that stay open. */
import { once } from 'node:events'
import http from 'node:http'

export interface Caller {
  /** POSTs an empty call; anything but an answer is thrown. */
  call(path: string): Promise<void>
  close(): void
}

export function caller(url: string, token: string): Caller {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 64 })
  const headers = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    'content-length': 2,
  }
  return {
    async call(path) {
      const request = http.request(`${url}${path}`, { method: 'POST', agent, headers })
      request.end('{}')
      const [response] = (await once(request, 'response')) as [http.IncomingMessage]
      response.resume()
      await once(response, 'end')
      if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`)
    },
    close: () => agent.destroy(),
  }
}
