/** A service that answers in the wire format of each provider of models: a text, and a call of a tool. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import zlib from 'node:zlib'

interface Asked {
  readonly url: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: Record<string, unknown>
}

export interface ModelStub {
  readonly port: number
  readonly asked: Asked[]
  /** Answers so from now on; 200: in the format of whoever asks. */
  status: number
  /** The text of the answer. */
  text: string
  close(): Promise<void>
}

const CALL = { name: 'bank_pay', args: { to: 'ann', amount: 5 } }
const sse = (events: readonly unknown[], done = '') =>
  events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('') + done

const openai = (text: string) => {
  const chunk = (delta: object, finish: string | null = null) => ({
    id: 'c1',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'm',
    choices: [{ index: 0, delta, finish_reason: finish }],
  })
  const call = {
    index: 0,
    id: 'call_1',
    type: 'function',
    function: { name: CALL.name, arguments: JSON.stringify(CALL.args) },
  }
  const usage = {
    id: 'c1',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'm',
    choices: [],
    usage: { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 },
  }
  return sse(
    [
      chunk({ role: 'assistant', content: text }),
      chunk({ tool_calls: [call] }),
      chunk({}, 'tool_calls'),
      usage,
    ],
    'data: [DONE]\n\n',
  )
}

const anthropic = (text: string) => {
  const events: [string, object][] = [
    [
      'message_start',
      {
        message: {
          id: 'm1',
          type: 'message',
          role: 'assistant',
          content: [],
          model: 'm',
          stop_reason: null,
          stop_sequence: null,
          usage: { input_tokens: 11, output_tokens: 1 },
        },
      },
    ],
    ['content_block_start', { index: 0, content_block: { type: 'text', text: '' } }],
    ['content_block_delta', { index: 0, delta: { type: 'text_delta', text } }],
    ['content_block_stop', { index: 0 }],
    [
      'content_block_start',
      { index: 1, content_block: { type: 'tool_use', id: 'call_1', name: CALL.name, input: {} } },
    ],
    [
      'content_block_delta',
      { index: 1, delta: { type: 'input_json_delta', partial_json: JSON.stringify(CALL.args) } },
    ],
    ['content_block_stop', { index: 1 }],
    [
      'message_delta',
      { delta: { stop_reason: 'tool_use', stop_sequence: null }, usage: { output_tokens: 7 } },
    ],
    ['message_stop', {}],
  ]
  return events
    .map(([type, data]) => `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`)
    .join('')
}

const google = (text: string) => {
  const parts = [{ text }, { functionCall: { name: CALL.name, args: CALL.args } }]
  const usageMetadata = { promptTokenCount: 11, candidatesTokenCount: 7, totalTokenCount: 18 }
  return sse([
    { candidates: [{ content: { role: 'model', parts }, finishReason: 'STOP', index: 0 }], usageMetadata },
  ])
}

const ollama = (text: string) => {
  const line = (message: object, more: object) =>
    `${JSON.stringify({ model: 'm', created_at: '2026-01-01T00:00:00Z', message: { role: 'assistant', ...message }, ...more })}\n`
  const calls = [{ function: { name: CALL.name, arguments: CALL.args } }]
  return (
    line({ content: text }, { done: false }) +
    line({ content: '', tool_calls: calls }, { done: false }) +
    line({ content: '' }, { done: true, done_reason: 'stop', prompt_eval_count: 11, eval_count: 7 })
  )
}

/** One message of `application/vnd.amazon.eventstream`. */
function frame(type: string, data: object): Buffer {
  const header = (name: string, value: string) => {
    const bytes = Buffer.from(value)
    const length = Buffer.alloc(2)
    length.writeUInt16BE(bytes.length)
    return Buffer.concat([Buffer.from([name.length]), Buffer.from(name), Buffer.from([7]), length, bytes])
  }
  const headers = Buffer.concat([
    header(':event-type', type),
    header(':content-type', 'application/json'),
    header(':message-type', 'event'),
  ])
  const payload = Buffer.from(JSON.stringify(data))
  const prelude = Buffer.alloc(8)
  prelude.writeUInt32BE(16 + headers.length + payload.length, 0)
  prelude.writeUInt32BE(headers.length, 4)
  const crc = (bytes: Buffer) => {
    const sum = Buffer.alloc(4)
    sum.writeUInt32BE(zlib.crc32(bytes))
    return sum
  }
  const message = Buffer.concat([prelude, crc(prelude), headers, payload])
  return Buffer.concat([message, crc(message)])
}

const bedrock = (text: string) =>
  Buffer.concat([
    frame('messageStart', { role: 'assistant' }),
    frame('contentBlockDelta', { contentBlockIndex: 0, delta: { text } }),
    frame('contentBlockStop', { contentBlockIndex: 0 }),
    frame('contentBlockStart', {
      contentBlockIndex: 1,
      start: { toolUse: { toolUseId: 'call_1', name: CALL.name } },
    }),
    frame('contentBlockDelta', {
      contentBlockIndex: 1,
      delta: { toolUse: { input: JSON.stringify(CALL.args) } },
    }),
    frame('contentBlockStop', { contentBlockIndex: 1 }),
    frame('messageStop', { stopReason: 'tool_use' }),
    frame('metadata', {
      usage: { inputTokens: 11, outputTokens: 7, totalTokens: 18 },
      metrics: { latencyMs: 1 },
    }),
  ])

function answerTo(url: string, text: string): [type: string, body: string | Buffer] {
  if (url.includes('/converse')) return ['application/vnd.amazon.eventstream', bedrock(text)]
  if (url.includes('streamGenerateContent')) return ['text/event-stream', google(text)]
  if (url.endsWith('/messages')) return ['text/event-stream', anthropic(text)]
  if (url.includes('/api/chat')) return ['application/x-ndjson', ollama(text)]
  return ['text/event-stream', openai(text)]
}

export async function startModelStub(): Promise<ModelStub> {
  const asked: Asked[] = []
  const server = http.createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    const { url = '', headers } = request
    asked.push({ url, headers, body: JSON.parse(body) })
    if (stub.status !== 200) {
      response.writeHead(stub.status, { 'content-type': 'application/json' })
      return response.end(
        JSON.stringify({
          error: { message: `said ${JSON.stringify(headers)} ${body}`, type: 'x', code: 'x' },
        }),
      )
    }
    const [type, answer] = answerTo(url, stub.text)
    response.writeHead(200, { 'content-type': type })
    response.end(answer)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stub: ModelStub = {
    port: (server.address() as AddressInfo).port,
    asked,
    status: 200,
    text: 'I would pay ann.',
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return stub
}
