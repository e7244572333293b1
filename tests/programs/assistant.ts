import { Agent, Refused, tool } from '@cardinal/sdk'

interface Answer {
  readonly text: string
  readonly calls: readonly { readonly id: string; readonly name: string; readonly args: never }[]
}

const MAX_STEPS = 40

/** The loop that every assistant is: the model proposes, the kernel decides, and the model is told. */
export default class Assistant extends Agent {
  static methods = { run: {} }

  async run({ task, tools }: { task: string; tools: unknown[] }) {
    const messages: object[] = [{ role: 'user', content: task }]
    for (let step = 0; step < MAX_STEPS; step++) {
      const answer = (await tool('llm.chat', { model: 'script', messages, tools })) as Answer
      messages.push({ role: 'assistant', content: answer.text, calls: answer.calls })
      if (answer.calls.length === 0) return answer.text
      for (const { id, name, args } of answer.calls) {
        const content = await this.call(name, args)
        messages.push({ role: 'tool', id, name, content })
      }
    }
    return 'gave up'
  }

  private async call(name: string, args: never): Promise<string> {
    try {
      return JSON.stringify(await tool(name, args))
    } catch (error) {
      if (error instanceof Refused) return `refused by ${error.by}: ${error.message}`
      throw error
    }
  }
}
