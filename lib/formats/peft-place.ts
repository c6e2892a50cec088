/**
 * An adapter meets a base: which tensor of the checkpoint (or of a model, by canonical names) each target changes. Names are
 * compared as they are and in their common form (peft-names.ts), with or without a prefix that one of the two files has.
 */

import { nearestName } from '../checks/nearest-name.js'
import { CambiumError } from '../errors.js'
import type { Shape } from './clip-tensors.js'
import type { Placement } from './layouts.js'
import type { PeftAdapter, PeftTarget, PlacedAdapter, PlacedTarget, PlacedTensor } from './peft-adapter.js'
import { commonName, ModuleIndex, type ModulePlace, partsOfFused } from './peft-names.js'
import type { StoredTensor } from './safetensors-read.js'

/** What does not fit: modules that the base does not have, and sentences about those of another shape. */
interface Problems {
  readonly missing: string[]
  readonly shapes: string[]
}
const count = ({ missing, shapes }: Problems) => missing.length + shapes.length

type Resolve = (module: string) => readonly ModulePlace[] | undefined

/**
 * Finds every target of an adapter in a base.
 * @param base shapes by tensor name: of a checkpoint's files, or canonical ones
 * @throws E_ADAPTER with everything that is missing (and the nearest name) or of another shape (which tensor, which sizes)
 */
export function placeAdapter(adapter: PeftAdapter, base: ReadonlyMap<string, Shape>): PlacedAdapter {
  const index = new ModuleIndex(base)
  const attempts = prefixes(adapter, index).map((prefix) => attempt(adapter, base, index, prefix))
  const good = attempts.filter(({ problems }) => count(problems) === 0)
  const chosen = good.length < 2 ? good[0] : good.find(({ prefix }) => prefix === '' || prefix === towerOf(adapter))
  if (chosen !== undefined) return chosen.placed
  const where = `${adapter.folder}: expected an adapter of this base`
  if (good.length > 1)
    throw new CambiumError(
      'E_ADAPTER',
      `${where}, got one that fits ${good.map(({ prefix }) => prefix).join(' and ')}; auto_mapping says neither`,
    )
  const { prefix, problems } = attempts.reduce((best, one) => (count(one.problems) < count(best.problems) ? one : best))
  throw new CambiumError('E_ADAPTER', `${where}, got ${count(problems)} targets that do not fit:\n${describe(problems, prefix, index)}`, {
    details: { missing: problems.missing, shapes: problems.shapes },
  })
}

/** A line for each of the first few. */
function describe({ missing, shapes }: Problems, prefix: string, index: ModuleIndex): string {
  const lines = missing.slice(0, 8).map((module) => {
    const near = nearestName(prefix.startsWith('-') ? module : prefix + module, index.literal.keys())
    return `  missing ${module}${near === undefined ? '' : `, nearest in the base: ${near}`}`
  })
  lines.push(...shapes.slice(0, 16).map((line) => `  ${line}`))
  const rest = missing.length + shapes.length - lines.length
  return rest > 0 ? `${lines.join('\n')}\n  and ${rest} more` : lines.join('\n')
}

function attempt(adapter: PeftAdapter, base: ReadonlyMap<string, Shape>, index: ModuleIndex, prefix: string) {
  const resolve = resolver(index, prefix)
  const problems: Problems = { missing: [], shapes: [] }
  const targets: PlacedTarget[] = []
  for (const target of adapter.targets) {
    const places = resolve(target.module)
    if (places === undefined) {
      problems.missing.push(target.module)
      continue
    }
    const placed = places.map((place, i) => placeTarget(places.length === 1 ? target : rowsOf(target, i, places.length), place))
    for (const one of placed) checkShape(one, base, problems)
    targets.push(...placed)
  }
  const saved: PlacedTensor[] = []
  const extra = new Map<string, StoredTensor>()
  for (const [name, tensor] of adapter.saved) {
    const at = placeSaved(name, base, resolve)
    if (at === undefined) extra.set(name, tensor)
    else saved.push({ tensor, at, reshaped: !same(tensor.shape, partShape(base, at)) })
  }
  return { prefix, placed: { adapter, targets, saved, extra }, problems }
}

