// Results and gradients of the shapes (shapes.ts) in f32 and bf16 on the device that CAMBIUM_CUDA_LIBRARY has, into the folder
// that CAMBIUM_SHAPES_FOLDER names: <shape>.<dtype>.<tensor>, f32.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { useDevice } from '../../lib/device.js'
import { outcome, shapes } from './shapes.js'

async function main(): Promise<void> {
  useDevice('cuda')
  const wanted = new RegExp(process.env.CAMBIUM_CASES ?? '')
  for (const [i, shape] of shapes.entries())
    for (const dtype of ['f32', 'bf16'] as const)
      for (const [name, values] of Object.entries(wanted.test(shape.name) ? await outcome(shape, dtype) : {}))
        writeFileSync(
          join(process.env.CAMBIUM_SHAPES_FOLDER!, `${i}.${dtype}.${name}`),
          new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
        )
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
