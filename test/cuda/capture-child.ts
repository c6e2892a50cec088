// Trains an adapter on the device with captured steps (or, with CAMBIUM_GRAPH=0, with plain ones) and prints what comes out: bits
// of the parameters, losses, and what a step that cannot be captured is told.
import { createHash } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { capture } from '../../lib/capture.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { MpmNceLoss } from '../../lib/objectives/mpm-nce.js'
import * as ops from '../../lib/ops.js'
import { AdamW } from '../../lib/optim/adamw.js'
import { backward, synchronize, Tensor } from '../../lib/tensor.js'
import { normals } from '../ops/normals.js'
import { tinyClip } from '../tiny-clip.js'

const SIDE = 40
/** Batches of some steps: a graph is made for each of two sizes, and used again. */
const BATCHES = [3, 3, 3, 2, 2, 3, 2, 3]

async function main() {
  const clip = await Clip.load(tinyClip(join(mkdtempSync(join(tmpdir(), 'capture-')), 'clip')), { device: 'cuda', dtype: 'bf16' })
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

  let calls = 0
  const host = capture(([x]) => [ops.add(x, Tensor.from(Float32Array.of(++calls, 0), [2]))])
  const x = Tensor.from(Float32Array.of(1, 2), [2])
  const told: string[] = []
  for (let i = 0; i < 2; ++i) {
    const said = await host.run([x]).then(
      async ([y]) => {
        const values = String(await y.floats())
        y.dispose()
        return values
      },
      (error) => `${error.code}: ${error.message}`,
    )
    told.push(said)
  }
  host.dispose()
  const held = native.memory().tensors
  for (const t of [x, ...optimizer.state().filter((p) => !adapter.parameters.includes(p))]) t.dispose()
  await synchronize()
  return { losses, hash: hash.digest('hex'), told, held: held > 0 }
}

main().then(
  (result) => console.log(JSON.stringify(result)),
  (error) => {
    console.error(error)
    process.exitCode = 1
  },
)
