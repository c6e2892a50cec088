/**
 * What a file or a folder holds, from headers and configurations alone: no weight is read and the native core is not needed.
 * What a folder's checkpoint or adapter lacks to be used is told, not thrown.
 */

import { basename, join } from 'node:path'
import { CambiumError, isCambiumError } from '../errors.js'
import { readdir, stat } from '../files.js'
import { type Checkpoint, isCheckpointFile, openCheckpoint } from '../formats/checkpoint.js'
import { openClipFolder } from '../formats/clip-files.js'
import type { ClipConfig } from '../formats/hf-config.js'
import { type JsonObject, readJsonObject } from '../formats/json-fields.js'
import { detectLayout, type LayoutName } from '../formats/layouts.js'
import { openAdapterTensors, openPeftAdapter, PEFT_CONFIG, PEFT_TENSORS } from '../formats/peft-read.js'
import type { StoredTensor } from '../formats/safetensors-read.js'

export interface InspectedTensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: number
}

export interface Problem {
  readonly code: string
  readonly message: string
}

export interface AdapterSummary {
  /** `r-adapter`, `lora`, or what a PEFT configuration calls itself */
  readonly method: string
  readonly by: 'cambium' | 'peft'
  readonly rank?: number
  readonly alpha?: number
  /** modules that it changes */
  readonly targets?: number
  /** whole tensors that it replaces */
  readonly replaces?: number
  /** name or fingerprint of its base */
  readonly base?: string
  readonly options: Readonly<Record<string, unknown>>
  readonly warnings: readonly string[]
}

/** A thing: a checkpoint, an adapter, or a file of tensors. */
export interface Inspection {
  readonly path: string
  readonly kind: 'checkpoint' | 'adapter' | 'tensors'
  readonly files: readonly { readonly name: string; readonly bytes: number }[]
  readonly tensors: readonly InspectedTensor[]
  readonly totals: {
    readonly tensors: number
    readonly elements: number
    readonly bytes: number
    readonly dtypes: Readonly<Record<string, number>>
  }
  readonly metadata: Readonly<Record<string, string>>
  /** naming of its tensors, when it is one of a CLIP */
  readonly layout?: LayoutName
  readonly config?: Omit<ClipConfig, 'raw'>
  readonly adapter?: AdapterSummary
  /** why it cannot be used as it is */
  readonly problem?: Problem
  /** adapters, and of runs also checkpoints, in folders inside it */
  readonly inside: readonly Inspection[]
  /** runs of `learn` in it or inside it */
  readonly runs?: readonly LearnedRun[]
}

export interface LearnedRun {
  readonly folder: string
  readonly method: string
  readonly seed?: number
  /** in the order in which they were learned */
  readonly tasks: readonly string[]
}

/** Folders inside folders that are looked into: those of several runs of learn (OUT/<label>/seed-<s>), and what stands in them. */
const DEEPEST = 3

/** @throws E_NOT_FOUND when there is nothing to look at; E_SAFETENSORS_… for a file that is not what it says */
export async function inspect(path: string): Promise<Inspection> {
  const info = await stat(path).catch(() => undefined)
  if (info === undefined)
    throw new CambiumError(
      'E_NOT_FOUND',
      `${path}: expected a safetensors file, a checkpoint, an adapter or a run, got no such file or folder`,
    )
  if (!info.isDirectory()) return inspectCheckpoint(path, await openCheckpoint(path), {})
  const found: Found = { inside: [], runs: [] }
  await lookInto(path, found, DEEPEST)
  found.inside.sort((a, b) => (a.path < b.path ? -1 : 1))
  const inside = { inside: found.inside, ...(found.runs.length === 0 ? {} : { runs: found.runs }) }
  if (await holdsSomething(path)) return { ...(await inspectFolder(path)), ...inside }
  if (found.inside.length + found.runs.length > 0) return { ...describe(path, 'tensors', []), ...inside }
  await openCheckpoint(path) // throws, and says what was expected
  return describe(path, 'tensors', [])
}

interface Found {
  readonly inside: Inspection[]
  readonly runs: LearnedRun[]
}

