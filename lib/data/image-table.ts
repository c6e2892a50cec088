/** A table of (image, caption, optional label). Rows that name one image are one sample with several captions. */
import { dirname, isAbsolute, join } from 'node:path'
import { CambiumError, describe } from '../errors.js'
import type { JsonObject } from '../formats/json-fields.js'
import { Dataset, type DatasetOptions, type Sample } from './dataset.js'
import { readRows } from './rows.js'

export interface ImageTableOptions extends DatasetOptions {
  /** Folder that image paths start from. Default: the table's own. */
  root?: string
  /** Names of the columns. Default image, caption, label. */
  columns?: { image?: string; caption?: string; label?: string }
}

interface Entry {
  id: string
  captions: string[]
  label: string | undefined
  line: number
}

/** Images, captions and labels from a table: CSV, TSV or JSON Lines. */
export class ImageTable extends Dataset {
  /**
   * Reads the table; images are read later. A caption may be a list of strings in JSON Lines. A label is the name of a class,
   * or its number when `classNames` are given; without them the classes are the labels met, sorted.
   * Errors: E_NOT_FOUND; E_DATA names the line for a missing image, neither caption nor label, or labels that disagree.
   */
  static async open(path: string, options: ImageTableOptions = {}): Promise<ImageTable> {
    const columns = { image: 'image', caption: 'caption', label: 'label', ...options.columns }
    const entries = new Map<string, Entry>()
    for await (const { line, fields } of readRows(path)) addRow(entries, fields, columns, `${path}:${line}`, line)
    if (entries.size === 0)
      throw new CambiumError('E_DATA', `${path}: expected rows with ${columns.image} and ${columns.caption} or ${columns.label}, got none`)
    const classNames = options.classNames ?? classesOf(entries.values())
    const labels = new Map(classNames.map((name, index) => [name, index]))
    const root = options.root ?? dirname(path)
    const samples = Array.from(
      entries.values(),
      ({ id, captions, label, line }): Sample => ({
        id,
        image: isAbsolute(id) ? id : join(root, id),
        ...(captions.length > 0 ? { captions } : {}),
        ...(label === undefined ? {} : { label: labelIndex(label, labels, options.classNames !== undefined, `${path}:${line}`) }),
      }),
    )
    return new ImageTable(samples, { ...options, classNames })
  }
}

function addRow(
  entries: Map<string, Entry>,
  fields: JsonObject,
  columns: Record<'image' | 'caption' | 'label', string>,
  where: string,
  line: number,
): void {
  const id = fields[columns.image]
  if (typeof id !== 'string' || id === '')
    throw new CambiumError('E_DATA', `${where}: expected a path in column ${columns.image}, got ${describe(id)}`)
  const captions = captionsOf(fields[columns.caption], `${where}: ${columns.caption}`)
  const label = labelOf(fields[columns.label], `${where}: ${columns.label}`)
  if (captions.length === 0 && label === undefined)
    throw new CambiumError('E_DATA', `${where}: expected a ${columns.caption} or a ${columns.label}, got neither`)
  const known = entries.get(id)
  if (known === undefined) entries.set(id, { id, captions, label, line })
  else {
    if (known.label !== label)
      throw new CambiumError(
        'E_DATA',
        `${where}: expected label ${known.label ?? 'none'} as in line ${known.line} for ${id}, got ${label ?? 'none'}`,
      )
    known.captions.push(...captions)
  }
}

function captionsOf(value: unknown, where: string): string[] {
  if (value === undefined || value === null || value === '') return []
  const list = Array.isArray(value) ? value : [value]
  if (list.every((entry): entry is string => typeof entry === 'string' && entry !== '')) return [...list]
  throw new CambiumError('E_DATA', `${where}: expected a string or a list of strings, got ${describe(value)}`)
}

function labelOf(value: unknown, where: string): string | undefined {
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value === 'string' || Number.isInteger(value)) return String(value)
  throw new CambiumError('E_DATA', `${where}: expected the name or number of a class, got ${describe(value)}`)
}

/** Numbers in their own order, names by code point. */
function classesOf(entries: Iterable<Entry>): string[] {
  const labels = new Set<string>()
  for (const { label } of entries) if (label !== undefined) labels.add(label)
  const all = [...labels]
  const numeric = all.every((label) => /^\d+$/.test(label))
  return numeric ? all.sort((a, b) => Number(a) - Number(b)) : all.sort()
}

function labelIndex(label: string, labels: ReadonlyMap<string, number>, given: boolean, where: string): number {
  const index = labels.get(label) ?? (given && /^\d+$/.test(label) ? Number(label) : undefined)
  if (index !== undefined && index < labels.size) return index
  throw new CambiumError('E_DATA', `${where}: expected one of ${labels.size} classes, got ${JSON.stringify(label)}`)
}
