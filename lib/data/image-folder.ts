/** A folder of images, a class a folder: `photos/dog/1.jpg`. Deeper folders belong to the class above them. */

import { extname, join } from 'node:path'
import { CambiumError, messageOf } from '../errors.js'
import { type ClassNames, namesOfFolders, readClassNames } from './class-names.js'
import { Dataset, type DatasetOptions, type Sample } from './dataset.js'
import { type Listed, listFolder } from './list-folder.js'

export interface ImageFolderOptions extends Omit<DatasetOptions, 'classNames'> {
  /** A list in the order of the sorted folders, an object folder -> name, or the path of a file with either. Default: the folders' names, `_` as space. */
  classNames?: ClassNames | string
  /** Other folders' classes and their order, so that an out-of-distribution set shares the labels of the training set. */
  folders?: readonly string[]
}

const READ = '.jpg .jpeg .jfif .jpe .png .webp .gif .tif .tiff .avif .bmp .dib .ppm .pgm .pbm .pnm .svg'.split(' ')
/** Photographs that no decoder here reads: who trains on a folder should hear of them. */
const REFUSED = ['.heic', '.heif', '.jxl', '.jp2']
const EXTENSIONS = new Set([...READ, ...REFUSED])

/** Whether a file is taken for an image by its name. */
export const isImageName = (name: string): boolean => EXTENSIONS.has(extname(name).toLowerCase())

/** Images in a folder for each class. */
export class ImageFolder extends Dataset {
  private constructor(
    samples: readonly Sample[],
    options: DatasetOptions,
    /** The folder of each class. */
    readonly folders: readonly string[],
  ) {
    super(samples, options)
  }

  /**
   * Lists a folder; images are read later. The order is by name, the same on every machine.
   * Errors: E_NOT_FOUND; E_DATA when there is no class folder or no image; E_CLASS_NAMES; E_TEMPLATE.
   */
  static async open(path: string, options: ImageFolderOptions = {}): Promise<ImageFolder> {
    const folders = options.folders ?? (await classFolders(path))
    if (folders.length === 0) throw new CambiumError('E_DATA', `${path}: expected a folder for each class, got none`)
    const given = typeof options.classNames === 'string' ? await readClassNames(options.classNames) : options.classNames
    const classNames = namesOfFolders(folders, given)
    const samples: Sample[] = []
    for (const [label, folder] of folders.entries()) {
      for (const id of await imagesBelow(path, folder)) samples.push({ id, image: join(path, id), label })
    }
    if (samples.length === 0) throw new CambiumError('E_DATA', `${path}: expected images (${READ.join(' ')}), got none`)
    return new ImageFolder(samples, { ...options, classNames }, folders)
  }
}

async function classFolders(path: string): Promise<string[]> {
  return (await list(path)).filter(({ isFolder }) => isFolder).map(({ name }) => name)
}

/** Paths relative to `root`, with `/`, sorted within each folder. */
async function imagesBelow(root: string, folder: string): Promise<string[]> {
  const found: string[] = []
  for (const { name, isFolder } of await list(join(root, folder))) {
    const id = `${folder}/${name}`
    if (isFolder) found.push(...(await imagesBelow(root, id)))
    else if (isImageName(name)) found.push(id)
  }
  return found
}

async function list(path: string): Promise<Listed[]> {
  try {
    return await listFolder(path)
  } catch (error) {
    const missing = (error as { code?: unknown }).code === 'ENOENT'
    throw new CambiumError(
      missing ? 'E_NOT_FOUND' : 'E_IO',
      `${path}: expected a folder of images, got ${missing ? 'no such folder' : messageOf(error)}`,
      { cause: error },
    )
  }
}
