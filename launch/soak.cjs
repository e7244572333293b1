'use strict'
require('./prepare.cjs').launch('tests/soak.ts', process.argv.slice(2))
