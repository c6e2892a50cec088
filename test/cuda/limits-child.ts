// Inputs at the ends of what kernels take: more samples than a grid has along one side, none at all, and NaN. Prints what came of it.
import { useDevice } from '../../lib/device.js'
import * as ops from '../../lib/ops.js'
import { backward, Parameter, scope, step, Tensor } from '../../lib/tensor.js'

const told: Record<string, unknown> = {}
const integers = (values: number[]) => Tensor.from(Int32Array.from(values), [values.length], 'i32')

/** Attention of 65,600 samples of which the first and the last have rows, as of those alone. */
async function manySamples(): Promise<boolean> {
  const [batch, d, m] = [65_600, 16, 5]
  const qkv = Tensor.from(
    Float32Array.from({ length: m * 3 * d }, (_, i) => Math.sin(i)),
    [m, 3 * d],
  )
  const attend = async (offsets: number[]) => {
    const rows = { offsets: integers(offsets), batch: offsets.length - 1, maxTokens: 3 }
    return (await scope(() => ops.cast(ops.attention(ops.cast(qkv, 'bf16'), rows, { heads: 2 }), 'f32')).floats()).join()
  }
  return (await attend([0, ...Array.from({ length: batch - 1 }, () => 2), m])) === (await attend([0, 2, m]))
}

async function main(): Promise<void> {
  useDevice('cuda')
  told.many = await manySamples()

  const qkv = Tensor.from(new Float32Array(24), [1, 24])
  const nothing = scope(() => ops.attention(qkv, { offsets: integers([0, 0]), batch: 1, maxTokens: 0 }, { heads: 1 })).floats()
  told.noTokens = await nothing.catch((error: Error) => error.message)

  const keys = Float32Array.from({ length: 32 }, (_, i) => (i === 3 ? Number.NaN : i))
  const kv = Parameter.named('kv', keys, [2, 16])
  kv.trainable = true
  const q = Tensor.from(new Float32Array(8).fill(1), [1, 8])
  const rows = { offsets: integers([0, 2]), batch: 1, maxTokens: 2 }
  await step(() => backward(ops.sum(ops.pooledAttention(q, kv, rows, integers([0]), { heads: 1 }))))
  told.pooled = (await (kv.gradient as Tensor).floats()).some(Number.isNaN)
  told.after = await scope(() => ops.sum(q)).item()
}

main().then(
  () => console.log(JSON.stringify(told)),
  (error) => {
    console.error(error)
    process.exitCode = 1
  },
)
