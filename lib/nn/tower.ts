// The blocks of a tower, one after the other, to the one row of each sample that is pooled.
import type { LayerInjection, TokenRows } from '../injection/injection.js'
import { gatherRows } from '../ops.js'
import { recompute, Tensor } from '../tensor.js'
import { type Block, type BlockOptions, type BlockWeights, type PooledRows, transformerBlock } from './transformer-block.js'

export interface Tower {
  readonly blocks: readonly BlockWeights[]
  readonly options: BlockOptions
  readonly rows: TokenRows
  readonly pooled: PooledRows
  /** what the last block computes: everything, or what the pooled rows need */
  readonly lastBlock: 'pooled' | 'all'
  layer(index: number): LayerInjection | undefined
  /**
   * Activation checkpointing (Chen et al. 2016): of each block only the input is kept for backward, which runs the block
   * again inside this function.
   */
  readonly again?: (block: () => Tensor) => Tensor
}

/**
 * x [M, D] f32 -> the pooled rows after the last block, [B, D] f32. The residual stream is freed as soon as the next block has
 * read it, x too: backward keeps what it needs, which the stream is no part of.
 */
export function runTower(x: Tensor, { blocks, options, rows, pooled, lastBlock, layer, again }: Tower): Tensor {
  const short = lastBlock === 'pooled' ? blocks.length - 1 : -1
  let out = x
  blocks.forEach((weights, i) => {
    const block = { weights, options, rows, pooled: i === short ? pooled : undefined }
    const added = () => layer(i)
    const read = out
    out = again ? checkpointed(read, block, added, again) : transformerBlock(read, block, added())
    if (out.id !== read.id) read.dispose()
  })
  return short >= 0 ? out : gatherRows(out, pooled.index)
}

/** The tensors of the rows are inputs too: their scope has ended when backward runs the block again. What the method adds is made anew. */
function checkpointed(x: Tensor, block: Block, added: () => LayerInjection | undefined, again: NonNullable<Tower['again']>): Tensor {
  const { rows, pooled } = block
  const inputs = [x, ...tensorsOf(rows), ...(pooled ? [pooled.index, ...tensorsOf(pooled.rows)] : [])]
  const run = ([from, offsets, positions, keys, index, ...own]: Tensor[]) =>
    transformerBlock(
      from,
      {
        ...block,
        rows: { ...rows, offsets, positions, keys },
        pooled: pooled && { index, rows: { ...pooled.rows, offsets: own[0], positions: own[1], keys: own[2] } },
      },
      added(),
    )
  return recompute((tensors) => [again(() => run(tensors))], inputs)[0]
}

const tensorsOf = ({ offsets, positions, keys }: TokenRows) => [offsets, positions, keys]

/**
 * One row of each sample by itself.
 * @param index i32 [B]: the row of each sample among all rows
 * @param positions i32 [B]: its position in the sample
 */
export function pooledRows(index: Tensor, positions: Tensor, keys: Tensor): PooledRows {
  const batch = index.count
  const offsets = Tensor.from(
    Int32Array.from({ length: batch + 1 }, (_, b) => b),
    [batch + 1],
    'i32',
  )
  return { index, rows: { offsets, positions, keys, batch, maxTokens: Math.min(1, batch) } }
}
