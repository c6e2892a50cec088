/**
 * A set of images from a path: a folder with a folder for each class, or a table (.csv, .tsv, .jsonl, .ndjson). A file
 * `classes.json` in the folder or beside it, `{"classes": {folder: name}, "templates": [...]}`, says how classes are named.
 */

import { dirname, join } from 'node:path'
import { CambiumError } from '../errors.js'
import { readdir, stat } from '../files.js'
import { ioError } from '../formats/atomic-file.js'
import { readJsonObject } from '../formats/json-fields.js'
import { type ClassNames, readClassNames } from './class-names.js'
import type { Dataset } from './dataset.js'
import { ImageFolder } from './image-folder.js'
import { ImageTable } from './image-table.js'
import { checkTemplates } from './prompts.js'
import { readRows } from './rows.js'

/** Names of classes and the prompts that go with them. */
export interface ClassFile {
  readonly classNames?: ClassNames
  readonly templates?: readonly string[]
}

/** Names and prompts of classes where they are not those of the set, and what broken images are. */
export interface OpenDatasetOptions {
  /** Wins over the set's own `classes.json`; an object folder -> name may name folders that this set does not have. */
  classNames?: ClassNames
  /** Wins over the templates of `classes.json`. */
  templates?: readonly string[]
  /** Used where the set says nothing of its own: the training set's, for test sets of the same classes. */
  fallback?: ClassFile
  /** Loaders count and skip images that cannot be decoded. */
  skipBroken?: boolean
}

/**
 * Opens a set of images by its path; images are read later.
 * Errors: E_NOT_FOUND; E_DATA; E_CLASS_NAMES; E_TEMPLATE; E_CONFIG for a malformed classes.json.
 */
export async function openDataset(path: string, options: OpenDatasetOptions = {}): Promise<Dataset> {
  const info = await stat(path).catch((error) => {
    if (error.code !== 'ENOENT') throw ioError(path, error)
    throw new CambiumError('E_NOT_FOUND', `${path}: expected a folder of images or a table of them, got no such file or folder`)
  })
  const own = await findClassFile(info.isDirectory() ? path : dirname(path))
  const { fallback, skipBroken } = options
  const classNames = options.classNames ?? own?.classNames ?? fallback?.classNames
  const templates = options.templates ?? own?.templates ?? fallback?.templates
  if (info.isDirectory()) return ImageFolder.open(path, { classNames: await ofFolders(path, classNames), templates, skipBroken })
  const names = Array.isArray(classNames) ? classNames : undefined
  return ImageTable.open(path, { classNames: names, templates, skipBroken, columns: await columnsOf(path) })
}

/** Names that columns go by, ours first; `filepath` and `title` are open_clip's. */
const COLUMNS = {
  image: ['image', 'filepath', 'path', 'file'],
  caption: ['caption', 'captions', 'title', 'text'],
  label: ['label', 'class'],
}

/** The columns of a table by the names in its first row. */
async function columnsOf(path: string): Promise<{ image?: string; caption?: string; label?: string }> {
  for await (const { fields } of readRows(path)) {
    const find = (names: readonly string[]) => names.find((name) => Object.hasOwn(fields, name)) ?? names[0]
    return { image: find(COLUMNS.image), caption: find(COLUMNS.caption), label: find(COLUMNS.label) }
  }
  return {}
}

/** An object's entries for folders that exist; a list as it is. */
async function ofFolders(path: string, classNames: ClassNames | undefined): Promise<ClassNames | undefined> {
  if (classNames === undefined || Array.isArray(classNames)) return classNames
  const folders = new Set(await readdir(path))
  return Object.fromEntries(Object.entries(classNames).filter(([folder]) => folders.has(folder)))
}

async function findClassFile(folder: string): Promise<ClassFile | undefined> {
  for (const place of [folder, dirname(folder)]) {
    const path = join(place, 'classes.json')
    if ((await readJsonObject(path)) !== undefined) return readClassFile(path)
  }
  return undefined
}

/** `{"classes": …, "templates": […]}`, or what readClassNames reads. Errors: E_NOT_FOUND, E_CLASS_NAMES, E_CONFIG, E_TEMPLATE. */
export async function readClassFile(path: string): Promise<ClassFile> {
  const whole = path.endsWith('.json') ? await readJsonObject(path).catch(() => undefined) : undefined
  if (whole === undefined || !('classes' in whole || 'templates' in whole)) return { classNames: await readClassNames(path) }
  const { classes, templates } = whole
  if (templates !== undefined && !isTexts(templates)) throw new CambiumError('E_CONFIG', `${path}: templates: expected a list of texts`)
  checkTemplates(templates ?? [])
  if (classes !== undefined && !isTexts(classes) && !isTexts(Object.values(classes ?? {})))
    throw new CambiumError('E_CLASS_NAMES', `${path}: classes: expected a list of names or an object folder -> name`)
  return { classNames: classes as ClassNames | undefined, templates }
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'string' && entry !== '')
}
