/** Writes a CLIP's folder in another layout or type, its weights taken from an open one. */
import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { writeCheckpoint } from '../../lib/formats/checkpoint.js'
import type { ClipFiles } from '../../lib/formats/clip-files.js'
import { clipTensors } from '../../lib/formats/clip-tensors.js'
import type { DiskDtype } from '../../lib/formats/dtype.js'
import type { Layout } from '../../lib/formats/layouts.js'
import { planWrites, readRequest } from '../../lib/formats/weight-map.js'
import { native } from '../../lib/native.js'

export async function writeClip(
  files: ClipFiles,
  target: string,
  layout: Layout,
  options: { dtype?: DiskDtype; maxShardBytes?: number } = {},
): Promise<void> {
  const { dtype = 'F32', maxShardBytes } = options
  mkdirSync(target, { recursive: true })
  copyFileSync(join(files.folder, 'config.json'), join(target, 'config.json'))
  const tensors = planWrites(layout, clipTensors(files.config)).map(({ name, shape, parts, transpose }) => ({
    name,
    dtype,
    shape,
    data: async () => {
      const pieces = parts.map((part) => {
        const read = files.weights.reads.get(part)!
        const request = readRequest(read)
        const turned = request.transposeRows !== undefined
        return native.readTensor({ ...request, to: dtype, transposeRows: turned === transpose ? undefined : read.source.shape[0] })
      })
      return new Uint8Array(Buffer.concat((await Promise.all(pieces)).map((piece) => new Uint8Array(piece))))
    },
  }))
  await writeCheckpoint(target, tensors, { maxShardBytes, stem: layout.name === 'open-clip' ? 'open_clip_model' : 'model' })
}
