/**
 * LoRA adapters into one, as PEFT's add_weighted_adapter does; s is an adapter's scaling, w its weight.
 *
 * cat: A = [w s A₁; …], B = [B₁ …], exact. linear, ties, dare_linear, dare_ties, magnitude_prune: on the factors themselves,
 * each weighted by √(w s): cheap and rough. …svd: on the changes ΔW = s B A, brought back to a rank by SVD. The result has
 * scaling 1 (alpha = rank).
 */
import { CambiumError } from '../errors.js'
import type { PeftAdapter, PeftTarget } from '../formats/peft-adapter.js'
import { openPeftAdapter } from '../formats/peft-read.js'
import { type PeftModuleToWrite, writePeftAdapter } from '../formats/peft-write.js'
import type { StoredTensor } from '../formats/safetensors-read.js'
import { storedFloats } from '../formats/stored-floats.js'
import { type CombineOptions, native } from '../native.js'
import { matrixOf } from './edits.js'
import { type Factors, type LowRankForm, lowRankOf, lowRankOfProduct } from './low-rank.js'
import type { AdapterRecipe } from './recipe-schema.js'

export interface CombinedModule {
  readonly module: string
  readonly rank: number
  /** ‖Δ − B A‖ / ‖Δ‖ of the methods that end in svd */
  readonly error?: number
}

/** What was combined: the adapters' folders, and each module of the result. */
export interface CombineReport {
  /** folder that was written */
  readonly out: string
  /** folders */
  readonly adapters: readonly string[]
  readonly modules: readonly CombinedModule[]
  readonly seconds: number
}

interface Part {
  readonly target: PeftTarget
  readonly weight: number
}

/**
 * Writes a PEFT adapter into `out`.
 * @throws E_ADAPTER for DoRA, for biases, for replaced modules, for ranks or shapes that a method cannot combine
 */
export async function combineAdapters(
  recipe: AdapterRecipe,
  options: { out: string; signal?: AbortSignal; onProgress?: (done: number, total: number) => void },
): Promise<CombineReport> {
  const began = performance.now()
  const { out, signal, onProgress } = options
  const opened = await Promise.all(recipe.adapters.map(({ path }) => openPeftAdapter(path)))
  const parts = partsByModule(opened, recipe)
  const modules: PeftModuleToWrite[] = []
  const report: CombinedModule[] = []
  for (const [module, list] of parts) {
    signal?.throwIfAborted()
    const { form, rank } = await combineModule(module, list, recipe)
    const { kind, a, b } = list[0].target
    const side = (tensor: StoredTensor, from: 0 | 1) => tensor.shape.slice(from, tensor.shape.length)
    modules.push({
      module,
      kind,
      rank,
      alpha: rank,
      a: { dtype: 'F32', shape: [rank, ...side(a, 1)], data: bytes(form.a) },
      b: { dtype: 'F32', shape: [b.shape[0], rank, ...b.shape.slice(2)], data: bytes(form.b) },
    })
    report.push({ module, rank, ...(form.error !== undefined && { error: form.error }) })
    onProgress?.(modules.length, parts.size)
  }
  const { config, base } = opened[0]
  const keep = { ...config.raw, use_rslora: false, lora_bias: false, bias: 'none' }
  await writePeftAdapter(out, { modules, keep, base, baseModel: config.baseModel, signal })
  return { out, adapters: recipe.adapters.map(({ path }) => path), modules: report, seconds: (performance.now() - began) / 1000 }
}

function partsByModule(opened: readonly PeftAdapter[], recipe: AdapterRecipe): Map<string, Part[]> {
  const parts = new Map<string, Part[]>()
  for (const [i, adapter] of opened.entries()) {
    if (adapter.saved.size > 0)
      throw new CambiumError(
        'E_ADAPTER',
        `${adapter.folder}: expected an adapter without replaced tensors, got ${[...adapter.saved.keys()].join(', ')}`,
      )
    for (const target of adapter.targets) {
      if (target.magnitude !== undefined || target.bias !== undefined)
        throw new CambiumError(
          'E_ADAPTER',
          `${adapter.folder}: expected factors alone to combine, got a ${target.magnitude ? 'DoRA' : 'bias'} of ${target.module}`,
        )
      const list = parts.get(target.module) ?? []
      const first = list[0]?.target
      if (first !== undefined && shapeOf(first) !== shapeOf(target))
        throw new CambiumError(
          'E_ADAPTER',
          `${target.module}: expected ${shapeOf(first)} in each adapter, got ${shapeOf(target)} in ${adapter.folder}`,
        )
      list.push({ target, weight: recipe.adapters[i].weight ?? 1 })
      parts.set(target.module, list)
    }
  }
  return parts
}

