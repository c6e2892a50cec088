/**
 * One step of the training loop: both towers, the objective and its terms, backward, the optimizer. Accumulation is exact for
 * contrastive losses, because features of all micro-batches meet in one loss (`recompute`). A GPU replays the step as a graph
 * (`capture`), so everything of a batch is an input of it.
 */
import { type CapturedStep, capture } from '../capture.js'
import type { Batch } from '../data/batches.js'
import type { Clip } from '../models/clip.js'
import { commonShape, packedValues, padTexts, shapeOf, type TextShape } from '../models/packed-texts.js'
import type { TextBatch } from '../models/text-batch.js'
import { native } from '../native.js'
import { add, concatRows, sliceRows } from '../ops.js'
import type { Optimizer } from '../optim/optimizer.js'
import { backward, recompute, Tensor } from '../tensor.js'
import type { TrainerOptions } from './trainer-options.js'

/** What of a batch is not on the device: the same for all steps of one graph. */
interface StepShape {
  /** of each part of the batch */
  readonly texts: readonly TextShape[]
  /** inputs of each term */
  readonly terms: readonly number[]
}

export interface StepResult {
  readonly loss: number
  /** squared global norm of the gradients, before clipping */
  readonly norm2: number
}

export class TrainingStep {
  /** why steps are not captured where they would be; undefined as long as nothing stands against it */
  refused: string | undefined
  private readonly captured: CapturedStep<StepShape>

  /** @param momentum of the optimizer's running averages */
  constructor(
    private readonly clip: Clip,
    private readonly options: TrainerOptions,
    private readonly optimizer: Optimizer,
    private readonly momentum: number | undefined,
  ) {
    const otherwise = (reason: string) => {
      this.refused = reason
    }
    this.captured = capture((inputs, shape: StepShape) => this.queue(inputs, shape), { otherwise })
  }

  /** Graphs that were recorded so far. */
  get graphs(): number {
    return this.captured.graphs
  }

  /**
   * Runs one optimizer step and waits for what it gives.
   * @param index of the step, from 0
   * @throws what the data, the terms and the kernels report; the parameters then are as the step before left them
   */
  async run(batch: Batch, index: number, lr: number): Promise<StepResult> {
    const { method, seed = 0, terms = [] } = this.options
    const { optimizer } = this
    const { updates } = optimizer
    const held: Tensor[] = []
    try {
      const own: number[] = []
      for (const term of terms) {
        const inputs = await term.prepare(index, batch)
        held.push(...inputs)
        own.push(inputs.length)
      }
      const texts = this.texts(batch)
      const i32 = (data: Int32Array) => Tensor.from(data, [data.length], 'i32')
      held.unshift(
        Tensor.from(batch.pixels, batch.shape),
        i32(batch.labels ?? batch.samples),
        ...texts.map((text) => i32(packedValues(text))),
      )
      method.draw(seed, index)
      optimizer.prepare(lr, this.momentum)
      const results = await this.captured.run(held, { texts: texts.map(shapeOf), terms: own })
      held.push(...results)
      const [loss, norm2] = await Promise.all(results.map((result) => result.item()))
      return { loss, norm2 }
    } catch (error) {
      optimizer.updates = updates
      throw error
    } finally {
      for (const tensor of held) tensor.dispose()
    }
  }

  dispose(): void {
    this.captured.dispose()
  }

  /** The texts of each part of the batch (of all of it, where they are the classes'), packed; padded where they change and steps are captured. */
  private texts({ texts = [] }: Batch): TextBatch[] {
    const { accumulate = 1, text: options, classTexts } = this.options
    const tokens = this.clip.tokenize(classTexts ?? texts)
    const parts = classTexts ? 1 : accumulate
    const size = tokens.length / parts
    const packed = Array.from({ length: parts }, (_, k) => this.clip.packTexts(tokens.slice(k * size, (k + 1) * size), options))
    if (classTexts || native.backendInfo().device === 'cpu') return packed
    const shape = commonShape(packed, size, this.clip.config.text.maxPositionEmbeddings)
    return packed.map((batch) => padTexts(batch, shape, size))
  }

  /** Queues the step. Inputs: pixels, labels, texts of each part, what the terms asked for. @returns loss and norm² */
  private queue([pixels, labels, ...more]: readonly Tensor[], { texts: shapes, terms: counts }: StepShape): Tensor[] {
    const { method, objective, accumulate = 1, terms = [] } = this.options
    const size = pixels.shape[0] / accumulate
    const images = (k: number) => this.clip.encodeImage(sliceRows(pixels, k * size, size), method, k * size)
    const texts = (k: number) => this.clip.encodePacked({ values: more[k], shape: shapes[k] }, method)
    const image = together(accumulate, images)
    const text = together(shapes.length, texts)
    let loss = objective.loss(image, text, labels)
    let at = shapes.length
    for (const [i, term] of terms.entries()) {
      loss = add(loss, term.loss(image, text, more.slice(at, at + counts[i])))
      at += counts[i]
    }
    backward(loss)
    return [loss, this.optimizer.apply()]
  }
}

/** Features of all parts of a batch. Those of several are computed again for backward, one part after the other. */
function together(parts: number, features: (part: number) => Tensor): Tensor {
  if (parts === 1) return features(0)
  return concatRows(Array.from({ length: parts }, (_, k) => recompute(() => [features(k)], [])[0]))
}
