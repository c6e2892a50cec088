// Prints the closing line of a CI run from jest's JSON reports; exits non-zero when anything failed or a report ran nothing.
const { existsSync, readFileSync } = require('node:fs')
const [otherFailures, ...files] = process.argv.slice(2)
let [passed, failed] = [0, 0]
for (const file of files) {
  const report = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined
  passed += report?.numPassedTests ?? 0
  failed += (report?.numFailedTests ?? 0) + (report?.numRuntimeErrorTestSuites ?? 0) + Number(!report?.numPassedTests)
}
if (otherFailures !== '0' && failed === 0) failed = 1
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed > 0 ? 1 : 0)
