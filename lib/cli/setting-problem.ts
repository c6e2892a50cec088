/** What is wrong with a setting, as all errors of the library say it: `expected …, got …`. */
import type { z } from 'zod'
import { describe } from '../errors.js'

const KINDS: Readonly<Record<string, string>> = {
  ...{ number: 'a number', int: 'a whole number', string: 'a text', boolean: 'true or false', array: 'a list' },
  ...{ object: 'a map', record: 'a map' },
}

/** @param value that of the setting at fault; nothing where none was given */
export function settingProblem(issue: z.core.$ZodIssue, value: unknown): string {
  if (issue.code === 'custom') return issue.message
  if (value === undefined) return 'expected a value, got none'
  const expected = expectation(issue)
  return expected === undefined ? issue.message : `expected ${expected}, got ${describe(value)}`
}

function expectation(issue: z.core.$ZodIssue): string | undefined {
  if (issue.code === 'invalid_type') return KINDS[issue.expected] ?? issue.expected
  if (issue.code === 'invalid_value') return anyOf(issue.values.map(String))
  if (issue.code === 'too_small' && issue.origin !== 'number')
    return issue.origin === 'string' ? 'a text that is not empty' : 'at least one value'
  if (issue.code === 'too_small') return `a number ${issue.inclusive ? 'of at least' : 'above'} ${issue.minimum}`
  if (issue.code === 'too_big') return `a number ${issue.inclusive ? 'of at most' : 'below'} ${issue.maximum}`
  if (issue.code !== 'invalid_union') return undefined
  const parts = issue.errors.flatMap((errors) => errors.slice(0, 1).map(expectation))
  return parts.some((part) => part === undefined) ? undefined : anyOf([...new Set(parts as string[])])
}

const anyOf = (words: readonly string[]): string => [words.slice(0, -1).join(', '), ...words.slice(-1)].filter(Boolean).join(' or ')
