// Trains an adapter on the device with captured steps (or, with CAMBIUM_GRAPH=0, with plain ones) and prints what comes out: bits
// of the parameters, losses, and what steps are told that cannot be captured, or are of many shapes.
import { createHash } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CapturedStep, capture } from '../../lib/capture.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { MpmNceLoss } from '../../lib/objectives/mpm-nce.js'
import * as ops from '../../lib/ops.js'
import { AdamW } from '../../lib/optim/adamw.js'
import { backward, synchronize, Tensor } from '../../lib/tensor.js'
import { normals } from '../ops/normals.js'
import { smallClip } from './small-clip.js'

const SIDE = 16
/** Batches of some steps: a graph is made for each of two sizes, and used again. */
const BATCHES = [3, 3, 3, 2, 2, 3, 2, 3]

async function main() {
  const clip = await Clip.load(smallClip(join(mkdtempSync(join(tmpdir(), 'capture-')), 'clip')), {
    device: 'cuda',
    dtype: 'bf16',
    imageSize: SIDE,
  })
  const adapter = new RAdapter(clip, { drop: 0.4 })
  const optimizer = new AdamW(adapter.parameters, { weightDecay: 0.1, clipNorm: 1, average: true })
  const objective = new MpmNceLoss()
  const prompts = clip.tokenize(['a cat', 'two dogs', 'three'])
  const step = capture(([pixels, labels]) => {
    const texts = clip.encodeText(prompts.slice(0, pixels.shape[0]), adapter)
    const loss = objective.loss(clip.encodeImage(pixels, adapter), texts, labels)
    backward(loss)
    return [loss, optimizer.apply()]
  })
  const losses: number[] = []
  for (const [i, batch] of BATCHES.entries()) {
    adapter.draw(5, i)
    optimizer.prepare(1e-2 / (i + 1), 0.9)
    const pixels = Tensor.from(Float32Array.from(normals(i + 1, batch * 3 * SIDE * SIDE)), [batch, 3, SIDE, SIDE])
    const labels = Tensor.from(
      Int32Array.from({ length: batch }, (_, b) => (b + i) % 2),
      [batch],
      'i32',
    )
    const [loss, norm] = await step.run([pixels, labels])
    losses.push(await loss.item(), await norm.item())
    for (const tensor of [pixels, labels, loss, norm]) tensor.dispose()
  }
  const hash = createHash('sha256')
  for (const p of optimizer.state()) hash.update(new Uint8Array((await p.floats()).buffer))
  step.dispose()

  const x = Tensor.from(Float32Array.of(1, 2), [2])
  const told = {
    host: await withHostValues(x),
    shapes: await ofManyShapes(x),
    thrown: await thatThrows(x),
    memory: await thatGivesMemoryBack(x),
  }
  optimizer.dispose()
  adapter.dispose()
  x.dispose()
  clip.dispose()
  await synchronize()
  return { losses, hash: hash.digest('hex'), ...told, held: native.memory().tensors }
}

/** What came of some steps: the first value of their first result, or an error. */
async function outcomes<S>(step: CapturedStep<S>, inputs: Tensor[], shapes: S[]): Promise<string[]> {
  const all: string[] = []
  for (const shape of shapes) {
    const said = await step.run(inputs, shape).then(
      async ([y]) => {
        const values = String(await y.floats())
        y.dispose()
        return values
      },
      (error) => `${error.code ?? error.name}: ${error.message}`,
    )
    all.push(said)
  }
  return all
}

/** A step that cannot be captured: refused, or with `otherwise` simply called. */
async function withHostValues(x: Tensor) {
  const reasons: string[] = []
  let calls = 0
  const steps = [{}, { otherwise: (reason: string) => reasons.push(reason) }].map((options) =>
    capture(([x]) => [ops.add(x, Tensor.from(Float32Array.of(++calls, 0), [2]))], options),
  )
  const refused = await outcomes(steps[0], [x], [undefined, undefined])
  calls = 0
  const called = await outcomes(steps[1], [x], [undefined, undefined, undefined])
  for (const step of steps) step.dispose()
  return { refused, called, reasons }
}

/** Many shapes: the graph unused for longest goes, and comes again when it is asked for. */
async function ofManyShapes(x: Tensor) {
  const before = native.memory().tensors
  const step = capture(([x], factor: number) => [ops.sum(x, factor)])
  const factors = Array.from({ length: 10 }, (_, i) => i + 1)
  const sums = await outcomes(step, [x], [...factors.flatMap((f) => [f, f, f]), 10, 10, 1, 1])
  const { graphs } = step
  const held = native.memory().tensors - before
  step.dispose()
  return { sums: sums.map(Number), graphs, held, left: native.memory().tensors - before }
}

/** A step that throws while it is recorded: the error is its own, and the next one is recorded. */
async function thatThrows(x: Tensor) {
  let calls = 0
  const step = capture(([x]) => {
    const y = ops.add(x, x)
    if (++calls === 2) throw new RangeError('not now')
    return [ops.add(y, x)]
  })
  const said = await outcomes(step, [x], [undefined, undefined, undefined, undefined])
  const { graphs } = step
  step.dispose()
  return { said, graphs }
}

/** While a step is recorded nobody may wait for the device: memory that is given back then goes when the recording has ended. */
async function thatGivesMemoryBack(x: Tensor) {
  const free = async () => {
    await synchronize()
    native.trim()
    return native.deviceMemory()?.free ?? 0
  }
  const spare = Tensor.zeros([10 << 20]) // 40 MiB: a segment of its own
  const before = await free()
  let calls = 0
  const step = capture(([x]) => {
    if (++calls === 2) {
      spare.dispose()
      native.trim()
    }
    return [ops.add(x, x)]
  })
  const said = await outcomes(step, [x], [undefined, undefined, undefined])
  const { graphs } = step
  step.dispose()
  return { said, graphs, given: (await free()) - before }
}

main().then(
  (result) => console.log(JSON.stringify(result)),
  (error) => {
    console.error(error)
    process.exitCode = 1
  },
)
