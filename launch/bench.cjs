'use strict'
require('./prepare.cjs').launch('bench/src/main.ts', process.argv.slice(2))
