#!/usr/bin/env node
// The command line: see program.ts.
import process from 'node:process'
import type { CambiumError } from '../errors.js'
import { ioError } from '../formats/atomic-file.js'
import { runProgram } from './program.js'

// A reader that went away (`| head`) is no error; whatever else befalls the results is told.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  const { code, message } = ioError('standard output', error) as CambiumError
  process.stderr.write(`error: ${message} (${code})\n`, () => process.exit(1))
})
runProgram(process.argv.slice(2)).then((code) => {
  process.exitCode = code
})
