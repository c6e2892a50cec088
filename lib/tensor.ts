// Tensors are handles to memory of the native core. Their lifetime is a scope, not the garbage collector: what is born
// inside scope() or step() is freed at its end unless it is returned or kept.
import { CambiumError } from './errors.js'
import { type Bytes, type DType, type Id, native } from './native.js'

export type TypedArray = Float32Array | Int32Array | Uint8Array | Uint16Array | BigInt64Array

/** A contiguous row-major tensor on the device. */
export class Tensor implements Disposable {
  #shape?: readonly number[]
  #dtype?: DType

  /** Wraps a handle of the native core; use {@link Tensor.from} and the ops to make tensors. */
  constructor(readonly id: Id) {}

  /**
   * Copies values to the device. Inside a scope the tensor belongs to it, outside to the caller ({@link dispose}).
   * @param data elements in row-major order; for 'bf16' and 'f16' their bits as Uint16Array
   * @throws E_SHAPE when data and shape disagree
   */
  static from(data: Bytes, shape: readonly number[], dtype: DType = 'f32'): Tensor {
    return new Tensor(native.create(dtype, shape, data))
  }

  /** Zeros; a scope owns them as those of {@link Tensor.from}. */
  static zeros(shape: readonly number[], dtype: DType = 'f32'): Tensor {
    return new Tensor(native.create(dtype, shape, null))
  }

  /** One f32 number in device memory. */
  static scalar(value: number): Tensor {
    return Tensor.from(Float32Array.of(value), [1])
  }

  /** Sizes, outermost first. */
  get shape(): readonly number[] {
    this.#shape ??= native.shape(this.id)
    return this.#shape
  }

  get dtype(): DType {
    this.#dtype ??= native.dtype(this.id)
    return this.#dtype
  }

  get count(): number {
    return this.shape.reduce((product, size) => product * size, 1)
  }

  /** Waits for the device and copies the values out; 'bf16' and 'f16' come as their bits. */
  async data(): Promise<TypedArray> {
    const { dtype } = this
    const bytes = await native.read(this.id)
    switch (dtype) {
      case 'f32':
        return new Float32Array(bytes)
      case 'i32':
        return new Int32Array(bytes)
      case 'i64':
        return new BigInt64Array(bytes)
      case 'u8':
        return new Uint8Array(bytes)
      default:
        return new Uint16Array(bytes)
    }
  }

  /** As {@link data}, for f32 tensors. @throws E_DTYPE */
  async floats(): Promise<Float32Array> {
    if (this.dtype !== 'f32') throw new CambiumError('E_DTYPE', `floats: expected a tensor of type f32, got ${this.dtype}`)
    return (await this.data()) as Float32Array
  }

  /** The value of a tensor of one element. */
  async item(): Promise<number> {
    if (this.count !== 1) throw new CambiumError('E_SHAPE', `item: expected one element, got [${this.shape.join(', ')}]`)
    return Number((await this.data())[0])
  }

  /** Overwrites the values in place. */
  write(data: Bytes): void {
    native.write(this.id, data)
  }

  /** Frees it; what was queued before still reads it. */
  dispose(): void {
    native.free(this.id)
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** A named tensor that lives outside scopes and may train. */
export class Parameter extends Tensor {
  #trainable = false

  constructor(
    id: Id,
    readonly name: string,
  ) {
    super(id)
  }

  /** @param data values in row-major order; null: zeros */
  static named(name: string, data: Bytes | null, shape: readonly number[], dtype: DType = 'f32'): Parameter {
    return new Parameter(native.create(dtype, shape, data, true), name)
  }

  get trainable(): boolean {
    return this.#trainable
  }

  /** Only f32 parameters train. Freezing drops the gradient. */
  set trainable(on: boolean) {
    native.setTrainable(this.id, on)
    this.#trainable = on
  }

  /** The gradient added up since the optimizer last ran, f32, or undefined when none has flowed. */
  get gradient(): Tensor | undefined {
    const id = native.gradient(this.id)
    return id === 0 ? undefined : new Tensor(id)
  }
}

function collect(value: unknown, ids: Id[]): void {
  if (value instanceof Tensor) ids.push(value.id)
  else if (Array.isArray(value)) for (const item of value) collect(item, ids)
  else if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype)
    for (const item of Object.values(value)) collect(item, ids)
}

/**
 * Runs a synchronous function and frees every tensor born inside that it does not return (tensors, arrays and plain
 * objects of them). When it throws, everything born inside goes.
 * @throws E_ASYNC when the function returns a promise
 */
export function scope<T>(fn: () => T): T {
  native.enterScope()
  const keep: Id[] = []
  try {
    const value = fn()
    if (value !== null && typeof value === 'object' && typeof (value as { then?: unknown }).then === 'function') {
      if (value instanceof Promise) value.catch(() => {}) // nobody will wait for it
      throw new CambiumError('E_ASYNC', 'scope: expected a synchronous function, got one that returns a promise')
    }
    collect(value, keep)
    return value
  } catch (error) {
    keep.length = 0
    throw error
  } finally {
    native.leaveScope(keep)
  }
}

/** Runs a function without recording: no gradients, no memory kept for them. */
export function noGradient<T>(fn: () => T): T {
  const was = native.setRecording(false)
  try {
    return fn()
  } finally {
    native.setRecording(was)
  }
}

/**
 * Adds d(Σ seeds·outputs) to the gradients of the trainable parameters. A scalar needs no seed.
 * @throws E_NO_GRADIENT when an output depends on nothing trainable, E_VERSION when a saved tensor was overwritten
 */
export function backward(outputs: Tensor | readonly Tensor[], seeds: readonly Tensor[] = []): void {
  const list = outputs instanceof Tensor ? [outputs] : outputs
  native.backward(
    list.map((t) => t.id),
    list.map((_, i) => seeds[i]?.id ?? 0),
  )
}

/**
 * Runs `fn` now without keeping what backward needs, and again when its gradients are asked for (activation
 * checkpointing; Chen et al. 2016). `fn` must depend on its inputs and on parameters only.
 */
export function recompute(fn: (inputs: Tensor[]) => Tensor[], inputs: readonly Tensor[]): Tensor[] {
  const wrapped = (ids: Id[]): Id[] => fn(ids.map((id) => new Tensor(id))).map((t) => t.id)
  return native
    .recompute(
      wrapped,
      inputs.map((t) => t.id),
    )
    .map((id) => new Tensor(id))
}

const inFlight: Promise<boolean>[] = []
let failed = false // a kernel of a step did; nobody may have been told yet

/**
 * One step of a loop: a scope with a tape of its own. At most two steps are in flight; a third waits. When the function
 * throws, its tensors and its tape go and the gradients of all parameters are dropped; parameters stay as they were.
 * @throws what a kernel of an earlier step reported, unless somebody who waited for a result was told already
 */
export async function step<T>(fn: () => T): Promise<T> {
  for (;;) {
    if (failed) {
      failed = false
      await synchronize()
    } else if (inFlight.length >= 2) await inFlight[0]
    else break
  }
  try {
    return scope(fn)
  } catch (error) {
    native.dropGradients()
    throw error
  } finally {
    native.clearTape()
    const passed = native.passed().then((ok) => {
      inFlight.splice(inFlight.indexOf(passed), 1)
      if (!ok) failed = true
      return ok
    })
    inFlight.push(passed)
  }
}

/** Waits until everything queued so far has run. @throws what a kernel reported */
export async function synchronize(): Promise<void> {
  await native.fence()
}