const shapeOf = ({ kind, a, b }: PeftTarget): string => `a ${kind} of [${[b.shape[0], ...a.shape.slice(1)].join(', ')}]`

type Form = Pick<LowRankForm, 'a' | 'b'> & { error?: number }

async function combineModule(module: string, parts: readonly Part[], recipe: AdapterRecipe): Promise<{ form: Form; rank: number }> {
  const { method } = recipe
  const ranks = parts.map(({ target }) => target.rank)
  if (method === 'cat') return { form: await concatenated(parts), rank: ranks.reduce((sum, r) => sum + r, 0) }
  if (method.endsWith('svd')) {
    const rank = recipe.rank ?? Math.max(...ranks)
    return { form: await compressed(module, parts, recipe, rank), rank }
  }
  if (new Set(ranks).size > 1)
    throw new CambiumError(
      'E_ADAPTER',
      `${module}: expected adapters of one rank for ${method}, got ranks ${ranks.join(' and ')}; use cat or svd`,
    )
  const factors = async (which: 'a' | 'b', weights: number[]) =>
    native.combine({
      inputs: await Promise.all(parts.map(({ target }) => storedFloats(target[which]))),
      ...thinning(`${module}.${which}`, weights, recipe),
    })
  const roots = parts.map(({ target, weight }) => Math.sqrt(Math.abs(weight * target.scaling)))
  const signs = parts.map(({ target, weight }) => (weight * target.scaling < 0 ? -1 : 1))
  const a = await factors(
    'a',
    roots.map((root, i) => root * signs[i]),
  )
  return { form: { a, b: await factors('b', roots) }, rank: ranks[0] }
}

function thinning(
  name: string,
  weights: number[],
  { method, density = 1, majority_sign_method = 'total', seed = 0 }: AdapterRecipe,
): CombineOptions {
  const site = [...name].reduce((value, letter) => Math.imul(value ^ letter.charCodeAt(0), 0x01000193) >>> 0, 0x811c9dc5)
  return {
    weights,
    seed,
    site,
    prune: method.startsWith('dare') ? 'random' : /^(ties|magnitude)/.test(method) && density < 1 ? 'magnitude' : 'none',
    densities: weights.map(() => density),
    sign: /ties/.test(method) ? majority_sign_method : 'none',
  }
}

/** A = [w s A₁; …], B = [B₁ …]. */
async function concatenated(parts: readonly Part[]): Promise<Form> {
  const { b, a } = await stacked(parts)
  return { a: Float32Array.from(a), b: Float32Array.from(b) }
}

async function stacked(parts: readonly Part[]): Promise<Factors> {
  const total = parts.reduce((sum, { target }) => sum + target.rank, 0)
  const [out, inner] = sides(parts[0].target)
  const [a, b] = [new Float64Array(total * inner), new Float64Array(out * total)]
  let row = 0
  for (const { target, weight } of parts) {
    const scale = weight * target.scaling
    const [theirA, theirB] = [await storedFloats(target.a), await storedFloats(target.b)]
    for (let i = 0; i < theirA.length; i++) a[row * inner + i] = theirA[i] * scale
    for (let i = 0; i < out; i++) for (let r = 0; r < target.rank; r++) b[i * total + row + r] = theirB[i * target.rank + r]
    row += target.rank
  }
  return { a, b, total, out, inner }
}

async function compressed(module: string, parts: readonly Part[], recipe: AdapterRecipe, rank: number): Promise<Form> {
  const [out, inner] = sides(parts[0].target)
  if (rank > Math.min(out, inner))
    throw new CambiumError('E_ADAPTER', `rank: expected at most ${Math.min(out, inner)} for ${module} [${out}, ${inner}], got ${rank}`)
  if (recipe.method === 'svd') {
    const whole = await stacked(parts)
    if (whole.total <= Math.min(out, inner)) return lowRankOfProduct(whole, rank)
  }
  const deltas: Float32Array[] = []
  for (const { target } of parts)
    deltas.push(
      await native.product({
        a: await storedFloats(target.b),
        b: await storedFloats(target.a),
        m: out,
        k: target.rank,
        n: inner,
        alpha: target.scaling,
      }),
    )
  const delta = await native.combine({
    inputs: deltas,
    ...thinning(
      module,
      parts.map(({ weight }) => weight),
      recipe,
    ),
  })
  return lowRankOf(delta, out, inner, rank)
}

/** Rows and columns of B A: of an embedding [D, V]. */
function sides({ a, b }: PeftTarget): [number, number] {
  return [matrixOf(b).rows, matrixOf(a).columns]
}
const bytes = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
