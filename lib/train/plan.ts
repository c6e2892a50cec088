/** Before a run: what it will take, and whether its folder is free. */

import { readRunState } from '../checkpoint/run-state.js'
import { fillTemplate } from '../data/prompts.js'
import { CambiumError } from '../errors.js'
import type { ClipConfig } from '../formats/hf-config.js'
import type { Tower } from '../injection/injection.js'
import { loraTargets } from '../methods/lora-targets.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { linear } from '../ops.js'
import { noGradient, step, synchronize, Tensor } from '../tensor.js'
import { availableMemory, type LoraLoad, requireMemory, type TrainingEstimate, type TrainingShape } from './estimate.js'
import type { FineTuneData } from './fine-tune-data.js'
import type { MethodOptions } from './fine-tune-method.js'
import { requireBatch } from './trainer-options.js'

export interface PlanOptions extends MethodOptions {
  batch: number
  epochs?: number
  accumulate?: number
  activationCheckpointing?: boolean
  ema?: boolean | number
  memoryBudget?: number
}

/** Share of the rate of a plain product that a whole step is taken to reach: a guess for the first estimate, replaced by the real rate once training runs. */
export const STEP_EFFICIENCY = 0.6

/**
 * Estimates memory and time, and keeps the core within the budget from here on.
 * @throws E_OPTION for a batch larger than the set; E_MEMORY when the run cannot fit, with what would
 */
export async function planRun(
  clip: Clip,
  data: FineTuneData,
  options: PlanOptions,
): Promise<{ estimate: TrainingEstimate; seconds: number }> {
  const { batch, epochs = 10, accumulate, activationCheckpointing, method, rank, memoryBudget } = options
  requireBatch(data.train, batch) // before memory is estimated for a batch that there cannot be
  const prompts = promptsOf(data)
  const shape: TrainingShape = {
    config: clip.config,
    method: method === 'flyp' ? 'full' : method,
    rank,
    ...(method === 'lora' ? { lora: loraLoad(clip.config, options) } : { drop: options.drop ?? 0.2 }),
    batch,
    accumulate,
    activationCheckpointing,
    dtype: clip.dtype,
    attended: native.backendInfo().device !== 'cpu' || (method === 'lora' && trainsOut(clip.config, options)),
    textTokens: Math.max(...clip.tokenize(prompts.sample).map((ids) => ids.length)),
    texts: prompts.count,
    ema: options.ema !== false,
  }
  const loaded = native.memory().reserved // the model is there already and is part of the estimate
  const limit = memoryBudget ?? (native.deviceMemory()?.free ?? availableMemory()) + loaded
  const estimate = requireMemory(shape, limit, memoryBudget === undefined ? 'available memory' : 'memory budget')
  if (memoryBudget !== undefined) native.setMemoryBudget(memoryBudget)
  const steps = epochs * Math.floor(data.train.length / batch)
  return { estimate, seconds: (steps * estimate.flopsPerStep) / (STEP_EFFICIENCY * (await measureRate(clip.dtype))) }
}

/** Whether a LoRA reads what attention gave: the input of the linear behind it. */
function trainsOut(config: ClipConfig, { rank, lora }: MethodOptions): boolean {
  return loraTargets(config, { ...lora, r: rank }).some(({ linear }) => linear === 'out')
}

/** What A and B weigh, and the inputs that their gradients read: one for q, k and v, and those that nobody else keeps. */
export function loraLoad(config: ClipConfig, { rank, lora }: MethodOptions): LoraLoad {
  const targets = loraTargets(config, { ...lora, r: rank })
  const load = (tower: Tower) => {
    const own = targets.filter((target) => target.tower === tower)
    const parameters = own.reduce(
      (sum, t) => sum + t.rank * (t.in + t.out) + t.out * (Number(lora?.dora ?? 0) + Number(lora?.bias ?? 0)),
      0,
    )
    const inputs = new Map(
      own.filter(({ linear }) => linear !== 'out').map((t) => [`${t.layer} ${/^[qkv]$/.test(t.linear) ? 'qkv' : t.linear}`, t.in]),
    )
    const products = lora?.dora ? own.reduce((sum, t) => sum + t.out, 0) : 0
    return { parameters, kept: [...inputs.values()].reduce((sum, size) => sum + size, products) }
  }
  return { vision: load('vision'), text: load('text') }
}

/** Some of the prompts of training, for their length, and how many different ones there are at most. */
function promptsOf({ train }: FineTuneData): { sample: string[]; count: number | undefined } {
  const captions = train.samples.slice(0, 256).flatMap((sample) => sample.captions ?? [])
  if (captions.length > 0) return { sample: captions, count: undefined }
  const { classNames, templates } = train
  const sample = templates.flatMap((template) => classNames.map((name) => fillTemplate(template, name)))
  return { sample: sample.slice(0, 4096), count: classNames.length * Math.max(1, templates.length) }
}

/** Operations a second of a product of the size that the towers' are, over about a tenth of a second. */
export async function measureRate(dtype: 'f32' | 'bf16'): Promise<number> {
  const [rows, width] = [1024, 768]
  const x = Tensor.zeros([rows, width], dtype)
  const w = Tensor.zeros([width, width], dtype)
  try {
    const product = () => step(() => noGradient(() => void linear(x, w, { dtype })))
    await product()
    await synchronize()
    const began = performance.now()
    let products = 0
    while (products < 2 || performance.now() - began < 100) {
      await product()
      products++
    }
    await synchronize()
    return (products * 2 * rows * width * width * 1000) / (performance.now() - began)
  } finally {
    x.dispose()
    w.dispose()
  }
}

/** @throws E_OUT when the folder holds a run and it is not to be resumed */
export async function refuseOverwrite(out: string, resume: boolean): Promise<void> {
  const run = resume ? undefined : await readRunState(out)
  if (run !== undefined)
    throw new CambiumError(
      'E_OUT',
      `out: expected a folder without a run, got ${out}, where one stands at step ${run.step} of ${run.steps}; resume it, or give another folder`,
    )
}
