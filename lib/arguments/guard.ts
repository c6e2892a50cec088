/**
 * The boundary of the library: arguments of public functions and methods are looked at before these run, so that a caller without types
 * is told what was expected. Functions called within the library do not pass here; methods do, since their objects are the same.
 */
import type { z } from 'zod'
import { didYouMean, type Problem, problemsOf } from '../checks/problems.js'
import { CambiumError, describe } from '../errors.js'

/** Parameters in order, by name. The one called `options` holds options by name. */
export type Signature = Readonly<Record<string, z.ZodType>>

/** By `name` of a function, `new Name` of a class, `Name.method` of a static method, a method or a setter. */
export type Signatures = Readonly<Record<string, Signature>>

type Callable = (...given: unknown[]) => unknown

/** Runs before a function; throws to keep it from running. */
type Check = (given: readonly unknown[], self?: unknown) => void

/** Objects whose `dispose` was called. Tensors are not among them: the core knows their handles. */
const disposed = new WeakSet<object>()

/**
 * The same names; functions and classes of `signatures` with their arguments checked.
 * @param inner classes whose objects a program is given without their being named in `api`
 */
export function guard<T extends object>(api: T, signatures: Signatures, inner: object = {}): T {
  const isOf = (name: string) => (key: string) => key === `new ${name}` || key.startsWith(`${name}.`)
  const guardedOf = ([name, value]: [string, unknown]): [string, unknown] => {
    if (typeof value !== 'function') return [name, value]
    if (Object.hasOwn(signatures, name)) return [name, checked(value as Callable, checkOf(name, signatures[name]))]
    return [name, Object.keys(signatures).some(isOf(name)) ? guardedClass(value as Callable, name, signatures) : value]
  }
  Object.entries(inner).forEach(guardedOf)
  return Object.fromEntries(Object.entries(api).map(guardedOf)) as T
}

/** Async functions reject, others throw. @param of what it is called on; default: what the caller calls it on */
function checked(fn: Callable, check: Check, of?: unknown): Callable {
  const isAsync = fn.constructor.name === 'AsyncFunction'
  function guarded(this: unknown, ...given: unknown[]): unknown {
    const self = of ?? this
    try {
      check(given, self)
    } catch (error) {
      if (isAsync) return Promise.reject(error)
      throw error
    }
    return fn.apply(self, given)
  }
  return Object.defineProperties(guarded, { name: { value: fn.name }, length: { value: fn.length } })
}

/** A class that is the same to `instanceof` and to what extends it. */
function guardedClass(own: Callable, name: string, signatures: Signatures): Callable {
  const statics = new Map<PropertyKey, Callable>()
  const disposes = Object.hasOwn(signatures, `${name}.dispose`)
  for (const [key, signature] of Object.entries(signatures)) {
    if (!key.startsWith(`${name}.`)) continue
    const member = key.slice(name.length + 1)
    const fixed = (own as unknown as Record<string, unknown>)[member]
    if (typeof fixed === 'function') statics.set(member, checked(fixed as Callable, checkOf(key, signature), own))
    else guardMember(own.prototype as object, member, disposes ? checkInUse(key, checkOf(key, signature)) : checkOf(key, signature))
  }
  const checkNew = checkOf(`new ${name}`, signatures[`new ${name}`] ?? {})
  return new Proxy(own, {
    construct(target, given, derived) {
      checkNew(given)
      return Reflect.construct(target, given, derived)
    },
    get: (target, key, self) => statics.get(key) ?? Reflect.get(target, key, self),
  })
}

/** A method or a setter, its own or inherited, for all objects of a class wherever they were made. */
function guardMember(prototype: object, member: string, check: Check): void {
  const { value, set, ...rest } = descriptorOf(prototype, member) ?? {}
  if (set) Object.defineProperty(prototype, member, { ...rest, set: checked(set as Callable, check) as (value: unknown) => void })
  if (member === 'dispose') Object.defineProperty(prototype, member, { ...rest, value: disposing(value) })
  else if (!set) Object.defineProperty(prototype, member, { ...rest, value: checked(value, check) })
}

function descriptorOf(prototype: object | null, member: string): PropertyDescriptor | undefined {
  if (prototype === null) return undefined
  return Object.getOwnPropertyDescriptor(prototype, member) ?? descriptorOf(Object.getPrototypeOf(prototype), member)
}

/** `dispose`, remembering of what; twice is once. */
function disposing(dispose: Callable): Callable {
  function remembered(this: object): unknown {
    if (disposed.has(this)) return undefined
    disposed.add(this)
    return dispose.call(this)
  }
  return Object.defineProperties(remembered, { name: { value: 'dispose' } })
}

const checkInUse =
  (key: string, check: Check): Check =>
  (given, self) => {
    if (disposed.has(self as object))
      throw new CambiumError('E_DISPOSED', `${key}: expected one in use, got ${describe(self)} that was disposed (dispose())`)
    check(given)
  }

/** @returns throws E_ARGUMENT for an argument, E_OPTION for an option */
function checkOf(name: string, signature: Signature): Check {
  const parameters = Object.entries(signature)
  return (given) => {
    for (const [i, [parameter, schema]] of parameters.entries()) {
      const value = parameter === 'options' ? withoutAbsent(given[i]) : given[i]
      const parsed = schema.safeParse(value)
      if (parsed.success) continue
      const [problem] = problemsOf(schema, parsed.error, value)
      const inOptions = parameter === 'options' && (problem.path.length > 0 || problem.unknown !== undefined)
      const place = [...(inOptions ? [] : [parameter]), ...problem.path].join('.')
      throw new CambiumError(inOptions ? 'E_OPTION' : 'E_ARGUMENT', `${name}: ${place === '' ? '' : `${place}: `}${wordsOf(problem)}`)
    }
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
