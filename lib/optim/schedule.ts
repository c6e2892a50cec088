// Learning rates by the number of the step, and the momentum of a running average by the length of a run.
import { CambiumError } from '../errors.js'

/** A rate over the steps of a run. */
export interface ScheduleOptions {
  /** highest rate */
  lr: number
  /** of the whole run */
  steps: number
  /** steps of linear warm-up */
  warmup?: number
  /** floor of the rate */
  minLr?: number
}

/**
 * The learning rate of step 0 … steps−1: lr·(t+1)/W during warm-up, then ½(1 + cos(π(t−W)/(S−W)))·lr, never below the
 * floor (WiSE-FT's `cosine_lr`, with R-Adapter's floor).
 */
export function cosineWarmup({ lr, steps, warmup = 0, minLr = 0 }: ScheduleOptions): (step: number) => number {
  if (!(lr > 0 && Number.isFinite(lr))) throw new CambiumError('E_OPTION', `lr: expected a positive number, got ${lr}`)
  if (!(warmup >= 0 && minLr >= 0 && minLr <= lr))
    throw new CambiumError('E_OPTION', `schedule: expected warmup >= 0 and 0 <= minLr <= lr, got ${warmup} and ${minLr}`)
  return afterWarmup(lr, steps, warmup, (half) => Math.max(minLr, half * lr))
}

/** As {@link cosineWarmup}, but the cosine goes from lr to the floor: min + ½(lr − min)(1 + cos(π(t−W)/(S−W))) (DIKI). */
export function cosineToMin(options: ScheduleOptions): (step: number) => number {
  const { lr, steps, warmup = 0, minLr = 0 } = options
  cosineWarmup(options) // the same bounds
  return afterWarmup(lr, steps, warmup, (half) => minLr + half * (lr - minLr))
}

/** @param rate of ½(1 + cos), which goes from 1 to 0 after the warm-up */
function afterWarmup(lr: number, steps: number, warmup: number, rate: (half: number) => number): (step: number) => number {
  return (step) => {
    if (step < warmup) return (lr * (step + 1)) / warmup
    const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup))
    return rate(0.5 * (1 + Math.cos(Math.PI * progress)))
  }
}

/** EMA momentum for a run of `steps`: clamp(1 − 10/steps, 0.9, 0.999), so that short runs average over their last tenth. */
export function defaultMomentum(steps: number): number {
  return Math.min(0.999, Math.max(0.9, 1 - 10 / steps))
}
