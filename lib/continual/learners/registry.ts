// The continual methods by name.
import type { z } from 'zod'
import { CambiumError } from '../../errors.js'
import type { Clip } from '../../models/clip.js'
import type { Learner } from '../learner.js'
import type { LearnerContext } from '../learner-options.js'
import { createSequentialLearner, sequentialSettings } from './sequential.js'
import { createZeroShotLearner, zeroShotSettings } from './zero-shot.js'

interface LearnerKind {
  /** what a tasks file may set */
  readonly settings: z.ZodObject
  /** options: what `settings` has checked */
  create(clip: Clip, options: never, context: LearnerContext): Promise<Learner>
}

export const LEARNERS = {
  'zero-shot': { settings: zeroShotSettings, create: createZeroShotLearner },
  sequential: { settings: sequentialSettings, create: createSequentialLearner },
} satisfies Record<string, LearnerKind>

export type LearnerName = keyof typeof LEARNERS

export const LEARNER_NAMES = Object.keys(LEARNERS) as LearnerName[]

/** @throws E_OPTION for a method or a setting that there is not, naming it */
export function checkLearner(name: string, settings: Readonly<Record<string, unknown>>): void {
  parsed(name, settings)
}

/** @throws E_OPTION for a method or a setting that there is not; what the method throws */
export async function createLearner(
  clip: Clip,
  name: string,
  settings: Readonly<Record<string, unknown>>,
  context: LearnerContext,
): Promise<Learner> {
  const { kind, options } = parsed(name, settings)
  return kind.create(clip, options as never, context)
}

function parsed(name: string, settings: Readonly<Record<string, unknown>>): { kind: LearnerKind; options: unknown } {
  if (!Object.hasOwn(LEARNERS, name)) throw new CambiumError('E_OPTION', `method: expected one of ${LEARNER_NAMES.join(', ')}, got ${name}`)
  const kind: LearnerKind = LEARNERS[name as LearnerName]
  const result = kind.settings.safeParse(settings)
  if (result.success) return { kind, options: result.data }
  const reasons = result.error.issues.map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`))
  throw new CambiumError('E_OPTION', `settings of ${name}: ${reasons.join('; ')}`)
}
