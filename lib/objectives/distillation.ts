// Distillation of similarities (Hinton et al. 2015) as ZSCL and LwF use it on CLIP: what images say of texts, and texts of images,
//
//   L = w_img T² CE(softmax_rows(Z'/T), softmax_rows(Z/T)) + w_txt T² CE(softmax_rows(Z'ᵀ/T), softmax_rows(Zᵀ/T)),  Z = exp(s) x yᵀ,
//
// Z of the student, Z' of the teacher, means over rows. Its gradient is zero where the student says what the teacher says.
import { CambiumError } from '../errors.js'
import { add, crossEntropy, linear, sum } from '../ops.js'
import type { Tensor } from '../tensor.js'

/** Normalised features: x [B, P] of images and y [M, P] of texts, f32. */
export interface Similar {
  readonly image: Tensor
  readonly text: Tensor
}

export interface DistillationOptions {
  /** s, ln of the inverse temperature of the model, [1] */
  readonly logScale: Tensor
  /** T; default 2 */
  readonly temperature?: number
  /** w_img; default 1 */
  readonly imageWeight?: number
  /** w_txt; default 1 */
  readonly textWeight?: number
}

/** A scalar, [1]; the teacher has no gradient. @throws E_OPTION when both weights are zero */
export function distillation(student: Similar, teacher: Similar, options: DistillationOptions): Tensor {
  const { logScale, temperature = 2, imageWeight = 1, textWeight = 1 } = options
  const term = (weight: number, rows: keyof Similar, columns: keyof Similar) => {
    const logits = (of: Similar) => linear(of[rows], of[columns], { dtype: 'f32' })
    const loss = crossEntropy(logits(student), { teacher: logits(teacher), scale: logScale, logScale: true, temperature })
    return weight === 1 ? loss : sum(loss, weight)
  }
  const terms = [
    ...(imageWeight === 0 ? [] : [term(imageWeight, 'image', 'text')]),
    ...(textWeight === 0 ? [] : [term(textWeight, 'text', 'image')]),
  ]
  if (terms.length === 0) throw new CambiumError('E_OPTION', 'distillation: expected imageWeight or textWeight above 0, got none')
  return terms.reduce((a, b) => add(a, b))
}
