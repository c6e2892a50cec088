/** `cambium build`. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import process from 'node:process'
import { Command } from 'commander'
import { CambiumError } from '../errors.js'

const HELP = `
Compiles the native core from the sources in the package, for a platform that has no prebuilt one. Needs a C++17 compiler and
cmake; cmake-js and Node's headers are fetched by npm when they are not installed. What was built is preferred from then on.

  cambium build --cuda          the library for an NVIDIA GPU, for the one at hand; needs nvcc 13 and a C++ compiler
  cambium build --cuda --all    for every architecture from 8.0 on`

export function buildCommand(exit: (code: number) => void): Command {
  return new Command('build')
    .description('Compile the native core from source, where no prebuilt one fits')
    .option('--cuda', 'the library for an NVIDIA GPU instead, with nvcc')
    .option('--all', 'with --cuda: for every architecture from 8.0 on, not only the GPU at hand')
    .addHelpText('after', HELP)
    .action(async ({ cuda, all }: { cuda?: boolean; all?: boolean }) => {
      if (all && !cuda) throw new CambiumError('E_USAGE', '--all: expected --cuda beside it')
      exit(await (cuda ? run('build-cuda.mjs', all ? ['--all'] : []) : run('build-native.mjs', [])))
    })
}

function run(script: string, args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [join(__dirname, '../../scripts', script), ...args], { stdio: 'inherit' })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve(code === 0 ? 0 : 1))
  })
}
