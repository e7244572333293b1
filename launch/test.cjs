'use strict'
const powercut = { folder: 'tests/powercut', library: 'libcardinal_powercut.so' }
require('./prepare.cjs').launch('tests/run.ts', process.argv.slice(2), [powercut])
