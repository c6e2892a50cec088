/**
 * An R-Adapter's folder as edits: W_ens = W_org (α W̃ + I), b_ens = b_org (α W̃ + I) in row-vector form (eq. 6), so for
 * weights stored [out, in]: W += α s W̃ᵀ W. The base's names are those of a CLIP in any layout.
 */
import { join } from 'node:path'
import { CambiumError } from '../errors.js'
import { detectLayout, type Layout } from '../formats/layouts.js'
import { openSafetensors, type StoredTensor } from '../formats/safetensors-read.js'
import { storedFloats } from '../formats/stored-floats.js'
import { LINEAR_BEFORE } from '../methods/r-adapter.js'
import { native } from '../native.js'
import { type Edits, factor, matrixOf } from './edits.js'

/** @throws E_ADAPTER for tensors that are no R-Adapter or do not fit the base */
export async function addRAdapter(edits: Edits, folder: string, alpha: number): Promise<void> {
  const { tensors } = await openSafetensors(join(folder, 'adapter_model.safetensors'))
  const layout = detectLayout(edits.checkpoint.tensors.keys())
  const sites = new Set([...tensors.keys()].map((name) => name.slice(0, name.lastIndexOf('.'))))
  for (const site of sites) {
    const part = (name: string) => tensors.get(`${site}.${name}`)
    const [w, b, a, s] = [part('w'), part('b'), part('a'), part('s')]
    if (w === undefined && (a === undefined || b === undefined))
      throw new CambiumError('E_ADAPTER', `${site}: expected factors w, or b and a, got neither in ${folder}`)
    const scale = alpha * (s === undefined ? 1 : (await storedFloats(s))[0])
    for (const name of linearBefore(site, layout)) {
      const tensor = edits.checkpoint.tensors.get(name)
      const width = (w ?? b)?.shape[0]
      if (tensor === undefined || matrixOf(tensor).rows !== width)
        throw new CambiumError(
          'E_ADAPTER',
          `${site}: expected ${name} with ${width} rows, got ${tensor ? `[${tensor.shape}]` : 'no such tensor'}`,
        )
      if (scale === 0) continue
      if (w !== undefined) edits.step({ source: name }, { p: factor(w, true), q: factor(tensor), rank: width, scale })
      else if (a !== undefined && b !== undefined)
        edits.step({ source: name }, { p: factor(a, true), q: await downTimes(b, tensor), rank: a.shape[0], scale })
    }
  }
}

/** Bᵀ W, [r, columns]. */
async function downTimes(b: StoredTensor, w: StoredTensor): Promise<Float32Array> {
  const { rows, columns } = matrixOf(w)
  return native.product({ a: await storedFloats(b), transposeA: true, b: await storedFloats(w), m: b.shape[1], k: rows, n: columns })
}

function linearBefore(site: string, layout: Layout): string[] {
  const [tower, layer, place] = site.split('.')
  const before = Object.entries(LINEAR_BEFORE).find(([name]) => name === place)?.[1]
  return ['weight', 'bias'].map((part) => {
    const placed = layout.place(`${tower}_model.encoder.layers.${layer}.${before}.${part}`)
    if (before === undefined || placed === undefined || placed.rows !== undefined || placed.transpose !== undefined)
      throw new CambiumError('E_ADAPTER', `${site}: expected a site of a CLIP's R-Adapter, got another name`)
    return placed.source
  })
}
