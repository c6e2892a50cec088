// The weights of a model on the device, by canonical name. q, k and v of a layer are one tensor there (`qkv_proj`), as
// attention reads them packed; reading and writing see them apart again.
import { CambiumError } from '../errors.js'
import type { Checkpoint } from '../formats/checkpoint.js'
import { readRequest, type WeightMap, type WeightRead } from '../formats/weight-map.js'
import { type FloatDType, native } from '../native.js'
import { cast } from '../ops.js'
import { Parameter, scope, Tensor } from '../tensor.js'

type HeldType = FloatDType | 'f16'

const PACKED = /\.self_attn\.([qkv])_proj\./

/** The tensor that holds a canonical one, and the third of its rows, if it is packed. */
export function placeOf(canonical: string): { name: string; third?: number } {
  const match = PACKED.exec(canonical)
  return match ? { name: canonical.replace(PACKED, '.self_attn.qkv_proj.'), third: 'qkv'.indexOf(match[1]) } : { name: canonical }
}

/** Matrices of the blocks and the patch embedding, whose products run in the compute type. */
const isOperand = (name: string) => /(_proj|fc1|fc2|patch_embedding)\.weight$/.test(name) && !/^(visual|text)_projection/.test(name)

/**
 * How a tensor is kept. Where products run in bf16, the table of tokens is kept in f16: its rows are only added to positions and
 * then normalised to bf16, eight times as coarse, and half the table is a tenth of what CLIP's frozen weights take.
 */
function heldType(name: string, dtype: FloatDType): HeldType {
  if (isOperand(name)) return dtype
  return dtype === 'bf16' && name.endsWith('.token_embedding.weight') ? 'f16' : 'f32'
}

export class Weights {
  /** Canonical tensors that differ from the file, exactly (f32): what saving writes in their place. */
  readonly changed = new Map<string, Float32Array>()
  private readonly byName = new Map<string, Parameter>()
  /** what was loaded in the file's place, by name */
  private readonly replaced = new Map<string, Float32Array>()
  private disposed = false

  private constructor(
    readonly map: WeightMap,
    readonly checkpoint: Checkpoint,
  ) {}

  /** Reads every tensor of `map`; operands of products are kept in `dtype`, all else in f32, or the token table in f16. */
  static async load(checkpoint: Checkpoint, map: WeightMap, dtype: FloatDType): Promise<Weights> {
    const weights = new Weights(map, checkpoint)
    const names = new Set([...map.reads.keys()].map((canonical) => placeOf(canonical).name))
    try {
      for (const name of names) await weights.read(name, heldType(name, dtype))
    } catch (error) {
      weights.dispose()
      throw error
    }
    return weights
  }

  /** @throws E_NAME for a tensor that the model does not have; E_DISPOSED when it has none left */
  get(name: string): Parameter {
    this.requireHeld()
    const parameter = this.byName.get(name)
    if (!parameter) throw new CambiumError('E_NAME', `weights: expected the name of a tensor of the model, got ${name}`)
    return parameter
  }

  /** Every tensor as it lies on the device (q, k, v packed). */
  values(): IterableIterator<Parameter> {
    this.requireHeld()
    return this.byName.values()
  }

  /** Matrices keep the copy that products read, from their first use in inference on. */
  keepPacked(): void {
    for (const [name, parameter] of this.byName) if (isOperand(name)) native.keepPacked(parameter.id)
  }

  /** Makes tensors trainable: f32 masters read anew from the file stand in for the frozen ones. */
  async unfreeze(names: Iterable<string>): Promise<Parameter[]> {
    const out: Parameter[] = []
    for (const name of names) {
      if (this.get(name).dtype !== 'f32') await this.read(name, 'f32')
      const parameter = this.get(name)
      parameter.trainable = true
      out.push(parameter)
    }
    return out
  }

  /** Loads other values (and another shape) in a tensor's place, as f32. */
  replace(name: string, data: Float32Array, shape: readonly number[]): void {
    this.get(name).dispose()
    this.replaced.set(name, data)
    this.byName.set(name, Parameter.named(name, data, shape))
    this.changed.set(name, data)
  }

