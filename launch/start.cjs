'use strict'
require('./prepare.cjs').launch('examples/bank/src/start.ts', process.argv.slice(2))
