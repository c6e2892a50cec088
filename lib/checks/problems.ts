/** What is wrong with a value, as all errors of the library say it: `<where>: expected …, got …`. What zod finds, in our words. */
import { z } from 'zod'
import { describe } from '../errors.js'
import { nearestName } from './nearest-name.js'

/** One thing that is wrong, and where in the value. */
export interface Problem {
  readonly path: readonly string[]
  readonly text: string
  /** of a name that there is not, and the names that there are at its place, as far as they are known */
  readonly unknown?: { readonly name: string; readonly nearest: string | undefined; readonly names: readonly string[] }
}

/** All of them. @param given what was checked with `schema` */
export function problemsOf(schema: z.ZodType, error: z.ZodError, given: unknown): Problem[] {
  return error.issues.flatMap((issue) => problemsOfIssue(schema, issue, given))
}

/** {@link problemsOf} as one text, such as `models.0.weight: expected a number, got "1"`. */
export function problemText(schema: z.ZodType, error: z.ZodError, given: unknown): string {
  return problemsOf(schema, error, given)
    .map(({ path, text }) => (path.length === 0 ? text : `${path.join('.')}: ${text}`))
    .join('; ')
}

function problemsOfIssue(schema: z.ZodType, whole: z.core.$ZodIssue, given: unknown): Problem[] {
  const issue = nearestBranch(whole)
  const path = issue.path.map(String)
  if (issue.code === 'unrecognized_keys') {
    const names = namesAt(schema, path)
    return issue.keys.map((name) => {
      const nearest = nearestName(name, names)
      return { path, text: `unknown ${name}${didYouMean(nearest)}`, unknown: { name, nearest, names } }
    })
  }
  const value = issue.path.reduce<unknown>((inside, step) => (inside as Record<PropertyKey, unknown> | undefined | null)?.[step], given)
  return [{ path, text: wordsOf(issue, value) }]
}

/** Of a union the branch that went farthest before it failed: the one that was meant. */
function nearestBranch(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== 'invalid_union') return issue
  const reached = (branch: z.core.$ZodIssue[]) =>
    Math.max(0, ...branch.map(({ path, code }) => path.length + Number(code === 'unrecognized_keys')))
  const best = issue.errors.reduce((a, b) => (reached(b) > reached(a) ? b : a), [])
  if (reached(best) === 0) return issue
  const [first] = best
  return nearestBranch({ ...first, path: [...issue.path, ...first.path] })
}

const KINDS: Readonly<Record<string, string>> = {
  ...{ number: 'a number', int: 'a whole number', string: 'a text', boolean: 'true or false', array: 'a list' },
  ...{ object: 'a map', record: 'a map', function: 'a function' },
}

/** @param value that at fault; undefined where none was given */
function wordsOf(issue: z.core.$ZodIssue, value: unknown): string {
  if (issue.code === 'custom') {
    const expected: unknown = issue.params?.expected
    return typeof expected === 'string' ? `expected ${expected}, got ${describe(value)}` : issue.message
  }
  if (value === undefined) return 'expected a value, got none'
  const expected = expectation(issue)
  if (expected !== undefined) return `expected ${expected}, got ${describe(value)}`
  return /^expected (?!.*, got )/.test(issue.message) ? `${issue.message}, got ${describe(value)}` : issue.message
}

function expectation(issue: z.core.$ZodIssue): string | undefined {
  if (issue.code === 'custom' && typeof issue.params?.expected === 'string') return issue.params.expected
  if (issue.code === 'invalid_type') return KINDS[issue.expected] ?? issue.expected
  if (issue.code === 'invalid_value') return anyOf(issue.values.map(String))
  if (issue.code === 'too_small' && issue.origin !== 'number' && issue.origin !== 'int')
    return issue.origin === 'string' ? 'a text that is not empty' : 'at least one value'
  if (issue.code === 'too_small') return `a number ${issue.inclusive ? 'of at least' : 'above'} ${issue.minimum}`
  if (issue.code === 'too_big') return `a number ${issue.inclusive ? 'of at most' : 'below'} ${issue.maximum}`
  if (issue.code !== 'invalid_union') return undefined
  const parts = issue.errors.flatMap((errors) => errors.slice(0, 1).flatMap(expectations))
  return parts.some((part) => part === undefined) ? undefined : anyOf([...new Set(parts as string[])])
}

/** Of a branch of a union: each value that it takes stands for itself. */
const expectations = (issue: z.core.$ZodIssue): (string | undefined)[] =>
  issue.code === 'invalid_value' ? issue.values.map(String) : [expectation(issue)]

const anyOf = (words: readonly string[]): string => [words.slice(0, -1).join(', '), ...words.slice(-1)].filter(Boolean).join(' or ')

export const didYouMean = (name: string | undefined): string => (name === undefined ? '' : `; did you mean ${name}?`)

/** The names that a map may have at a place; none where that cannot be told. */
function namesAt(schema: unknown, path: readonly string[]): string[] {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodNullable)
    return namesAt(schema.unwrap(), path)
  if (schema instanceof z.ZodPipe) return namesAt(schema.in, path)
  if (schema instanceof z.ZodUnion) return schema.options.flatMap((option) => namesAt(option, path))
  const [step, ...rest] = path
  if (schema instanceof z.ZodObject) return step === undefined ? Object.keys(schema.shape) : namesAt(schema.shape[step], rest)
  if (step === undefined) return []
  if (schema instanceof z.ZodArray) return namesAt(schema.element, rest)
  return schema instanceof z.ZodRecord ? namesAt(schema.valueType, rest) : []
}
