// The addon and its types; only this file has it loaded. An id is a tensor's handle; 0 is none.
import { loadAddon } from './addon/load-addon.js'

export type DType = 'f32' | 'bf16' | 'f16' | 'i32' | 'i64' | 'u8'
export type FloatDType = 'f32' | 'bf16'
export type Activation = 'none' | 'quick_gelu' | 'gelu'
export type Id = number
export type Bytes = ArrayBuffer | ArrayBufferView

export interface NativeLowRank {
  a: Id
  b: Id
  scale: Id
  column: number
  bias?: Id
  x?: Id
}

export interface NativeLinearOptions {
  bias?: Id
  gate?: Id
  residual?: Id
  skip?: Id
  lowRank: readonly NativeLowRank[]
  index?: Id
  offsets?: Id
  columnScale?: Id
  transposed: boolean
  activation: Activation
  dtype: FloatDType
}

export interface NativeExtraKeyValues {
  keys: Id
  values: Id
  index?: Id
  weight?: Id
  joint: boolean
}

export interface NativeCrossEntropyOptions {
  labels?: Id
  teacher?: Id
  scale?: Id
  logScale: boolean
  smoothing: number
  temperature: number
}

/** A parameter of an optimizer. */
export interface SgdEntry {
  parameter: Id
  /** momentum, or AdamW's first moment */
  m: Id
  average: Id
  decay: number
  lrScale: number
  /** adds pull·Σ(θ − anchor)² to the loss */
  anchor?: Id
  pull?: number
}

export interface AdamWEntry extends SgdEntry {
  v: Id
}

export interface TensorRead {
  path: string
  offset: number
  count: number
  from: string
  expectedSize: number
  transposeRows?: number
}

/** add + alpha · a b; a is [m, k] (or, transposed, [k, m]), b [k, n]. Summed in f64, rounded once to f32. */
export interface ProductRequest {
  a: Float32Array
  b: Float32Array
  m: number
  k: number
  n: number
  transposeA?: boolean
  alpha?: number
  add?: Float32Array
}

/** a [m, n], row-major; the first `rank` triples (default: all min(m, n)). */
export interface SvdRequest {
  a: Float64Array | Float32Array
  m: number
  n: number
  rank?: number
  /** An approximation from a random subspace (Halko et al., 2011): O(m n rank); near exact where singular values fall. */
  randomized?: { seed?: number; oversample?: number; iterations?: number }
}

export interface NativeCovariance {
  count: number
  mean: Float64Array
  covariance: Float64Array
  ledoitWolf: number
}

/** A factor of a fold: values, or where they are read from. */
export type MergeFactor = Float32Array | TensorRead

/** W <- W + scale · p q, or with magnitudes W <- (1 − weight) W + weight · magnitude ∘ D / ‖D‖, D = W + scale · p q. */
export interface MergeStep {
  /** the rows that it changes; default: all */
  first?: number
  count?: number
  /** [count, rank]; without `q` the change itself, [count, columns] */
  p: MergeFactor
  /** [rank, columns] */
  q?: MergeFactor
  rank?: number
  scale?: number
  norm?: 'rows' | 'columns'
  /** [count] or [columns], as `norm` says */
  magnitude?: MergeFactor
  weight?: number
}

/** How tensors of one size become one; the formula stands in native/linalg/combine.h. */
export interface CombineOptions {
  /** the first input is the base, of which the others differ */
  base?: boolean
  /** of the inputs without the base */
  weights: readonly number[]
  /** what stays of each difference */
  prune?: 'none' | 'magnitude' | 'random'
  densities?: readonly number[]
  /** elect a sign, by the sum of the differences or of their signs, and average those that have it */
  sign?: 'none' | 'total' | 'frequency'
  lambda?: number
  /** between two inputs without a base: weights from their angle; 0 is the first */
  slerp?: number
  /** of random pruning */
  seed?: number
  /** tells tensors apart in random pruning: a 32-bit number */
  site?: number
}

/** Bytes [from, from + bytes) of a source, written at `to`: as they are, or as a matrix that is folded and converted. */
export interface MergeSegment {
  source: number
  from: number
  to: number
  bytes: number
  fold?: { name: string; rows: number; columns: number; fromType: string; toType: string; steps: readonly MergeStep[] }
  /** instead: `count` elements of several sources, combined; from and bytes mean nothing then */
  combine?: {
    name: string
    count: number
    toType: string
    inputs: readonly { source: number; from: number; type: string }[]
    options: CombineOptions
  }
}

