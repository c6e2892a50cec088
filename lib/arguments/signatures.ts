/** Of every public function, class, static method and method that takes arguments: what it takes. */
import type { MixedBatch } from '../adapters/mixed-batch.js'
import type * as api from '../index.js'
import { CONTINUAL_ARGUMENTS } from './continual-arguments.js'
import type { Signatures } from './guard.js'
import { MERGING_ARGUMENTS } from './merging-arguments.js'
import { METHOD_ARGUMENTS } from './method-arguments.js'
import { MODEL_ARGUMENTS } from './model-arguments.js'
import { TRAINING_ARGUMENTS } from './training-arguments.js'

/** Classes whose methods are those of another one. */
interface Inheriting {
  readonly Parameter: api.Tensor
  readonly ImageFolder: api.Dataset
  readonly ImageTable: api.Dataset
}

/** Methods with parameters; where objects are disposed (but for tensors, whose handles the core checks), all of them. */
type MethodsOf<I, Inherited = object> = {
  [M in Exclude<keyof I, keyof Inherited>]: I[M] extends (...given: infer P) => unknown
    ? P extends []
      ? I extends api.Tensor
        ? never
        : I extends { dispose(): void }
          ? M
          : never
      : M
    : never
}[Exclude<keyof I, keyof Inherited>]

type MethodNames<A> = {
  [N in keyof A]: A[N] extends { prototype: infer I }
    ? 0 extends 1 & I
      ? never
      : `${N & string}.${MethodsOf<I, N extends keyof Inheriting ? Inheriting[N] : object> & string}`
    : never
}[keyof A]

type Required = MethodNames<Omit<typeof api, 'CambiumError'> & { MixedBatch: { prototype: MixedBatch } }>

/** The compiler tells of a method that is forgotten, test/wrong-arguments.test.ts of a function. */
export const SIGNATURES: Signatures = {
  ...MODEL_ARGUMENTS,
  ...METHOD_ARGUMENTS,
  ...TRAINING_ARGUMENTS,
  ...MERGING_ARGUMENTS,
  ...CONTINUAL_ARGUMENTS,
} satisfies Signatures & Record<Required, unknown>
