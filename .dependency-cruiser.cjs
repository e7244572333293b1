'use strict'
// Who may import whom: docs/architecture.md says why. The canary in tests/gates must fail.
const packages = 'packages'
const only = (name, allowed, note = '') => ({
  name: `${name}-imports`,
  comment: `${name} may import ${allowed.length > 0 ? allowed.join(', ') : 'no other package'}. ${note}`,
  severity: 'error',
  from: { path: `^${packages}/${name}/src`, pathNot: '(\\.test|\\.prop\\.test|sdk-ts/src/testing)\\.ts$' },
  to: {
    path: `^(${packages}|tests|bench|examples)/`,
    pathNot: `^${packages}/(${[name, ...allowed].join('|')})/`,
  },
})

module.exports = {
  forbidden: [
    only('engine', []),
    only('cards', []),
    only('oplog', []),
    only('secrets', []),
    only('tools', ['cards', 'secrets']),
    only('middleware', ['tools']),
    only('manifests', ['cards', 'middleware', 'secrets', 'tools']),
    only('kernel', ['engine', 'cards', 'oplog', 'secrets', 'tools', 'middleware', 'manifests', 'sdk-ts']),
    only('cli', ['cards', 'kernel', 'manifests', 'middleware', 'oplog', 'secrets', 'tools', 'sdk-ts']),
    only('sdk-ts', []),
    // Tests of programs run on a real kernel; nothing that goes into an image may import this file.
    {
      name: 'only-tests-see-the-kernel',
      severity: 'error',
      from: { path: '^packages/sdk-ts/src', pathNot: 'src/testing\\.ts$' },
      to: { path: '^packages/(kernel|sdk-ts/src/testing)' },
    },
    {
      name: 'tools-and-the-log',
      comment: 'what performs effects cannot reach the log, so it cannot forge a receipt',
      severity: 'error',
      from: { path: `^${packages}/(tools|middleware|secrets|cards)/` },
      to: { path: `^${packages}/oplog/` },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'nobody-imports-tests',
      severity: 'error',
      from: { pathNot: '^tests/' },
      to: { path: '^tests/' },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true, pathNot: '\\.node$' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    parser: 'swc',
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      extensions: ['.ts', '.js', '.cjs', '.json'],
    },
  },
}
