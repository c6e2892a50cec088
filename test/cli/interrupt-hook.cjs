// Required before a program: it then sends itself SIGINT at the moment when a file first gets the name in CAMBIUM_INTERRUPT_AT,
// so that it is stopped at the same step on every machine.
const fs = require('node:fs')

const rename = fs.rename
let sent = false
fs.rename = (from, to, done) =>
  rename(from, to, (error) => {
    if (!error && !sent && to === process.env.CAMBIUM_INTERRUPT_AT) {
      sent = true
      process.kill(process.pid, 'SIGINT')
    }
    done(error)
  })
