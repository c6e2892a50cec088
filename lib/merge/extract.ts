/**
 * A LoRA from two checkpoints: for each changed matrix the best B A of a rank (Eckart and Young, 1936), √s on both sides, with
 * what it keeps and what it misses.
 */
import { fingerprint } from '../checkpoint/fingerprint.js'
import { CambiumError } from '../errors.js'
import { openCheckpoint } from '../formats/checkpoint.js'
import { isMergeable } from '../formats/dtype.js'
import { targetMatcher } from '../formats/peft-match.js'
import { type PeftModuleToWrite, writePeftAdapter } from '../formats/peft-write.js'
import type { StoredTensor } from '../formats/safetensors-read.js'
import { storedFloats } from '../formats/stored-floats.js'
import { native } from '../native.js'
import { matrixOf } from './edits.js'
import { lowRankOf } from './low-rank.js'

/** Two checkpoints, and the adapter that is made of their difference. */
export interface ExtractOptions {
  /** the checkpoint before */
  base: string
  /** the checkpoint after */
  model: string
  /** folder for the PEFT adapter */
  out: string
  /** default 16; a smaller side of a matrix is the limit there */
  rank?: number
  /** module names and suffixes, or one regular expression; default: every changed matrix but embeddings and output heads */
  targets?: readonly string[] | string
  /** always the whole decomposition; otherwise matrices with both sides above 1024 take a random subspace */
  exact?: boolean
  /** stops it, with its reason; files stay as they were */
  signal?: AbortSignal
  /** matrices */
  onProgress?: (done: number, total: number) => void
}

export interface ExtractedModule {
  readonly module: string
  readonly shape: readonly number[]
  readonly rank: number
  /** ‖B A‖² / ‖ΔW‖² */
  readonly energy: number
  /** ‖ΔW − B A‖ / ‖ΔW‖ */
  readonly error: number
  /** ‖ΔW‖ / ‖W‖ */
  readonly change: number
}

/** What the adapter keeps of each matrix, and what it leaves. */
export interface ExtractReport {
  /** folder that was written */
  readonly out: string
  readonly rank: number
  readonly modules: readonly ExtractedModule[]
  /** changed tensors that a LoRA of these targets does not hold */
  readonly left: readonly string[]
  readonly seconds: number
}

const OUTSIDE = /(^|[._])(embed\w*|wte|wpe|lm_head|head|classifier)([._]|$)/
/**
 * Writes the PEFT adapter that comes nearest to the difference of two checkpoints.
 * @throws E_CHECKPOINT for tensors that are missing or of another shape, E_OPTION when nothing has changed
 */
export async function extractLora(options: ExtractOptions): Promise<ExtractReport> {
  const began = performance.now()
  const { out, rank = 16, exact, signal, onProgress } = options
  if (!Number.isInteger(rank) || rank < 1) throw new CambiumError('E_OPTION', `rank: expected a positive integer, got ${rank}`)
  const [base, model] = await Promise.all([openCheckpoint(options.base), openCheckpoint(options.model)])
  const pairs = pairsOf(base.tensors, model.tensors)
  const isTarget = matcher(options.targets)
  const modules: PeftModuleToWrite[] = []
  const report: ExtractedModule[] = []
  const left: string[] = []
  for (const [done, [before, after]] of pairs.entries()) {
    signal?.throwIfAborted()
    onProgress?.(done, pairs.length)
    const module = before.name.replace(/\.weight$/, '')
    const delta = await native.combine({ inputs: [await storedFloats(after), await storedFloats(before)], weights: [1, -1] })
    if (delta.every((x) => x === 0)) continue
    const isMatrix = before.name.endsWith('.weight') && (before.shape.length === 2 || before.shape.length === 4)
    if (!isMatrix || !isTarget(module)) {
      left.push(before.name)
      continue
    }
    const { rows, columns } = matrixOf(before)
    const r = Math.min(rank, rows, columns)
    const { a, b, energy, error } = await lowRankOf(delta, rows, columns, r, { balanced: true, exact })
    const tail = before.shape.slice(2)
    modules.push({
      module,
      kind: tail.length > 0 ? 'conv' : 'linear',
      rank: r,
      alpha: r,
      a: { dtype: 'F32', shape: [r, ...before.shape.slice(1)], data: bytes(a) },
      b: { dtype: 'F32', shape: [rows, r, ...tail.map(() => 1)], data: bytes(b) },
    })
    report.push({ module, shape: before.shape, rank: r, energy, error, change: norm(delta) / norm(await storedFloats(before)) })
  }
  if (modules.length === 0)
    throw new CambiumError('E_OPTION', `targets: expected a matrix that differs between the two checkpoints, got none`)
  onProgress?.(pairs.length, pairs.length)
  const others = [...base.tensors.keys()]
    .filter((name) => name.endsWith('.weight'))
    .map((name) => name.slice(0, -7))
    .filter((name) => !modules.some(({ module }) => module === name))
  await writePeftAdapter(out, { modules, others, base: await fingerprint(base), signal })
  return { out, rank, modules: report, left, seconds: (performance.now() - began) / 1000 }
}

function pairsOf(before: ReadonlyMap<string, StoredTensor>, after: ReadonlyMap<string, StoredTensor>): [StoredTensor, StoredTensor][] {
  const pairs: [StoredTensor, StoredTensor][] = []
  const problems: string[] = []
  for (const tensor of before.values()) {
    const other = after.get(tensor.name)
    if (other === undefined) problems.push(`missing ${tensor.name}`)
    else if (other.shape.join() !== tensor.shape.join())
      problems.push(`${tensor.name}: [${tensor.shape.join(', ')}] and [${other.shape.join(', ')}]`)
    else if (isMergeable(tensor.dtype) && isMergeable(other.dtype) && tensor.count > 0) pairs.push([tensor, other])
  }
  if (problems.length > 0)
    throw new CambiumError(
      'E_CHECKPOINT',
      `extract: expected two checkpoints of one shape, got ${problems.length} that differ:\n  ${problems.slice(0, 16).join('\n  ')}`,
    )
  return pairs
}

function matcher(targets: ExtractOptions['targets']): (module: string) => boolean {
  if (targets === undefined || targets === 'all-linear') return (module) => !OUTSIDE.test(module)
  return targetMatcher({
    targetModules: targets,
    excludeModules: undefined,
    modulesToSave: [],
    layersToTransform: undefined,
    layersPattern: [],
  })
}

function norm(values: Float32Array): number {
  let sum = 0
  for (const x of values) sum += x * x
  return Math.sqrt(sum)
}
const bytes = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
