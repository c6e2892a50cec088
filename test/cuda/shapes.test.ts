import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { F32 } from '../ops/case.js'
import { relativeError } from '../ops/check-case.js'
import { child } from './emulated.js'
import { outcome, shapes } from './shapes.js'

// Shapes that the case table is too small for, on the emulated device, against the CPU in f32.
const folder = mkdtempSync(join(tmpdir(), 'cambium-shapes-'))
beforeAll(async () => {
  await child('shapes-child.ts', { CAMBIUM_SHAPES_FOLDER: folder, CAMBIUM_EMULATION_ORDER: 'shuffle' })
}, 600_000)
afterAll(() => rmSync(folder, { recursive: true }))

/** The device's values, in memory of their own: a file's bytes need not be aligned. */
const read = (i: number, dtype: string, name: string) =>
  new Float32Array(new Uint8Array(readFileSync(join(folder, `${i}.${dtype}.${name}`))).buffer)

test.each(shapes.map((shape, i) => ({ name: shape.name, shape, i })))(
  '$name',
  async ({ shape, i }) => {
    const reference = await outcome(shape, 'f32')
    const failures: string[] = []
    for (const dtype of ['f32', 'bf16'] as const) {
      for (const [name, values] of Object.entries(reference)) {
        const tolerance = dtype === 'f32' ? F32 : shape.bf16
        const bound = name === 'result' ? tolerance.forward : tolerance.gradient
        const error = relativeError(read(i, dtype, name), values)
        if (!(error <= bound))
          failures.push(`${dtype} ${name}: relative error ${error.toExponential(2)}, at most ${bound.toExponential(1)}`)
      }
    }
    expect(failures).toEqual([])
  },
  600_000,
)
