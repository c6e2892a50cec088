/** Opening a PEFT adapter's folder: configuration and tensors checked against each other; no tensor is read yet. */

import { join } from 'node:path'
import { nearestName } from '../checks/nearest-name.js'
import { CambiumError } from '../errors.js'
import { readdir, stat } from '../files.js'
import { requireAdapterFolder } from './adapter-folder.js'
import { finishFolder } from './atomic-folder.js'
import { isReadableDtype } from './dtype.js'
import { readJsonObject } from './json-fields.js'
import type { PeftAdapter, PeftConfig, PeftTarget } from './peft-adapter.js'
import { parsePeftConfig } from './peft-config.js'
import { type PeftKey, parsePeftKey } from './peft-keys.js'
import { compilePython, patternValue, targetMatcher } from './peft-match.js'
import { openSafetensors, type SafetensorsFile, type StoredTensor } from './safetensors-read.js'

export const PEFT_CONFIG = 'adapter_config.json'
export const PEFT_TENSORS = 'adapter_model.safetensors'
/** Ours, beside PEFT's files: which base the adapter was trained on. */
export const PEFT_BASE = 'cambium_base.json'

/**
 * Opens an adapter. PEFT puts adapters of other names than `default` into folders of their names: `name` chooses one; without
 * it the folder itself, or its only such folder, is opened.
 * @throws E_NOT_FOUND, E_PICKLE for adapter_model.bin, E_UNSUPPORTED for another PEFT method, E_ADAPTER for a malformed
 *   configuration or for tensors that are missing, unexpected or of shapes that contradict it, E_DTYPE, E_SAFETENSORS_…
 */
export async function openPeftAdapter(folder: string, options: { name?: string } = {}): Promise<PeftAdapter> {
  const home = await adapterFolder(folder, options.name)
  await finishFolder(home)
  const path = join(home, PEFT_CONFIG)
  const raw = await readJsonObject(path)
  if (raw === undefined) throw new CambiumError('E_NOT_FOUND', `${path}: expected the configuration of an adapter, got no such file`)
  const { config, unknown } = parsePeftConfig(raw, path)
  const file = await openAdapterTensors(home)
  const { targets, saved } = sortTensors(file, config)
  const base = (await readJsonObject(join(home, PEFT_BASE)))?.base
  return {
    folder: home,
    config,
    targets,
    saved,
    unknown,
    base: typeof base === 'string' ? base : undefined,
    warnings: warningsOf(home, config, targets, unknown),
  }
}

async function adapterFolder(folder: string, name: string | undefined): Promise<string> {
  await requireAdapterFolder(folder)
  if (name !== undefined) {
    if (!/^[^/\\]+$/.test(name) || name === '..' || name === '.')
      throw new CambiumError('E_OPTION', `name: expected the name of an adapter, got ${JSON.stringify(name)}`)
    return name === 'default' && (await exists(join(folder, PEFT_CONFIG))) ? folder : join(folder, name)
  }
  if (await exists(join(folder, PEFT_CONFIG))) return folder
  const entries = await readdir(folder, { withFileTypes: true })
  const nested: string[] = []
  for (const entry of entries) if (await exists(join(folder, entry.name, PEFT_CONFIG))) nested.push(entry.name)
  if (nested.length === 1) return join(folder, nested[0])
  if (nested.length === 0) throw new CambiumError('E_NOT_FOUND', `${folder}: expected ${PEFT_CONFIG}, got none`)
  throw new CambiumError('E_ADAPTER', `${folder}: expected one adapter or the name of one, got ${nested.sort().join(', ')}`)
}

/** The tensors of an adapter's folder. @throws E_PICKLE for adapter_model.bin */
export async function openAdapterTensors(home: string): Promise<SafetensorsFile> {
  const path = join(home, PEFT_TENSORS)
  if (!(await exists(path)) && (await exists(join(home, 'adapter_model.bin'))))
    throw new CambiumError(
      'E_PICKLE',
      `${join(home, 'adapter_model.bin')}: expected ${PEFT_TENSORS}, got pickled weights, which can run any code while they are read. Where you trust them, load the adapter in PEFT and save it again with save_pretrained`,
    )
  return openSafetensors(path)
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  )

/** What a module has in the file. */
type Parts = { -readonly [part in PeftKey['part']]?: StoredTensor } & { inAttention?: boolean }

function sortTensors(file: SafetensorsFile, config: PeftConfig): { targets: PeftTarget[]; saved: Map<string, StoredTensor> } {
  const modules = new Map<string, Parts>()
  const saved = new Map<string, StoredTensor>()
  const unexpected: string[] = []
  const maySave = saves(config)
  for (const tensor of file.tensors.values()) {
    if (!isReadableDtype(tensor.dtype) || !/F/.test(tensor.dtype))
      throw new CambiumError('E_DTYPE', `${tensor.name}: expected F32, F16, BF16 or F64, got ${tensor.dtype} in ${file.path}`)
    const key = parsePeftKey(tensor.name)
    if (key === undefined) unexpected.push(tensor.name)
    else if (key.part !== 'saved') {
      const parts = modules.get(key.module) ?? {}
      if (parts[key.part] !== undefined) unexpected.push(tensor.name)
      parts[key.part] = tensor
      parts.inAttention = key.inAttention
      modules.set(key.module, parts)
    } else if (key.replaces || maySave(key.module)) saved.set(key.module, tensor)
    else unexpected.push(tensor.name)
  }
  const missing: string[] = []
  const targets: PeftTarget[] = []
  for (const [module, parts] of modules) {
    const target = targetOf(module, parts, config, missing, unexpected)
    if (target !== undefined) targets.push(target)
  }
  if (missing.length + unexpected.length > 0) throw mismatch(file.path, missing, unexpected)
  if (targets.length + saved.size === 0) throw new CambiumError('E_ADAPTER', `${file.path}: expected tensors of an adapter, got none`)
  return { targets, saved }
}

