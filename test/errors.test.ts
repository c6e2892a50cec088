import { readFileSync } from 'node:fs'
import { messageOf } from '../lib/errors.js'

test('a message of the file system is told in words, without the path that stands before it anyway', () => {
  const caught = (work: () => unknown) => {
    try {
      return work()
    } catch (error) {
      return error
    }
  }
  expect(messageOf(caught(() => readFileSync('/none, open it')))).toBe('no such file or directory')
  expect(messageOf(caught(() => readFileSync('/')))).toBe('illegal operation on a directory')
  expect(messageOf(new Error('E: whole, open'))).toBe('E: whole, open')
  expect([messageOf('text'), messageOf(undefined), messageOf({ message: 3 })]).toEqual(['text', 'undefined', '3'])
})
