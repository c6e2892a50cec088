// A few training steps of a small model, for tests that need a process or a worker of their own. As a worker it waits for
// {steps, forever} and answers with the bits of the weights; as a process it does what its first argument says.
import { parentPort } from 'node:worker_threads'
import { native } from '../../lib/native.js'
import { layerNorm, linear, sum } from '../../lib/ops.js'
import { backward, Parameter, step, Tensor } from '../../lib/tensor.js'
import { normals } from '../ops/normals.js'

const d = 96
const draw = (seed: number, shape: number[]) =>
  Float32Array.from(
    normals(
      seed,
      shape.reduce((a, b) => a * b, 1),
    ),
    (z) => 0.1 * z,
  )

/** Weights after so many steps, as bytes. `body` runs inside every step. */
export async function train(steps: number, body: (i: number) => void = () => {}): Promise<string> {
  const make = (name: string, data: Float32Array | null, shape: number[]) => Parameter.named(name, data, shape)
  const w = make('w', draw(1, [d, d]), [d, d])
  w.trainable = true
  const m = make('m', null, [d, d])
  const v = make('v', null, [d, d])
  const ones = make('ones', new Float32Array(d).fill(1), [d])
  const schedule = make('schedule', null, [4])
  for (let i = 1; i <= steps; ++i) {
    await step(() => {
      schedule.write(Float32Array.of(0.01, 1 - 0.9 ** i, 1 - 0.999 ** i, 0))
      let x = Tensor.from(draw(100 + i, [64, d]), [64, d])
      for (let layer = 0; layer < 4; ++layer) x = linear(layerNorm(x, ones, undefined, 1e-5), w, { residual: x })
      backward(sum(x))
      native.adamw([{ parameter: w.id, m: m.id, v: v.id, average: 0, decay: 0.01, lrScale: 1 }], schedule.id, {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        maxNorm: 1,
      })
      body(i)
    })
  }
  const bytes = Buffer.from((await w.floats()).buffer).toString('base64')
  for (const t of [w, m, v, ones, schedule]) t.dispose()
  return bytes
}

const ends: Record<string, (i: number) => void> = {
  exit: (i) => {
    if (i === 5) process.exit(7)
  },
  throw: (i) => {
    if (i === 5) throw new Error('in the middle')
  },
  queued: (i) => {
    if (i === 5) {
      for (let k = 0; k < 200; ++k) linear(Tensor.zeros([512, d]), Tensor.zeros([d, d]))
      process.exit(9)
    }
  },
  run: () => {},
}

if (parentPort) {
  const port = parentPort
  port.on('message', async ({ steps, forever }: { steps: number; forever?: boolean }) => {
    do port.postMessage(await train(steps))
    while (forever)
  })
} else if (process.argv[2] in ends) {
  train(8, ends[process.argv[2]]).then((bytes) => console.log(bytes.length))
}
