import { INTERRUPTED, onInterrupt } from '../../lib/cli/interrupt.js'

test('the first signal asks the work to stop, the second ends the process', () => {
  const exit = jest.spyOn(process, 'exit').mockImplementation(() => undefined as never)
  const lines: string[] = []
  const interrupt = onInterrupt((line) => lines.push(line))
  expect(interrupt.signal.aborted).toBe(false)
  process.emit('SIGINT')
  expect(interrupt.signal.aborted).toBe(true)
  expect(lines).toHaveLength(1)
  expect(exit).not.toHaveBeenCalled()
  process.emit('SIGINT')
  expect(exit).toHaveBeenCalledWith(INTERRUPTED)
  interrupt.dispose()
  expect(process.listenerCount('SIGINT')).toBe(0)
  exit.mockRestore()
})
