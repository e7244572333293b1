/** An agent with a long history: every turn of it must be reproduced. */
import { functionTool, openTestKernel, programFile } from '../support/kernel.ts'

export async function longReplay(turns: number): Promise<{ turns: number; problems: string[] }> {
  const echo = functionTool('test.echo', 'read', (args) => args)
  const t = await openTestKernel(
    [{ name: 'worker', file: programFile('worker.ts'), now: ['{ tool: test.echo, args: "*" }'] }],
    { tools: [echo] },
  )
  try {
    const each = 100
    for (let done = 0; done < turns; done += each) await t.call('worker/long', 'steps', { n: each })
    const live = await t.call('worker/long', 'random')
    const replayed = await t.kernel.replay('acme/worker/long')
    const problems = replayed.turns < turns ? [`only ${replayed.turns} of ${turns} turns`] : []
    if (!live.ok) problems.push('the agent stopped answering')
    return { turns: replayed.turns, problems }
  } finally {
    await t.close()
  }
}
