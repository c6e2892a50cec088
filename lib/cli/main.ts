#!/usr/bin/env node
// The command line: see program.ts.
import process from 'node:process'
import { runProgram } from './program.js'

// A reader that went away (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
runProgram(process.argv.slice(2)).then((code) => {
  process.exitCode = code
})
