// Required before a program: it then sends itself CAMBIUM_SIGNAL at the moment when a file first gets the name in CAMBIUM_SIGNAL_AT,
// so that it is stopped at the same step on every machine.
const fs = require('node:fs')

const rename = fs.rename
let sent = false
fs.rename = (from, to, done) =>
  rename(from, to, (error) => {
    if (!error && !sent && to === process.env.CAMBIUM_SIGNAL_AT) {
      sent = true
      process.kill(process.pid, process.env.CAMBIUM_SIGNAL)
    }
    done(error)
  })
