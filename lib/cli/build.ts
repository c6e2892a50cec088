/** `cambium build`. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import process from 'node:process'
import { Command } from 'commander'

const HELP = `
Compiles the native core from the sources in the package, for a platform that has no prebuilt one. Needs a C++17 compiler and
cmake; cmake-js and Node's headers are fetched by npm when they are not installed. What was built is preferred from then on.`

export function buildCommand(exit: (code: number) => void): Command {
  return new Command('build')
    .description('Compile the native core from source, where no prebuilt one fits')
    .addHelpText('after', HELP)
    .action(async () => exit(await run()))
}

function run(): Promise<number> {
  const child = spawn(process.execPath, [join(__dirname, '../../scripts/build-native.mjs')], { stdio: 'inherit' })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve(code === 0 ? 0 : 1))
  })
}
