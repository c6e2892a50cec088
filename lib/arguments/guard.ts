/**
 * The boundary of the library: arguments of public functions are looked at before these run, so that a caller without types is told
 * what was expected. Calls within the library do not pass here.
 */
import type { z } from 'zod'
import { didYouMean, type Problem, problemsOf } from '../checks/problems.js'
import { CambiumError } from '../errors.js'

/** Parameters in order, by name. The one called `options` holds options by name. */
export type Signature = Readonly<Record<string, z.ZodType>>

/** By `name` of a function, `new Name` of a class, `Name.method` of a static method. */
export type Signatures = Readonly<Record<string, Signature>>

type Callable = (...given: unknown[]) => unknown

/** The same names; functions and classes of `signatures` with their arguments checked. */
export function guard<T extends object>(api: T, signatures: Signatures): T {
  const out = Object.entries(api).map(([name, value]) => {
    if (typeof value !== 'function') return [name, value]
    if (Object.hasOwn(signatures, name)) return [name, guarded(value as Callable, name, signatures[name])]
    const own = Object.keys(signatures).some((key) => key === `new ${name}` || key.startsWith(`${name}.`))
    return [name, own ? guardedClass(value as Callable, name, signatures) : value]
  })
  return Object.fromEntries(out) as T
}

/** Async functions reject, others throw. */
function guarded(fn: Callable, name: string, signature: Signature, self?: unknown): Callable {
  const isAsync = fn.constructor.name === 'AsyncFunction'
  const checked: Callable = (...given) => {
    try {
      check(name, signature, given)
    } catch (error) {
      if (isAsync) return Promise.reject(error)
      throw error
    }
    return fn.apply(self, given)
  }
  return Object.defineProperties(checked, { name: { value: fn.name }, length: { value: fn.length } })
}

/** A class that is the same to `instanceof` and to what extends it. */
function guardedClass(own: Callable, name: string, signatures: Signatures): Callable {
  const statics = new Map<PropertyKey, Callable>()
  for (const [key, signature] of Object.entries(signatures)) {
    if (!key.startsWith(`${name}.`)) continue
    const method = key.slice(name.length + 1)
    statics.set(method, guarded((own as unknown as Record<string, Callable>)[method], key, signature, own))
  }
  return new Proxy(own, {
    construct(target, given, derived) {
      if (Object.hasOwn(signatures, `new ${name}`)) check(`new ${name}`, signatures[`new ${name}`], given)
      return Reflect.construct(target, given, derived)
    },
    get: (target, key, self) => statics.get(key) ?? Reflect.get(target, key, self),
  })
}

/** @throws E_ARGUMENT for an argument, E_OPTION for an option */
function check(name: string, signature: Signature, given: readonly unknown[]): void {
  for (const [i, [parameter, schema]] of Object.entries(signature).entries()) {
    const value = parameter === 'options' ? withoutAbsent(given[i]) : given[i]
    const parsed = schema.safeParse(value)
    if (parsed.success) continue
    const [problem] = problemsOf(schema, parsed.error, value)
    const inOptions = parameter === 'options' && (problem.path.length > 0 || problem.unknown !== undefined)
    const place = [...(inOptions ? [] : [parameter]), ...problem.path].join('.')
    throw new CambiumError(inOptions ? 'E_OPTION' : 'E_ARGUMENT', `${name}: ${place === '' ? '' : `${place}: `}${wordsOf(problem)}`)
  }
}

/** Options that are there and undefined are options that are not there, also by names that mean nothing. */
function withoutAbsent(options: unknown): unknown {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) return options
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

function wordsOf({ text, unknown }: Problem): string {
  if (unknown === undefined) return text
  const { name, nearest, names } = unknown
  return `expected known names, got ${name}${didYouMean(nearest) || (names.length > 0 ? `; known are ${names.join(', ')}` : '')}`
}

/** A parameter that may be left out. */
export const optional = (schema: z.ZodType): z.ZodType => schema.optional()
