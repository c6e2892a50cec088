// Prints the closing line of a CI run from jest's JSON report; exits non-zero when anything failed or nothing ran.
const { readFileSync } = require('node:fs')
const [file, otherFailures] = process.argv.slice(2)
const report = JSON.parse(readFileSync(file, 'utf8'))
const failed = report.numFailedTests + report.numRuntimeErrorTestSuites + Number(otherFailures !== '0' && report.success)
console.log(`${report.numPassedTests} passed, ${failed} failed`)
process.exit(failed > 0 || report.numPassedTests === 0 ? 1 : 0)
