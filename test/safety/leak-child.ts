// Does one thing many times and prints how much memory there was after each tenth part, as JSON. Needs --expose-gc.
import { join } from 'node:path'
import { decodeImage } from '../../lib/data/decode.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { AdamW } from '../../lib/optim/adamw.js'
import { synchronize } from '../../lib/tensor.js'
import { type Place, steps } from './busy-child.js'

export interface Usage {
  rss: number
  live: number
  reserved: number
  tensors: number
}

type Work = (place: Place) => Promise<{ once: () => Promise<void>; end: () => void }>

const WORKS: Record<string, Work> = {
  step: async (place) => {
    const clip = await Clip.load(place.clip, { dtype: 'f32' })
    const adapter = new RAdapter(clip, { rank: 2 })
    return {
      once: () => steps(clip, adapter, 1),
      end: () => {
        adapter.dispose()
        clip.dispose()
      },
    }
  },
  load: async (place) => ({
    once: async () => {
      const clip = await Clip.load(place.clip)
      const adapter = new RAdapter(clip, { rank: 2 })
      const optimizer = new AdamW(adapter.parameters, { average: true })
      await steps(clip, adapter, 1)
      optimizer.dispose()
      adapter.dispose()
      clip.dispose()
      clip.dispose() // twice is once
    },
    end: () => {},
  }),
  fail: async (place) => ({
    once: async () => {
      await Clip.load(join(place.clip, 'nowhere')).catch(() => {})
      const clip = await Clip.load(place.clip, { imageSize: 80 })
      await steps(clip, new RAdapter(clip, { rank: 2 }), 1)
      await clip.save(clip.folder).catch(() => {})
      clip.dispose() // the adapter is forgotten: only its factors may stay
    },
    end: () => {},
  }),
  image: async (place) => ({
    once: async () => {
      const { data, width, height } = await decodeImage(place.image)
      await native.preprocessImage(data, width, height, { resize: [40, 40], resample: 'bicubic', mean: [0, 0, 0], std: [1, 1, 1] })
    },
    end: () => {},
  }),
  merge: async (place) => {
    const { mergeFolder } = await import('../../lib/merge/merge-folder.js')
    return {
      once: async () => {
        await mergeFolder({ model: place.clip, adapter: place.adapter, out: place.out })
      },
      end: () => {},
    }
  },
}

async function usage(): Promise<Usage> {
  await synchronize()
  globalThis.gc?.()
  await new Promise((resolve) => setImmediate(resolve))
  globalThis.gc?.()
  const { live, reserved, tensors } = native.memory()
  return { rss: process.memoryUsage().rss, live, reserved, tensors }
}

async function main(): Promise<void> {
  const [, , place, what, count] = process.argv
  const { once, end } = await WORKS[what](JSON.parse(place) as Place)
  const found: Usage[] = []
  for (let i = 0; i < Number(count); i++) {
    await once()
    if ((i + 1) % (Number(count) / 10) === 0) found.push(await usage())
  }
  end()
  const last = await usage()
  process.stdout.write(JSON.stringify({ found, last }))
}
void main()
