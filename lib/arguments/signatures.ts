/** Of every public function, class and static method that takes arguments: what it takes. */
import { CONTINUAL_ARGUMENTS } from './continual-arguments.js'
import type { Signatures } from './guard.js'
import { MERGING_ARGUMENTS } from './merging-arguments.js'
import { MODEL_ARGUMENTS } from './model-arguments.js'
import { TRAINING_ARGUMENTS } from './training-arguments.js'

export const SIGNATURES: Signatures = { ...MODEL_ARGUMENTS, ...TRAINING_ARGUMENTS, ...MERGING_ARGUMENTS, ...CONTINUAL_ARGUMENTS }
