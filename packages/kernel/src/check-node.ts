/** Imported first by every entry: better-sqlite3 dies without a word on a Node that is too old. */
const NEEDED = 24
const major = Number(process.versions.node.split('.')[0])
if (major < NEEDED) {
  process.stderr.write(
    `cardinal: this is Node ${process.versions.node}; Node ${NEEDED} is needed (start with \`./cardinal\`, which brings its own)\n`,
  )
  process.exit(1)
}

export {}
