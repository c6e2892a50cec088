// The continual methods by name.

import type { z } from 'zod'
import { problemText } from '../../checks/problems.js'
import { CambiumError } from '../../errors.js'
import type { Clip } from '../../models/clip.js'
import type { Learner } from '../learner.js'
import type { LearnerContext } from '../learner-options.js'
import { createDikiLearner } from './diki.js'
import { dikiSettings } from './diki-settings.js'
import { createJointLearner, jointSettings } from './joint.js'
import { createLwfLearner, lwfSettings } from './lwf.js'
import { createPrefixLearner, prefixSettings } from './prefix.js'
import { createSequentialLearner, sequentialSettings } from './sequential.js'
import { createWiseFtLearner, wiseFtSettings } from './wise-ft.js'
import { createZeroShotLearner, zeroShotSettings } from './zero-shot.js'
import { createZsclLearner, zsclSettings } from './zscl.js'

interface LearnerKind {
  /** what a tasks file may set */
  readonly settings: z.ZodObject
  /** options: what `settings` has checked */
  create(clip: Clip, options: never, context: LearnerContext): Promise<Learner>
}

const LEARNERS: Readonly<Record<string, LearnerKind>> = {
  'zero-shot': { settings: zeroShotSettings, create: createZeroShotLearner },
  sequential: { settings: sequentialSettings, create: createSequentialLearner },
  lwf: { settings: lwfSettings, create: createLwfLearner },
  zscl: { settings: zsclSettings, create: createZsclLearner },
  'wise-ft': { settings: wiseFtSettings, create: createWiseFtLearner },
  joint: { settings: jointSettings, create: createJointLearner },
  prefix: { settings: prefixSettings, create: createPrefixLearner },
  diki: { settings: dikiSettings, create: createDikiLearner },
}

/** In the order of tables. */
export const LEARNER_NAMES: readonly string[] = Object.keys(LEARNERS)

/** @throws E_OPTION for a method or a setting that there is not, naming it */
function checkLearner(name: string, settings: Readonly<Record<string, unknown>>): void {
  parsed(name, settings)
}

/**
 * Makes a continual method by its name, with settings as a tasks file has them; the caller disposes it.
 * @throws E_OPTION for a method or a setting that there is not; what the method throws
 */
export async function createLearner(
  clip: Clip,
  name: string,
  settings: Readonly<Record<string, unknown>>,
  context: LearnerContext,
): Promise<Learner> {
  const { kind, options } = parsed(name, settings)
  return kind.create(clip, options as never, context)
}

/** Of a method, by name. */
export type MethodSettings = Readonly<Record<string, unknown>>

/**
 * Every combination of the values that are given as lists for settings that want one value.
 * @param over wins, as far as the method has such settings
 * @throws E_OPTION for a method or a setting that there is not
 */
export function settingsToTry(name: string, settings: MethodSettings, over: MethodSettings = {}): MethodSettings[] {
  const { shape } = kindOf(name).settings
  const known = Object.entries(over).filter(([key, value]) => value !== undefined && key in shape)
  let combinations: MethodSettings[] = [{}]
  for (const [key, value] of Object.entries({ ...settings, ...Object.fromEntries(known) })) {
    const listed = Array.isArray(value) && value.length > 0 && shape[key]?.safeParse(value).success === false
    const values: unknown[] = listed ? value : [value]
    combinations = combinations.flatMap((one) => values.map((each) => ({ ...one, [key]: each })))
  }
  for (const one of combinations) checkLearner(name, one)
  return combinations
}

/** Whether there is anything to choose. */
export const hasSettings = (name: string): boolean => Object.keys(kindOf(name).settings.shape).length > 0

function kindOf(name: string): LearnerKind {
  if (Object.hasOwn(LEARNERS, name)) return LEARNERS[name]
  throw new CambiumError('E_OPTION', `method: expected one of ${LEARNER_NAMES.join(', ')}, got ${name}`)
}

function parsed(name: string, settings: Readonly<Record<string, unknown>>): { kind: LearnerKind; options: unknown } {
  const kind = kindOf(name)
  const result = kind.settings.safeParse(settings)
  if (result.success) return { kind, options: result.data }
  throw new CambiumError('E_OPTION', `settings of ${name}: ${problemText(kind.settings, result.error, settings)}`)
}
