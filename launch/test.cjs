'use strict'
require('./prepare.cjs').launch('tests/run.ts', process.argv.slice(2))
