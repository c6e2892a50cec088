/** The values of a stored tensor in memory. Apart from safetensors-read.ts, which reads headers and does without the native core. */
import { native } from '../native.js'
import { type StoredTensor, storedRequest } from './safetensors-read.js'

/** All elements, row-major, converted to f32. @throws E_DTYPE for types without numbers, E_FILE_CHANGED, E_IO */
export async function storedFloats(tensor: StoredTensor): Promise<Float32Array> {
  return new Float32Array(await native.readTensor({ ...storedRequest(tensor), to: 'F32' }))
}
