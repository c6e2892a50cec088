/** A set of images with what is known of each: a class, captions, or both. Samples are not read until a loader asks. */
import { CambiumError, fail } from '../errors.js'
import type { ImageSource } from './decode.js'
import { checkTemplates } from './prompts.js'

/** One image of a set. */
export interface Sample {
  /** Stable name, as a path inside the set; splits and shots are drawn from it. */
  readonly id: string
  /** a path, or the bytes of a file with a name */
  readonly image: ImageSource
  /** Index into the set's class names. */
  readonly label?: number
  /** texts that say what is on it */
  readonly captions?: readonly string[]
}

/** Classes of a set and how they are said. */
export interface DatasetOptions {
  /** Name of each class, as it is to be said in a prompt. */
  classNames?: readonly string[]
  /** Prompts with one `{}` for the class name. */
  templates?: readonly string[]
  /** Loaders count and skip images that cannot be decoded. */
  skipBroken?: boolean
}

/** Images with what is known of each: a class, captions. No image is read before it is asked for. */
export class Dataset {
  readonly classNames: readonly string[]
  readonly templates: readonly string[]
  readonly skipBroken: boolean

  /** Errors: E_DATA for a label without a class name; E_TEMPLATE. */
  constructor(
    readonly samples: readonly Sample[],
    options: DatasetOptions = {},
  ) {
    this.classNames = options.classNames ?? []
    this.templates = options.templates ?? []
    this.skipBroken = options.skipBroken ?? false
    checkTemplates(this.templates)
    for (const { id, label } of samples) {
      if (label !== undefined && !(Number.isInteger(label) && label >= 0 && label < this.classNames.length)) {
        throw new CambiumError('E_DATA', `${id}: expected a label below ${this.classNames.length} classes, got ${label}`)
      }
    }
  }

  /** Number of images. */
  get length(): number {
    return this.samples.length
  }

  /** Whether every sample has a class. */
  get labelled(): boolean {
    return this.samples.length > 0 && this.samples.every((sample) => sample.label !== undefined)
  }

  /** Whether every sample has a caption. */
  get captioned(): boolean {
    return this.samples.length > 0 && this.samples.every((sample) => sample.captions !== undefined && sample.captions.length > 0)
  }

  /** The class of each sample. Throws E_DATA when one has none. */
  labels(): Int32Array {
    return Int32Array.from(this.samples, ({ id, label }) => {
      if (label === undefined) throw new CambiumError('E_DATA', `${id}: expected a label, got none`)
      return label
    })
  }

  /** The samples at `indices`, with the same classes and templates. Throws E_ARGUMENT for an index that there is not. */
  subset(indices: Iterable<number>): Dataset {
    const at = (index: number) => this.samples[index] ?? fail('E_ARGUMENT', 'subset', `indices below ${this.length}`, index)
    return new Dataset(Array.from(indices, at), this)
  }
}