/** What stands before the adapter's names in the base (`text_model.`), or, after a minus, before the base's in the adapter. */
function prefixes(adapter: PeftAdapter, index: ModuleIndex): string[] {
  const found = new Set([''])
  for (const { module } of adapter.targets.slice(0, 1)) {
    for (const [form, names] of [
      [module, index.literal],
      [commonName(module), index.common],
    ] as const) {
      for (const name of names.keys()) if (name.endsWith(`.${form}`)) found.add(name.slice(0, -form.length))
      for (let dot = form.indexOf('.'); dot >= 0; dot = form.indexOf('.', dot + 1))
        if (names.has(form.slice(dot + 1))) found.add(`-${form.slice(0, dot + 1)}`)
    }
  }
  return [...found].slice(0, 16)
}

/** For an adapter of one tower alone. */
function towerOf({ config }: PeftAdapter): string | undefined {
  const name = String((config.raw.auto_mapping as { base_model_class?: unknown } | null | undefined)?.base_model_class ?? '')
  return /TextModel/.test(name) ? 'text_model.' : /VisionModel/.test(name) ? 'vision_model.' : undefined
}

/** One place, or three when the base keeps apart what the adapter has fused. */
function resolver({ literal, common }: ModuleIndex, prefix: string): Resolve {
  const shift = (name: string) => {
    if (!prefix.startsWith('-')) return prefix + name
    return name.startsWith(prefix.slice(1)) ? name.slice(prefix.length - 1) : undefined
  }
  return (module) => {
    const own = shift(module)
    if (own === undefined) return undefined
    const form = shift(commonName(module)) ?? commonName(own)
    const place = literal.get(own) ?? common.get(form) ?? common.get(commonName(own))
    if (place !== undefined) return [place]
    const parts = partsOfFused(form)?.map((part) => common.get(part))
    return parts?.every((part) => part !== undefined) ? (parts as ModulePlace[]) : undefined
  }
}

function placeTarget(target: PeftTarget, { weight, bias }: ModulePlace): PlacedTarget {
  const { transpose, ...at } = weight
  return { ...target, fanInFanOut: target.fanInFanOut !== (transpose === true), weight: at, baseBias: bias }
}

/** The i-th part of the rows of all that has a row per output. */
function rowsOf(target: PeftTarget, index: number, of: number): PeftTarget {
  const cut = (tensor: StoredTensor): StoredTensor => {
    const bytes = tensor.bytes / of
    return {
      ...tensor,
      shape: [tensor.shape[0] / of, ...tensor.shape.slice(1)],
      count: tensor.count / of,
      bytes,
      offset: tensor.offset + index * bytes,
    }
  }
  const { b, bias, magnitude } = target
  if (b.shape[0] % of !== 0) return target
  return { ...target, b: cut(b), ...(bias && { bias: cut(bias) }), ...(magnitude && { magnitude: cut(magnitude) }) }
}

function checkShape(target: PlacedTarget, base: ReadonlyMap<string, Shape>, problems: Problems): void {
  const { kind, a, b, weight, fanInFanOut, baseBias } = target
  const matrix = kind === 'embedding' ? [a.shape[1], b.shape[0]] : [b.shape[0], ...a.shape.slice(1)]
  const expected = kind === 'linear' && fanInFanOut ? [matrix[1], matrix[0]] : matrix
  const got = partShape(base, weight)
  const rows = weight.rows === undefined ? '' : `, part ${weight.rows.index + 1} of ${weight.rows.of}`
  if (!same(expected, got))
    problems.shapes.push(
      `${weight.source}${rows}: the adapter is for [${expected.join(', ')}], the base has [${got.join(', ')}] (${target.module})`,
    )
  else if (baseBias !== undefined && kind !== 'embedding' && !same([b.shape[0]], partShape(base, baseBias)))
    problems.shapes.push(`${baseBias.source}: the adapter is for [${b.shape[0]}], the base has [${base.get(baseBias.source)}]`)
}

/** The shape of a tensor, or of the rows that are meant. */
function partShape(base: ReadonlyMap<string, Shape>, { source, rows }: Placement): Shape {
  const shape = base.get(source) ?? []
  return rows === undefined ? shape : [shape[0] / rows.of, ...shape.slice(1)]
}

function placeSaved(name: string, base: ReadonlyMap<string, Shape>, resolve: Resolve): Placement | undefined {
  if (base.has(name)) return { source: name }
  const dot = name.lastIndexOf('.')
  const place = resolve(name.slice(0, dot))
  if (place?.length !== 1) return undefined
  const part = name.slice(dot + 1)
  return part === 'weight' ? place[0].weight : part === 'bias' ? place[0].bias : undefined
}

const same = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((side, axis) => side === b[axis])