export interface MergePlan {
  sources: readonly { path: string; size: number }[]
  /** must not exist */
  target: string
  /** first bytes of the target */
  header: Uint8Array
  size: number
  segments: readonly MergeSegment[]
  /** refuse results that are NaN or infinite */
  finite?: boolean
}

/** Sums over the rows that were looked at; `error`, `exact` and `delta` are sums of squares. */
export interface MergeDrift {
  rows: number
  elements: number
  changed: number
  maxUlp: number
  sumUlp: number
  error: number
  exact: number
  delta: number
}

export interface ImagePlan {
  box?: readonly number[]
  resize: readonly number[]
  resample: string
  crop?: readonly number[]
  flip?: boolean
  rescale?: number
  mean: readonly number[]
  std: readonly number[]
}

export interface MemoryUse {
  live: number
  peak: number
  reserved: number
  budget: number
  tensors: number
}

export interface Native {
  create(dtype: DType, shape: readonly number[], bytes: Bytes | null, outlives?: boolean): Id
  read(id: Id): Promise<ArrayBuffer>
  write(id: Id, bytes: Bytes): void
  copy(from: Id, to: Id): void
  free(id: Id): void
  shape(id: Id): number[]
  dtype(id: Id): DType
  setTrainable(id: Id, on: boolean): void
  keepPacked(id: Id): void
  gradient(id: Id): Id
  zeroGradient(id: Id): void
  dropGradients(): void

  enterScope(): void
  leaveScope(keep: readonly Id[]): void
  scopeDepth(): number
  setRecording(on: boolean): boolean
  clearTape(): void
  backward(outputs: readonly Id[], seeds: readonly Id[]): void
  recompute(fn: (inputs: Id[]) => Id[], inputs: readonly Id[]): Id[]

  linear(x: Id, weight: Id, options: NativeLinearOptions): Id
  layerNorm(x: Id, weight: Id, bias: Id, eps: number, dtype: FloatDType): Id
  attention(qkv: Id, offsets: Id, heads: number, maxTokens: number, causal: boolean, extra?: NativeExtraKeyValues): Id
  pooledAttention(q: Id, kv: Id, offsets: Id, row: Id, heads: number, causal: boolean, extra?: NativeExtraKeyValues): Id
  patchify(pixels: Id, patch: number, dtype: FloatDType): Id
  classTokens(x: Id, cls: Id, position: Id, batch: number): Id
  tokenEmbed(ids: Id, positions: Id, table: Id, position: Id): Id
  gatherRows(x: Id, index: Id): Id
  scaleRows(x: Id, factor: Id, repeat: number): Id
  l2Normalize(x: Id): Id
  contrastive(image: Id, text: Id, labels: Id, scale: Id, logScale: boolean, margin: number, epsilon: number): Id
  crossEntropy(logits: Id, options: NativeCrossEntropyOptions): Id
  sum(x: Id, factor: number): Id
  add(a: Id, b: Id, dtype: FloatDType): Id
  multiply(a: Id, b: Id, dtype: FloatDType): Id
  scale(x: Id, s: Id): Id
  reshape(x: Id, shape: readonly number[]): Id
  sliceRows(x: Id, first: number, count: number): Id
  cast(x: Id, dtype: DType): Id
  concatRows(parts: readonly Id[]): Id
  dropout(x: Id, offsets: Id, keys: Id, state: Id, site: number, p: number): Id
  lowRankNorm(w: Id, a: Id, b: Id, scale: Id, row: number, rows: number, inverse: boolean): Id
  interpolate(a: Id, b: Id, t: number, dtype: DType): Id
  adamw(entries: readonly AdamWEntry[], schedule: Id, options: { beta1: number; beta2: number; eps: number; maxNorm: number }): Id
  sgd(entries: readonly SgdEntry[], schedule: Id, options: { momentum: number; maxNorm: number }): Id

