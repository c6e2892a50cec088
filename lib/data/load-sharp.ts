/**
 * The image decoder, loaded on first use: a program that trains on pixels of its own needs none. Its CommonJS half, because the
 * other one has import attributes, which Node 20.9 cannot read.
 */
import type sharpModule from 'sharp'
import { CambiumError, messageOf } from '../errors.js'

/** @throws E_DECODER when sharp does not load here: of another platform, or left out at installation */
export function loadSharp(): typeof sharpModule {
  try {
    return require('sharp')
  } catch (error) {
    throw new CambiumError('E_DECODER', `sharp: expected an image decoder that loads, got: ${messageOf(error).trim()}`, { cause: error })
  }
}
