/** `npm test`: gates, then every test. The last line is `N passed, N failed`. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { runGates } from './gates/gates.ts'

const root = path.join(import.meta.dirname, '..')
let passed = 0
let failed = 0

// Sandboxed programs are tested with the real sandbox or not at all.
if (
  process.platform === 'linux' &&
  !['/usr/local/bin', '/usr/bin', '/bin'].some((at) => fs.existsSync(`${at}/bwrap`))
) {
  process.stdout.write(
    '`bwrap` is missing: install bubblewrap (Debian: apt-get install bubblewrap)\n0 passed, 1 failed\n',
  )
  process.exit(1)
}

const began = Date.now()
process.stdout.write('gates\n')
runGates(({ name, ok, output }) => {
  if (ok) passed++
  else failed++
  process.stdout.write(`  ${ok ? 'ok    ' : 'FAILED'} ${name}\n${ok ? '' : `${output}\n`}`)
})

process.stdout.write('\ntests\n')
const report = path.join(os.tmpdir(), `cardinal-tests-${process.pid}.json`)
const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs')
const args = [
  'run',
  '--reporter=verbose',
  '--reporter=json',
  `--outputFile.json=${report}`,
  ...process.argv.slice(2),
]
const done = spawnSync(process.execPath, [vitest, ...args], {
  cwd: root,
  stdio: ['ignore', 'inherit', 'inherit'],
})
if (fs.existsSync(report)) {
  const { numPassedTests, numFailedTests } = JSON.parse(fs.readFileSync(report, 'utf8')) as {
    numPassedTests: number
    numFailedTests: number
  }
  fs.rmSync(report)
  passed += numPassedTests
  failed += numFailedTests
  // A file that does not load, or an error outside any test, fails the run without failing a test.
  if (done.status !== 0 && numFailedTests === 0) failed++
} else failed++

process.stdout.write(`\n${((Date.now() - began) / 1000).toFixed(0)} s\n${passed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 ? 0 : 1