async function lookInto(folder: string, found: Found, levels: number): Promise<void> {
  const run = await learnedRun(folder)
  if (run !== undefined) found.runs.push(run)
  for (const entry of (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const at = join(folder, entry.name)
    if (entry.name.startsWith('.')) continue
    if (entry.isDirectory() && (await holdsSomething(at))) found.inside.push(await inspectFolder(at))
    else if (entry.isDirectory() && levels > 1) await lookInto(at, found, levels - 1)
    // What a run keeps beside its checkpoints, such as what `learn` has learned.
    if (entry.isFile() && /\.safetensors$/.test(entry.name) && !isCheckpointFile(entry.name))
      found.inside.push(await inspectCheckpoint(at, await openCheckpoint(at), {}))
  }
}

/** What a learn.json says of its run; undefined without one that can be read. */
async function learnedRun(folder: string): Promise<LearnedRun | undefined> {
  const told = await readJsonObject(join(folder, 'learn.json')).catch(() => undefined)
  if (typeof told?.method !== 'string' || !Array.isArray(told.tasks)) return undefined
  const tasks = told.tasks.map((task: { name?: unknown } | null) => String(task?.name))
  return { folder, method: told.method, ...(typeof told.seed === 'number' ? { seed: told.seed } : {}), tasks }
}

async function holdsSomething(folder: string): Promise<boolean> {
  const names = await readdir(folder).catch(() => [] as string[])
  return names.includes(PEFT_CONFIG) || names.some(isCheckpointFile)
}

async function inspectFolder(folder: string): Promise<Inspection> {
  const raw = await readJsonObject(join(folder, PEFT_CONFIG))
  if (raw !== undefined) return inspectAdapter(folder, raw)
  const checkpoint = await openCheckpoint(folder)
  const found = await told(() => openClipFolder(folder))
  if ('problem' in found) return inspectCheckpoint(folder, checkpoint, { problem: found.problem })
  const { raw: _, ...config } = found.value.config
  return inspectCheckpoint(folder, checkpoint, { config })
}

async function inspectCheckpoint(path: string, checkpoint: Checkpoint, more: Partial<Inspection>): Promise<Inspection> {
  const files = await Promise.all(checkpoint.files.map(async (file) => ({ name: basename(file), bytes: (await stat(file)).size })))
  const layout = await told(() => detectLayout(checkpoint.tensors.keys()).name)
  const known = 'value' in layout ? { layout: layout.value } : {}
  const kind = 'value' in layout ? 'checkpoint' : 'tensors'
  return { ...describe(path, kind, [...checkpoint.tensors.values()], checkpoint.metadata), files, ...known, ...more }
}

async function inspectAdapter(folder: string, raw: JsonObject): Promise<Inspection> {
  const file = await openAdapterTensors(folder)
  const own = typeof raw.method === 'string' && raw.peft_type === undefined
  const summary = await told(() => (own ? ownAdapter(raw) : peftAdapter(folder)))
  const known = 'problem' in summary ? { problem: summary.problem } : { adapter: summary.value }
  const files = [{ name: PEFT_TENSORS, bytes: file.size }]
  return { ...describe(folder, 'adapter', [...file.tensors.values()], file.metadata), files, ...known }
}

function ownAdapter(raw: JsonObject): AdapterSummary {
  const { method, rank, alpha, base, cambium_version, ...options } = raw
  const number = (value: unknown) => (typeof value === 'number' ? value : undefined)
  return {
    method: String(method),
    by: 'cambium',
    rank: number(rank),
    alpha: number(alpha),
    base: typeof base === 'string' ? base : undefined,
    options,
    warnings: [],
  }
}

async function peftAdapter(folder: string): Promise<AdapterSummary> {
  const { config, targets, saved, warnings, base } = await openPeftAdapter(folder)
  const { r, loraAlpha, useDora, useRslora, targetModules, modulesToSave, baseModel } = config
  return {
    method: useDora ? 'dora' : 'lora',
    by: 'peft',
    rank: r,
    alpha: loraAlpha,
    targets: targets.length,
    replaces: saved.size,
    base: base ?? baseModel,
    options: { rslora: useRslora, target_modules: targetModules ?? null, modules_to_save: modulesToSave },
    warnings,
  }
}

function describe(
  path: string,
  kind: Inspection['kind'],
  stored: readonly StoredTensor[],
  metadata: ReadonlyMap<string, string> = new Map(),
): Inspection {
  const tensors = stored.map(({ name, dtype, shape, bytes }) => ({ name, dtype, shape, bytes })).sort((a, b) => (a.name < b.name ? -1 : 1))
  const dtypes: Record<string, number> = {}
  for (const { dtype } of tensors) dtypes[dtype] = (dtypes[dtype] ?? 0) + 1
  const totals = {
    tensors: tensors.length,
    elements: stored.reduce((sum, { count }) => sum + count, 0),
    bytes: stored.reduce((sum, { bytes }) => sum + bytes, 0),
    dtypes,
  }
  return { path, kind, files: [], tensors, totals, metadata: Object.fromEntries(metadata), inside: [] }
}

/** The value, or the problem that kept us from it. */
async function told<T>(look: () => T | Promise<T>): Promise<{ readonly value: T } | { readonly problem: Problem }> {
  try {
    return { value: await look() }
  } catch (error) {
    if (!isCambiumError(error)) throw error
    return { problem: { code: error.code, message: error.message } }
  }
}
