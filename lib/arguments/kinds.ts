/** Kinds of values that the public functions take, as errors name them. Ranges are checked where a value is used. */
import { z } from 'zod'
import { Dataset } from '../data/dataset.js'
import { Diki } from '../methods/diki.js'
import { Lora } from '../methods/lora.js'
import { RAdapter } from '../methods/r-adapter.js'
import { Clip } from '../models/clip.js'
import { Gaussian } from '../statistics/gaussian.js'
import { Moments } from '../statistics/moments.js'
import { Parameter, Tensor } from '../tensor.js'

type Loose = Readonly<Record<PropertyKey, unknown>>

/** @param holds is given any value, of which it may ask any property when that is an object or a function */
export function kind(expected: string, holds: (value: Loose) => boolean): z.ZodType {
  const able = (value: unknown) => (typeof value === 'object' || typeof value === 'function') && value !== null
  return z.custom((value) => able(value) && holds(value as Loose), { params: { expected } })
}

const scalar = (expected: string, holds: (value: unknown) => boolean) => z.custom(holds, { params: { expected } })
const isFunction = (value: unknown): boolean => typeof value === 'function'

export const text = scalar('a text', (value) => typeof value === 'string')
export const path = scalar('a path', (value) => typeof value === 'string' && value !== '')
/** Infinity is one. */
export const number = scalar('a number', (value) => typeof value === 'number' && !Number.isNaN(value))
export const count = scalar('a whole number of at least 1', (value) => Number.isInteger(value) && (value as number) >= 1)
export const whole = scalar('a whole number of at least 0', (value) => Number.isInteger(value) && (value as number) >= 0)
export const flag = scalar('true or false', (value) => typeof value === 'boolean')
export const callback = scalar('a function', isFunction)
export const anything = z.unknown()

export const listOf = (each: z.ZodType) => z.array(each)
export const texts = listOf(text)
export const numbers = listOf(number)
export const map = z.record(z.string(), z.unknown())

export const floats = kind('a Float32Array', (value) => Object.prototype.toString.call(value) === '[object Float32Array]')
export const doubles = kind('a Float64Array', (value) => Object.prototype.toString.call(value) === '[object Float64Array]')
export const bytes = kind(
  'a typed array or an ArrayBuffer',
  (value) => ArrayBuffer.isView(value) || Object.prototype.toString.call(value) === '[object ArrayBuffer]',
)
export const signal = kind('an AbortSignal', (value) => typeof value.aborted === 'boolean' && isFunction(value.addEventListener))
export const iterable = kind(
  'a list, an iterable or an async iterable',
  (value) => isFunction(value[Symbol.iterator]) || isFunction(value[Symbol.asyncIterator]),
)
export const lookup = kind('a Map', (value) => isFunction(value.get) && isFunction(value.has))

export const clip = kind('a Clip, as Clip.load gives one', (value) => value instanceof Clip)
export const dataset = kind('a Dataset, as openDataset gives one', (value) => value instanceof Dataset)
export const tensor = kind('a Tensor', (value) => value instanceof Tensor)
export const parameter = kind('a Parameter', (value) => value instanceof Parameter)
export const rAdapter = kind('an RAdapter', (value) => value instanceof RAdapter)
export const lora = kind('a Lora, as Lora.create gives one', (value) => value instanceof Lora)
export const diki = kind('a Diki', (value) => value instanceof Diki)
export const moments = kind('Moments', (value) => value instanceof Moments)
export const gaussian = kind('a Gaussian', (value) => value instanceof Gaussian)
export const injection = kind('an injection: a method, or what its at() gives', (value) => isFunction(value.layer))
export const scalable = kind('a method, such as an RAdapter', (value) => isFunction(value.at))
export const method = kind(
  'a method, such as an RAdapter',
  (value) => isFunction(value.layer) && isFunction(value.draw) && Array.isArray(value.parameters),
)
export const objective = kind('an objective, such as an MpmNceLoss', (value) => isFunction(value.loss) && Array.isArray(value.parameters))
export const learner = kind('a learner, as createLearner gives one', (value) => isFunction(value.begin) && isFunction(value.score))
export const learned = kind('a run, as openLearned gives one', (value) => isFunction(value.predict) && Array.isArray(value.tasks))
export const taskStream = kind('a stream, as openTasks gives one', (value) => Array.isArray(value.tasks) && Array.isArray(value.watch))
export const preprocessor = kind('the preprocessor of a Clip', (value) => isFunction(value.plan))
export const image = scalar(
  'an image: a path, or {bytes, name}',
  (value) =>
    typeof value === 'string' ||
    (ArrayBuffer.isView((value as Loose | undefined | null)?.bytes) && typeof (value as Loose).name === 'string'),
)
export const tokens = scalar(
  'a list of token ids for each text, as tokenize gives one',
  (value) => Array.isArray(value) && value.every((ids) => Array.isArray(ids) && ids.every(Number.isInteger)),
)
export const classNames = z.union([texts, z.record(z.string(), text)])
export const tower = z.enum(['vision', 'text'])
export const dtype = z.enum(['f32', 'bf16'])
export const saveDtype = z.enum(['file', 'f32', 'bf16', 'f16'])
export const namedPath = z.strictObject({ name: text, path })

/**
 * An options object: a kind for every name of `T`, so that the compiler tells of one that is forgotten; another name is refused.
 * @param required those that may not be left out
 */
export function optionsOf<T>(shape: { readonly [K in keyof Required<T>]: z.ZodType }, ...required: (keyof T & string)[]): z.ZodType {
  const entries = Object.entries<z.ZodType>(shape)
  return z.strictObject(
    Object.fromEntries(entries.map(([name, one]) => [name, (required as string[]).includes(name) ? one : one.optional()])),
  )
}
