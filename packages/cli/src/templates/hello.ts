/** What `cardinal init` writes. */

export const MANIFEST = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: hello }
spec:
  program: ./hello.ts
  card:
    # What an instance may do now. Everything else is refused, and \`cardinal why last\` says what was missing.
    now:
      - { tool: http.fetch, host: example.com, path: / }
    # What it may ever do, whatever it is given later.
    ever: same
    limits: { calls: 1000 }
`

export const PROGRAM = `import { Agent, log } from "@cardinal/sdk";

export default class Hello extends Agent {
  // The only entry points. Nothing else can be called from outside.
  static methods = {
    greet: { in: { type: "object", properties: { name: { type: "string" } }, required: ["name"] }, about: "says hello, and how often it did" },
    look: { about: "fetches a page that the card allows, and one that it does not" },
  };

  // Fields simply persist: memory is the state.
  greeted = 0;

  greet({ name }: { name: string }) {
    this.greeted++;
    log(\`greeted \${name}\`);
    return \`Hello, \${name}. I am \${this.self.address} and have greeted \${this.greeted} so far.\`;
  }

  async look() {
    const allowed = await fetch("https://example.com/").then((r) => r.status, (e) => String(e));
    const refused = await fetch("https://example.org/").then((r) => r.status, (e) => String(e));
    return { allowed, refused };
  }
}
`