/** Which whole tensors the configuration lets an adapter carry. */
function saves({ bias, modulesToSave }: PeftConfig): (name: string) => boolean {
  const patterns = modulesToSave.map((name) => compilePython(`(^|.*\\.)${name}\\..*`, 'modules_to_save'))
  return (name) => (bias !== 'none' && name.endsWith('.bias')) || patterns.some((pattern) => pattern.test(name))
}

function targetOf(module: string, parts: Parts, config: PeftConfig, missing: string[], unexpected: string[]): PeftTarget | undefined {
  const { a, b, embeddingA, embeddingB, bias, magnitude } = parts
  const isEmbedding = embeddingA !== undefined || embeddingB !== undefined
  const [down, up] = isEmbedding ? [embeddingA, embeddingB] : [a, b]
  const [nameA, nameB] = isEmbedding ? ['lora_embedding_A', 'lora_embedding_B'] : ['lora_A.weight', 'lora_B.weight']
  if (down === undefined) missing.push(`${module}.${nameA}`)
  if (up === undefined) missing.push(`${module}.${nameB}`)
  if (isEmbedding && (a ?? b) !== undefined) unexpected.push((a ?? (b as StoredTensor)).name)
  if (config.useDora && magnitude === undefined) missing.push(`${module}.lora_magnitude_vector`)
  if (!config.useDora && magnitude !== undefined) unexpected.push(magnitude.name)
  if (config.loraBias && bias === undefined && !isEmbedding) missing.push(`${module}.lora_B.bias`)
  if (!config.loraBias && bias !== undefined) unexpected.push(bias.name)
  if (down === undefined || up === undefined) return undefined
  const kind = isEmbedding ? 'embedding' : down.shape.length > 2 ? 'conv' : 'linear'
  const rank = checkShapes(module, kind, down, up, parts)
  const r = patternValue(config.rankPattern, module, config.r)
  if (r !== rank) throw new CambiumError('E_ADAPTER', `${down.name}: expected rank ${r}, as the configuration says, got [${down.shape}]`)
  const alpha = patternValue(config.alphaPattern, module, config.loraAlpha)
  // PEFT's MultiheadAttention adds its out_proj's delta twice, in forward passes and in merges (0.21): trained so, it is used so.
  const scaling = ((parts.inAttention ? 2 : 1) * alpha) / (config.useRslora ? Math.sqrt(r) : r)
  const fanInFanOut = kind === 'linear' && config.fanInFanOut
  return { module, kind, a: down, b: up, rank, scaling, fanInFanOut, ...(bias && { bias }), ...(magnitude && { magnitude }) }
}

/** The rank. A: [R, …], B: [out, R] (1 × 1 after it for a convolution), a magnitude and a bias per output. */
function checkShapes(module: string, kind: PeftTarget['kind'], a: StoredTensor, b: StoredTensor, { bias, magnitude }: Parts): number {
  const [rank] = a.shape
  const [out, inner, ...ones] = b.shape
  const dimensions = kind === 'conv' ? a.shape.length : 2
  const fits = a.shape.length === dimensions && b.shape.length === dimensions && inner === rank && ones.every((side) => side === 1)
  if (!fits || a.count === 0 || b.count === 0)
    throw new CambiumError(
      'E_ADAPTER',
      `${module}: expected factors [R, in] and [out, R] (a convolution: [R, in, k…] and [out, R, 1…], not grouped), got [${a.shape}] and [${b.shape}]`,
    )
  for (const each of [bias, magnitude])
    if (each !== undefined && each.count !== out)
      throw new CambiumError('E_ADAPTER', `${each.name}: expected ${out} elements, got [${each.shape}]`)
  return rank
}

function mismatch(path: string, missing: readonly string[], unexpected: readonly string[]): CambiumError {
  const lines = missing.slice(0, 8).map((name) => {
    const near = nearestName(`base_model.model.${name}`, unexpected.slice(0, 1000))
    return `  missing ${name}${near === undefined ? '' : `, nearest in the file: ${near}`}`
  })
  lines.push(...unexpected.slice(0, 8).map((name) => `  unexpected ${name}`))
  const counts = `${missing.length} missing and ${unexpected.length} unexpected`
  return new CambiumError(
    'E_ADAPTER',
    `${path}: expected the tensors that its configuration asks for, got ${counts}:\n${lines.join('\n')}`,
    {
      details: { missing, unexpected },
    },
  )
}

function warningsOf(home: string, config: PeftConfig, targets: readonly PeftTarget[], unknown: readonly string[]): string[] {
  const warnings: string[] = []
  if (unknown.length > 0) warnings.push(`${join(home, PEFT_CONFIG)}: fields without a meaning here are kept: ${unknown.join(', ')}`)
  if (config.targetModules === undefined) return warnings
  const isNamed = targetMatcher(config)
  // torch's MultiheadAttention is named once, for its in_proj and its out_proj.
  const passed = targets.filter(({ module }) => !isNamed(module) && !isNamed(module.replace(/\.out_proj$/, '')))
  if (passed.length > 0)
    warnings.push(
      `${home}: ${passed.length} modules have factors but are not in target_modules, so PEFT would pass over them: ${passed[0].module}…`,
    )
  return warnings
}
