/**
 * Image files to 8-bit RGB, as Pillow's `Image.open(f).convert('RGB')`: colour profiles are not applied, grey is repeated,
 * palettes are looked up, alpha is dropped without compositing, CMYK becomes RGB by Pillow's formula, 16-bit grey is cut at
 * 255 (that is what Pillow does with mode I;16), 16-bit colour keeps its high byte, and EXIF rotation is ignored unless asked for
 * (but for TIFF, which Pillow turns by itself). Of several pages or frames the first is taken. BMP and Netpbm are read here.
 */

import type sharpModule from 'sharp'
import { CambiumError, messageOf } from '../errors.js'
import { readFile, stat } from '../files.js'
import { imageFormat, LOOK } from '../formats/file-kind.js'
import { decodeBmp } from './bmp.js'
import { whatIsWrong } from './broken-image.js'
import { imageKind } from './image-kind.js'
import { loadSharp } from './load-sharp.js'
import { decodeNetpbm } from './netpbm.js'
import { MOST_PIXELS, type RgbImage } from './rgb-image.js'

/** A file's path, or its bytes with a name for error messages. */
export type ImageSource = string | { readonly bytes: Uint8Array; readonly name: string }

export interface DecodeOptions {
  /** Turn the image as its EXIF orientation says. Hugging Face's processors do not. Default false. */
  exif?: boolean
}

type Sharp = typeof sharpModule

const MOST_BYTES = 1_000_000_000

export function imageName(source: ImageSource): string {
  return typeof source === 'string' ? source : source.name
}

/** Decodes one image. Throws E_IMAGE with the file's name for what cannot be read or is broken, also when cut short; E_DECODER. */
export async function decodeImage(source: ImageSource, options: DecodeOptions = {}): Promise<RgbImage> {
  const sharp = loadSharp()
  let bytes: Uint8Array | undefined
  try {
    bytes = typeof source === 'string' ? await readImage(source) : source.bytes
    return await decode(bytes, options.exif === true, sharp)
  } catch (error) {
    const got = bytes === undefined ? messageOf(error) : whatIsWrong(bytes, messageOf(error))
    throw new CambiumError('E_IMAGE', `${imageName(source)}: expected an image, got ${got}`, {
      cause: error,
      details: { image: imageName(source) },
    })
  }
}

/** A device or a pipe of that name would never end. */
async function readImage(path: string): Promise<Uint8Array> {
  const info = await stat(path)
  if (!info.isFile()) throw new Error('something that is no file')
  if (info.size > MOST_BYTES) throw new Error(`a file of ${info.size} bytes`)
  return readFile(path)
}

async function decode(bytes: Uint8Array, exif: boolean, sharp: Sharp): Promise<RgbImage> {
  const format = imageFormat(Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, LOOK)))
  if (format === 'Netpbm') return decodeNetpbm(bytes)
  if (format === 'BMP') return decodeBmp(bytes)
  // 'error' also fails on files that end early, where 'warning' would fail on harmless oddities that Pillow reads too.
  const opened = sharp(bytes, { ignoreIcc: true, failOn: 'error', autoOrient: exif || format === 'TIFF', limitInputPixels: MOST_PIXELS })
  if (imageKind(bytes) === 'plain') return toRgb(opened)
  const { space, depth, hasAlpha, channels } = await opened.metadata()
  if (depth === 'char') throw new Error('numbers with a sign')
  if ((depth === 'float' || depth === 'double') && channels > 1) throw new Error('colours that are fractions')
  if (space === 'cmyk') return cmykToRgb(opened)
  if (space === 'grey16' && depth === 'ushort' && hasAlpha !== true) return clippedGrey(opened)
  return toRgb(opened)
}

async function toRgb(image: sharpModule.Sharp): Promise<RgbImage> {
  const { data, info } = await image.toColourspace('srgb').removeAlpha().raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true })
  if (info.channels !== 3) throw new Error(`${info.channels} channels after conversion to RGB`)
  return { data, width: info.width, height: info.height }
}

/** Pillow's: r = (255 - k) - (255 - k)·c / 255, rounded as MULDIV255 does. Inverted files of Adobe arrive upright. */
async function cmykToRgb(image: sharpModule.Sharp): Promise<RgbImage> {
  const { data, info } = await image
    .pipelineColourspace('cmyk')
    .toColourspace('cmyk')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
  const rgb = new Uint8Array(info.width * info.height * 3)
  for (let from = 0, to = 0; to < rgb.length; from += info.channels, to += 3) {
    const light = 255 - data[from + 3]
    for (let channel = 0; channel < 3; channel++) {
      const product = data[from + channel] * light + 128
      rgb[to + channel] = light - ((product + (product >> 8)) >> 8)
    }
  }
  return { data: rgb, width: info.width, height: info.height }
}

/** Refuses what would be white all over and nothing else: a camera's 12 or 16 bits, which somebody has to scale to 8. */
async function clippedGrey(image: sharpModule.Sharp): Promise<RgbImage> {
  const { data, info } = await image.toColourspace('grey16').raw({ depth: 'ushort' }).toBuffer({ resolveWithObject: true })
  const values = new Uint16Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength))
  const rgb = new Uint8Array(info.width * info.height * 3)
  for (let i = 0, to = 0; to < rgb.length; i += info.channels, to += 3) rgb.fill(Math.min(values[i], 255), to, to + 3)
  if (values.every((value) => value > 255))
    throw new Error('16-bit grey with every pixel above 255, which is cut there (as Pillow does) to plain white: scale it to 8 bits first')
  return { data: rgb, width: info.width, height: info.height }
}
