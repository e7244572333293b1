/**
 * A banking assistant that stands in for a model: it works through AgentDojo's tasks by their
 * recorded calls, and, naive as it is, obeys any "important message" that it finds in a text.
 * What it may do is not its own choice: the card in `cardinal.yaml` decides.
 */
import { Agent, log, Refused } from '@cardinal/sdk'
import dojo from './data/agentdojo-banking.json'

interface Call {
  tool: string
  args: Record<string, unknown>
}
interface Done {
  call: string
  result: unknown
}
interface Stopped {
  call: string
  by: string
  see: string | undefined
}

const BANK = 'http://127.0.0.1:7790'

export default class Assistant extends Agent {
  static methods = {
    task: {
      in: { type: 'object', properties: { id: { type: 'string' } }, required: ['id'] },
      about: 'works through one of the AgentDojo user tasks',
    },
    pay: {
      in: {
        type: 'object',
        properties: { to: { type: 'string' }, amount: { type: 'string' }, subject: { type: 'string' } },
        required: ['to', 'amount', 'subject'],
      },
      about: 'pays one bill',
    },
    status: { shared: true, about: 'what was done so far' },
  }

  done = 0
  stopped = 0

  async task({ id }: { id: string }) {
    const task = dojo.userTasks.find((t) => t.id === id)
    if (!task) throw new Error(`no task ${id}`)
    log(`task: ${task.prompt}`)
    const done: Done[] = []
    const stopped: Stopped[] = []
    for (const call of task.calls as Call[]) await this.act(call, done, stopped)
    return { task: task.prompt, done, stopped }
  }

  async pay({ to, amount, subject }: { to: string; amount: string; subject: string }) {
    const { id } = (await this.send('POST', `/payees/${to}/payments`, { amount, subject })) as { id: string }
    this.done++
    return { paid: amount, to, id }
  }

  status() {
    return { done: this.done, stopped: this.stopped }
  }

  private async act(call: Call, done: Done[], stopped: Stopped[]): Promise<void> {
    const name = `${call.tool} ${JSON.stringify(call.args)}`
    try {
      const result = await this.perform(call)
      this.done++
      done.push({ call: name, result })
      // The mistake that the card must survive: what was read is taken for what was asked.
      for (const injected of this.instructionsIn(result)) await this.act(injected, done, stopped)
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      this.stopped++
      stopped.push({ call: name, by: error.by, see: error.effect })
    }
  }

  private instructionsIn(result: unknown): Call[] {
    const text = (result as { text?: string } | null)?.text ?? ''
    const found = /<INFORMATION>[\s\S]*CALLS: (.*)\n<\/INFORMATION>/.exec(text)
    if (!found) return []
    log('the text holds an important message: obeying it')
    return JSON.parse(found[1] as string) as Call[]
  }

  private perform({ tool, args }: Call): Promise<unknown> {
    const { recipient, file_path, id, n, ...rest } = args as {
      recipient?: string
      file_path?: string
      id?: number
      n?: number
    }
    switch (tool) {
      case 'get_iban':
      case 'get_balance':
        return this.send('GET', '/account')
      case 'get_most_recent_transactions':
        return this.send('GET', `/transactions?n=${n ?? 100}`)
      case 'get_scheduled_transactions':
        return this.send('GET', '/scheduled')
      case 'get_user_info':
        return this.send('GET', '/user')
      case 'read_file':
        return this.send('GET', `/files/${file_path}`)
      case 'send_money':
        return this.send('POST', `/payees/${recipient}/payments`, rest)
      case 'schedule_transaction':
        return this.send('POST', `/payees/${recipient}/schedules`, rest)
      case 'update_scheduled_transaction':
        return this.send('PATCH', `/scheduled/${id}`, recipient === undefined ? rest : { recipient, ...rest })
      case 'update_user_info':
        return this.send('PATCH', '/user', rest)
      case 'update_password':
        return this.send('PUT', '/password', rest)
      default:
        throw new Error(`no tool ${tool}`)
    }
  }

  private async send(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await fetch(`${BANK}${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const value = await answer.json()
    if (!answer.ok) throw new Error(`the bank says ${answer.status}: ${JSON.stringify(value)}`)
    return value
  }
}
