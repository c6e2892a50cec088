// The inputs that bench/peers/make_clip.py wrote beside a model.
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const { native } = require('../dist/native.js')
const { openSafetensors } = require('../dist/formats/safetensors-read.js')

/** Every input set of a benchmark folder: pixels, token ids, labels. */
export async function readInputs(folder) {
  const { tensors } = await openSafetensors(join(folder, 'bench-inputs.safetensors'))
  const read = async (name, to) => {
    const { path, offset, count, dtype, fileSize } = tensors.get(name)
    return native.readTensor({ path, offset, count, from: dtype, to, expectedSize: fileSize })
  }
  const sets = [...tensors.keys()].filter((name) => name.startsWith('pixels.')).length
  return Promise.all(
    Array.from({ length: sets }, async (_, i) => {
      const ids = Array.from(new Int32Array(await read(`ids.${i}`, 'I32')))
      const [rows, length] = tensors.get(`ids.${i}`).shape
      return {
        pixels: new Float32Array(await read(`pixels.${i}`, 'F32')),
        shape: tensors.get(`pixels.${i}`).shape,
        ids: Array.from({ length: rows }, (_, r) => ids.slice(r * length, (r + 1) * length)),
        labels: new Int32Array(await read(`labels.${i}`, 'I32')),
      }
    }),
  )
}
