/**
 * `preprocessor_config.json`: from the size of an image to a plan of how it becomes pixels. The plan is numbers only; the
 * native core carries it out (crop, Pillow-exact resize, crop with zero padding, flip, normalise).
 */
import { join } from 'node:path'
import { fail } from '../errors.js'
import { type CropRule, cropOffset, randomResizedCrop, type TrainCrop } from './crop.js'
import { Fields, isJsonObject, type JsonObject, readJsonObject } from './json-fields.js'

export type Resample = 'nearest' | 'lanczos' | 'bilinear' | 'bicubic' | 'box' | 'hamming'
/** What the native core does to one image, in this order. Boxes are [left, top, width, height] in pixels. */
export interface PreprocessPlan {
  /** The part of the source that is used; absent: all of it. */
  readonly box?: [number, number, number, number]
  /** Width and height after resizing. */
  readonly resize: [number, number]
  readonly resample: Resample
  /** The part of the resized image that is kept; outside it pixels are 0. */
  readonly crop?: [number, number, number, number]
  readonly flip?: boolean
  readonly rescale: number
  readonly mean: [number, number, number]
  readonly std: [number, number, number]
}

type Resize =
  | { readonly kind: 'none' }
  | { readonly kind: 'shortest'; readonly edge: number }
  | { readonly kind: 'exact'; readonly width: number; readonly height: number }

const RESAMPLES: readonly Resample[] = ['nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming']
const CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
const CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

export class ImagePreprocessor {
  private constructor(
    private readonly resize: Resize,
    private readonly crop: [number, number] | undefined,
    private readonly cropRule: CropRule,
    private readonly pixels: Pick<PreprocessPlan, 'resample' | 'rescale' | 'mean' | 'std'>,
  ) {}

  /** From a folder's `preprocessor_config.json`; CLIP's own settings for `imageSize` when there is none. */
  static async load(folder: string, imageSize: number, options: { crop?: CropRule } = {}): Promise<ImagePreprocessor> {
    const path = join(folder, 'preprocessor_config.json')
    const raw = await readJsonObject(path)
    return raw === undefined ? ImagePreprocessor.clip(imageSize, options) : ImagePreprocessor.fromJson(raw, { ...options, what: path })
  }

  /** CLIP's evaluation transform: short side to `size`, bicubic; centre crop; CLIP's mean and deviation. */
  static clip(size: number, options: { crop?: CropRule } = {}): ImagePreprocessor {
    return ImagePreprocessor.fromJson(
      { image_processor_type: 'CLIPImageProcessor', size: { shortest_edge: size }, crop_size: { height: size, width: size } },
      options,
    )
  }

  /** From `preprocess_cfg` of open_clip_config.json, whose crop is torchvision's. Errors: E_CONFIG, E_UNSUPPORTED. */
  static fromOpenClip(raw: JsonObject, imageSize: number): ImagePreprocessor {
    const fields = new Fields(raw, 'open_clip_config.json: preprocess_cfg.')
    const mode = fields.get('resize_mode') ?? 'shortest'
    if (mode !== 'shortest' && mode !== 'squash')
      fail('E_UNSUPPORTED', 'open_clip_config.json: preprocess_cfg.resize_mode', 'shortest or squash', mode)
    const square = { height: imageSize, width: imageSize }
    const size = mode === 'shortest' ? { shortest_edge: imageSize } : square
    const json = {
      size,
      crop_size: square,
      resample: fields.get('interpolation'),
      image_mean: fields.get('mean'),
      image_std: fields.get('std'),
    }
    return ImagePreprocessor.fromJson(json, { crop: 'openai', what: 'open_clip_config.json: preprocess_cfg' })
  }

  /** From the file's contents. Errors: E_CONFIG for malformed fields, E_UNSUPPORTED for what we do not do. */
  static fromJson(raw: JsonObject, options: { crop?: CropRule; what?: string } = {}): ImagePreprocessor {
    const where = `${options.what ?? 'preprocessor_config.json'}: `
    const fields = new Fields(raw, where)
    if (fields.boolean('do_pad', false)) fail('E_UNSUPPORTED', `${where}do_pad`, 'false', true)
    const type = fields.get('image_processor_type') ?? fields.get('feature_extractor_type')
    const isClip = type === undefined || /^(CLIP|Bit)/.test(String(type)) // Bit: DINOv2's processor, of the same steps
    const normalize = fields.boolean('do_normalize', true)
    const std = normalize ? fields.numbers('image_std', isClip ? CLIP_STD : [0.5, 0.5, 0.5]) : [1, 1, 1]
    if (!std.every((value) => value > 0)) fail('E_CONFIG', `${where}image_std`, 'positive numbers', std)
    return new ImagePreprocessor(
      fields.boolean('do_resize', true) ? parseResize(fields.get('size') ?? 224, isClip, `${where}size`) : { kind: 'none' },
      fields.boolean('do_center_crop', isClip) ? parseCrop(fields.get('crop_size') ?? 224, `${where}crop_size`) : undefined,
      options.crop ?? 'hf',
      {
        resample: parseResample(fields.get('resample') ?? (isClip ? 3 : 2), `${where}resample`),
        rescale: fields.boolean('do_rescale', true) ? fields.number('rescale_factor', 1 / 255) : 1,
        mean: triple(normalize ? fields.numbers('image_mean', isClip ? CLIP_MEAN : [0.5, 0.5, 0.5]) : [0, 0, 0]),
        std: triple(std),
      },
    )
  }

