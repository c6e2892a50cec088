import { execFile } from 'node:child_process'
import { join } from 'node:path'

// However a process ends, it ends with the code it chose: nothing aborts, nothing hangs.
interface End {
  code: number | string | null | undefined
  signal: string | null | undefined
  stdout: string
  stderr: string
}

const run = (how: string): Promise<End> =>
  new Promise((resolve) => {
    const args = ['--require', join(__dirname, '../typescript.cjs'), join(__dirname, 'training-child.ts'), how]
    execFile(process.execPath, args, { timeout: 300_000 }, (error, stdout, stderr) => {
      resolve({ code: error ? error.code : 0, signal: error?.signal, stdout, stderr })
    })
  })

test('process.exit in the middle of a step', async () => {
  expect(await run('exit')).toMatchObject({ code: 7, stderr: '' })
})

test('process.exit with a full queue', async () => {
  expect(await run('queued')).toMatchObject({ code: 9, stderr: '' })
})

test('an uncaught exception in the middle of a step', async () => {
  const end = await run('throw')
  expect(end).toMatchObject({ code: 1 })
  expect(end.stderr).toContain('in the middle')
})

test('a process that has nothing left to do', async () => {
  expect(await run('run')).toMatchObject({ code: 0, stdout: '49152\n', stderr: '' })
})