  fence(): Promise<void>
  passed(): Promise<boolean>
  memory(): MemoryUse
  resetPeak(): void
  setMemoryBudget(bytes: number): void
  trim(): void
  /** `levels`: those of this processor, the least first; `level`: the one in force. */
  backendInfo(): { device: string; level: string; levels: string[]; threads: number; name?: string; products?: string; tf32?: boolean }
  /** Null: the CPU. `tf32`: see DeviceOptions. Before there are tensors. @throws E_DEVICE, E_OUT_OF_MEMORY */
  useDevice(library: string | null, cublas: string | null, tf32: boolean): void
  /** Opens a GPU and closes it again. Sizes in bytes. @throws as useDevice */
  probeDevice(library: string, cublas: string | null): { name: string; products: string; free: number; total: number }
  /** Memory for one captured step and its graphs; not on the CPU. @throws E_UNSUPPORTED */
  openCapture(): number
  /** What is born from here on lives there; `record`: what is queued is kept as a graph and does not run. @throws E_CAPTURE inside another */
  enterCapture(capture: number, record: boolean): void
  /** `written`: a fingerprint of all bytes that the host wrote inside. @throws E_CAPTURE when there is no graph of what was recorded */
  leaveCapture(capture: number): { graph: number; written: bigint }
  /** Leaves, if inside, without a graph. */
  giveUpCapture(capture: number): void
  replay(capture: number, graph: number): void
  forgetGraph(capture: number, graph: number): void
  closeCapture(capture: number): void
  /** Bytes of the device's own memory; null for the CPU. */
  deviceMemory(): { free: number; total: number } | null
  setThreads(threads: number): void
  random(seed: number, step: number, site: number, count: number, first: number): Float32Array

  readTensor(request: TensorRead & { to: string }): Promise<ArrayBuffer>
  readTensorInto(id: Id, request: TensorRead, at?: number): Promise<void>
  preprocessImage(rgb: Uint8Array, width: number, height: number, plan: ImagePlan): Promise<Float32Array>
  resizeImage(
    rgb: Uint8Array,
    width: number,
    height: number,
    options: { box?: number[]; outWidth: number; outHeight: number; resample: string; flip?: boolean },
  ): Promise<Uint8Array>
  product(request: ProductRequest): Promise<Float32Array>
  /**
   * Writes and syncs one file of a merged checkpoint; resolves to how many results of each segment are not finite.
   * `control`: bytes written so far; set the second word to stop. @throws E_ABORTED, E_NOT_FINITE, E_NO_SPACE, E_FILE_CHANGED
   */
  mergeFile(plan: MergePlan, control: BigInt64Array): Promise<number[]>
  /** Tensors in memory, combined; rounded once to f32. */
  combine(request: CombineOptions & { inputs: readonly Float32Array[] }): Promise<Float32Array>
  /** Every `stride`-th row of a folded segment as it was written, against the same formula in f64 by a plain loop. */
  measureDrift(plan: MergePlan, segment: number, stride: number): Promise<MergeDrift>
  /** a = u · diag(s) · vᵀ in f64; u [m, k], s [k] descending, v [n, k], row-major. The largest entry of each u is positive. */
  svd(request: SvdRequest): Promise<{ u: Float64Array; s: Float64Array; v: Float64Array }>
  /** a = q · r in f64, thin: q [m, k], r [k, n], k = min(m, n), row-major; signs as LAPACK's and PyTorch's. */
  qr(request: Pick<SvdRequest, 'a' | 'm' | 'n'>): Promise<{ q: Float64Array; r: Float64Array }>
  /** Adds rows f32 [N, D] to moments of 2 + 3 D + D (D + 1) / 2 doubles (native/linalg/moments.h), in place; zeros: none seen yet. */
  addMoments(request: { moments: Float64Array; dimension: number; rows: Float32Array }): Promise<void>
  /**
   * mean [D]; covariance, divided by N − 1, as its lower triangle packed by rows; the intensity of Ledoit and Wolf (2004).
   * @throws E_DATA for moments of no row
   */
  covariance(request: { moments: Float64Array; dimension: number }): Promise<NativeCovariance>
  /** L of keep · C + (shrink · tr(C) / D + ridge) · I = L Lᵀ, packed as C is, and ln det. @throws E_NOT_POSITIVE */
  gaussianFactor(request: {
    covariance: Float64Array
    dimension: number
    keep: number
    shrink: number
    ridge: number
  }): Promise<{ factor: Float64Array; logDeterminant: number }>
  /** ln N(x; mean, L Lᵀ) of each row of f32 [N, D]: [N], each a function of its row alone. */
  logDensity(request: {
    mean: Float64Array
    factor: Float64Array
    logDeterminant: number
    dimension: number
    rows: Float32Array
  }): Promise<Float64Array>
}

const loaded = loadAddon()

export const native = loaded.addon as Native
/** The file that it was loaded from. */
export const addonPath = loaded.path