  /** Changes the values of a canonical tensor; the device's copy is rounded to its type. */
  async set(canonical: string, data: Float32Array): Promise<void> {
    const { name, third } = placeOf(canonical)
    const parameter = this.get(name)
    let whole = data
    if (third !== undefined) {
      whole = new Float32Array(parameter.count)
      for (const [i, part] of this.canonical(name).entries()) {
        const values = part === canonical ? data : await this.floats(part)
        whole.set(values, i * values.length)
      }
    }
    scope(() => native.copy(cast(Tensor.from(whole, parameter.shape), parameter.dtype).id, parameter.id))
    this.changed.set(canonical, data)
  }

  /** The elements of a canonical tensor as the file has them, in f32. */
  async original(canonical: string): Promise<Float32Array> {
    const read = this.map.reads.get(canonical)
    if (!read) throw new CambiumError('E_NAME', `weights: expected the name of a tensor of the model, got ${canonical}`)
    return new Float32Array(await native.readTensor({ ...readRequest(read), to: 'F32' }))
  }

  /** Whether a canonical tensor is other than the file's, as far as can be told without looking: trained or changed. */
  differs(canonical: string): boolean {
    return this.changed.has(canonical) || this.get(placeOf(canonical).name).trainable
  }

  /** The elements of a canonical tensor as the model has them, in f32, before any rounding to the type of the device's copy. */
  async exact(canonical: string): Promise<Float32Array> {
    if (this.get(placeOf(canonical).name).trainable) return this.floats(canonical)
    return this.changed.get(canonical) ?? this.original(canonical)
  }

  /** Canonical names of what lies in a tensor of the device: itself, or q, k and v. */
  canonical(name: string): string[] {
    return this.readsOf(name).map((read) => read.name)
  }

  /** The elements of a canonical tensor as they are on the device now, in f32. */
  async floats(canonical: string): Promise<Float32Array> {
    const { name, third } = placeOf(canonical)
    const parameter = this.get(name)
    const held: Tensor = parameter.dtype === 'f32' ? parameter : scope(() => cast(parameter, 'f32'))
    const all = await held.floats()
    if (held !== parameter) held.dispose()
    if (third === undefined) return all
    const size = all.length / 3
    return all.slice(third * size, (third + 1) * size)
  }

  dispose(): void {
    this.disposed = true
    for (const parameter of this.byName.values()) parameter.dispose()
    this.byName.clear()
  }

  private requireHeld(): void {
    if (this.disposed)
      throw new CambiumError('E_DISPOSED', `${this.checkpoint.folder}: expected a model in use, got one that was disposed (dispose())`)
  }

  private async read(name: string, dtype: HeldType): Promise<void> {
    const reads = this.readsOf(name)
    const { shape } = reads[0]
    // A convolution's weight [D, 3, p, p] is the matrix [D, 3·p·p] of a product over patches.
    const matrix = shape.length > 2 ? [shape[0], shape.slice(1).reduce((a, b) => a * b, 1)] : shape.length === 0 ? [1] : shape
    const parameter = Parameter.named(name, null, [matrix[0] * reads.length, ...matrix.slice(1)], dtype)
    try {
      await this.readInto(parameter, name)
    } catch (error) {
      parameter.dispose()
      throw error
    }
    this.byName.get(name)?.dispose()
    this.byName.set(name, parameter)
  }

  /** Fills a tensor with the values of `name` that were loaded: the file's, or what replaced them. */
  async readInto(target: Tensor, name: string): Promise<void> {
    const replaced = this.replaced.get(name)
    if (replaced) {
      scope(() => native.copy(cast(Tensor.from(replaced, target.shape), target.dtype).id, target.id))
      return
    }
    let at = 0
    for (const read of this.readsOf(name)) {
      await native.readTensorInto(target.id, readRequest(read), at)
      at += read.count
    }
  }

  /** What fills a tensor, in order: one read, or q, k and v. */
  private readsOf(name: string): WeightRead[] {
    const canonical = name.includes('.self_attn.qkv_proj.')
      ? ['q', 'k', 'v'].map((part) => name.replace('.qkv_proj.', `.${part}_proj.`))
      : [name]
    return canonical.map((key) => {
      const read = this.map.reads.get(key)
      if (!read) throw new CambiumError('E_NAME', `weights: expected ${key} in the checkpoint, got none`)
      return read
    })
  }
}