  /** Width and height of what comes out; undefined when it depends on the image. */
  get outputSize(): [number, number] | undefined {
    return this.crop ?? (this.resize.kind === 'exact' ? [this.resize.width, this.resize.height] : undefined)
  }

  /** The same steps for another output size; what surrounds the crop keeps its share (DINOv2's 256 around 224). */
  withSize(size: number): ImagePreprocessor {
    const { resize, crop } = this
    const scaled = resize.kind === 'shortest' ? { ...resize, edge: Math.round((resize.edge * size) / (crop?.[0] ?? resize.edge)) } : resize
    const exact: Resize = resize.kind === 'exact' && crop === undefined ? { kind: 'exact', width: size, height: size } : scaled
    return new ImagePreprocessor(exact, crop === undefined ? undefined : [size, size], this.cropRule, this.pixels)
  }

  /** preprocessor_config.json of these steps, as transformers reads it. */
  toJson(): JsonObject {
    const { resize, crop, pixels } = this
    const size =
      resize.kind === 'exact'
        ? { height: resize.height, width: resize.width }
        : { shortest_edge: resize.kind === 'shortest' ? resize.edge : 224 }
    return {
      image_processor_type: 'CLIPImageProcessor',
      do_convert_rgb: true,
      do_resize: resize.kind !== 'none',
      size,
      resample: RESAMPLES.indexOf(pixels.resample),
      do_center_crop: crop !== undefined,
      ...(crop === undefined ? {} : { crop_size: { height: crop[1], width: crop[0] } }),
      do_rescale: pixels.rescale !== 1,
      rescale_factor: pixels.rescale,
      do_normalize: true,
      image_mean: pixels.mean,
      image_std: pixels.std,
    }
  }

  /** The plan of evaluation for an image of `width` x `height` pixels. */
  plan(width: number, height: number): PreprocessPlan {
    const resize = this.resizedTo(width, height)
    if (this.crop === undefined) return { ...this.pixels, resize }
    const [cropWidth, cropHeight] = this.crop
    const left = cropOffset(resize[0], cropWidth, this.cropRule)
    const top = cropOffset(resize[1], cropHeight, this.cropRule)
    return { ...this.pixels, resize, crop: [left, top, cropWidth, cropHeight] }
  }

  /**
   * The plan of training: torchvision's RandomResizedCrop, then a mirror image if asked for.
   * @param uniform gives the next number of [0, 1) of this sample's own stream
   */
  trainPlan(width: number, height: number, uniform: () => number, options: TrainCrop = {}): PreprocessPlan {
    const size = this.outputSize
    if (size === undefined) return fail('E_CONFIG', 'preprocessor', 'a fixed output size to train with', 'a size that follows the image')
    const box = randomResizedCrop(width, height, uniform, options)
    const flip = options.flip !== undefined && options.flip > 0 && uniform() < options.flip
    return { ...this.pixels, box, resize: size, ...(flip ? { flip } : {}) }
  }

  private resizedTo(width: number, height: number): [number, number] {
    const { resize } = this
    if (resize.kind === 'none') return [width, height]
    if (resize.kind === 'exact') return [resize.width, resize.height]
    const long = Math.floor((resize.edge * Math.max(width, height)) / Math.min(width, height))
    return width <= height ? [resize.edge, long] : [long, resize.edge]
  }
}

function parseResize(size: unknown, isClip: boolean, where: string): Resize {
  if (isSide(size)) return isClip ? { kind: 'shortest', edge: size } : { kind: 'exact', width: size, height: size }
  if (isJsonObject(size) && size.longest_edge == null) {
    if (isSide(size.shortest_edge)) return { kind: 'shortest', edge: size.shortest_edge }
    if (isSide(size.height) && isSide(size.width)) return { kind: 'exact', width: size.width, height: size.height }
  }
  return fail(isJsonObject(size) ? 'E_UNSUPPORTED' : 'E_CONFIG', where, 'a number, {shortest_edge} or {height, width}', size)
}

function parseCrop(size: unknown, where: string): [number, number] {
  if (isSide(size)) return [size, size]
  if (isJsonObject(size) && isSide(size.height) && isSide(size.width)) return [size.width, size.height]
  return fail('E_CONFIG', where, 'a number or {height, width}', size)
}

function parseResample(value: unknown, where: string): Resample {
  const name = typeof value === 'number' ? RESAMPLES[value] : RESAMPLES.find((resample) => resample === value)
  return name ?? fail('E_UNSUPPORTED', where, '0 to 5 (nearest, lanczos, bilinear, bicubic, box, hamming)', value)
}

function isSide(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 && value <= 65535
}

function triple(values: readonly number[]): [number, number, number] {
  return [values[0], values[1], values[2]]
}
