// Everything that a program does with a model, one thing at a time. As a worker it does its phases for ever and tells of each; as a
// process it begins the phase that it is told and ends in the middle of it, in the way that it is told.
import { mkdirSync, mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { saveAdapter } from '../../lib/checkpoint/adapter-file.js'
import { decodeImage } from '../../lib/data/decode.js'
import { mergeFolder } from '../../lib/merge/merge-folder.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { sum } from '../../lib/ops.js'
import { backward, step, synchronize, Tensor } from '../../lib/tensor.js'

export interface Place {
  clip: string
  adapter: string
  image: string
  out: string
}

export const PHASES = ['load', 'step', 'queued', 'decode', 'save', 'merge'] as const
export type Phase = (typeof PHASES)[number]

/** Steps of training, without waiting for the last of them. */
export async function steps(clip: Clip, adapter: RAdapter, count: number): Promise<void> {
  const size = clip.config.vision.imageSize
  for (let i = 0; i < count; i++) {
    await step(() => {
      const image = clip.encodeImage(Tensor.zeros([2, 3, size, size]), adapter)
      const text = clip.encodeText([[598, 300, 301, 599]], adapter)
      backward([sum(image, 1), sum(text, 1)])
    })
    await step(() => void clip.encodeImage(Tensor.zeros([1, 3, size, size]), adapter)) // a tape that nobody walks
  }
}

/** Begins a phase; the promise is its end. */
export async function begin(phase: Phase, place: Place, clip: Clip, adapter: RAdapter): Promise<void> {
  if (phase === 'load') (await Clip.load(place.clip, { dtype: 'f32' })).dispose()
  else if (phase === 'step') await steps(clip, adapter, 3)
  else if (phase === 'queued') {
    const size = clip.config.vision.imageSize
    void step(() => {
      for (let i = 0; i < 40; i++) clip.encodeImage(Tensor.zeros([4, 3, size, size]))
    })
    await new Promise((resolve) => setTimeout(resolve, 5))
  } else if (phase === 'decode') await Promise.all([0, 1, 2, 3].map(() => decodeAndResize(place.image)))
  else if (phase === 'save') await Promise.all([clip.save(place.out), saveAdapter(adapter, join(place.out, 'adapter'))])
  else await mergeFolder({ model: place.clip, adapter: place.adapter, out: join(place.out, 'merged') })
}

async function decodeAndResize(path: string): Promise<void> {
  const { data, width, height } = await decodeImage(path)
  await native.preprocessImage(data, width, height, { resize: [40, 40], resample: 'bicubic', mean: [0, 0, 0], std: [1, 1, 1] })
}

async function open(place: Place): Promise<{ clip: Clip; adapter: RAdapter }> {
  const clip = await Clip.load(place.clip, { dtype: 'f32' })
  return { clip, adapter: new RAdapter(clip, { rank: 2 }) }
}

async function work(place: Place, told: (phase: Phase) => void): Promise<never> {
  const { clip, adapter } = await open(place)
  for (;;)
    for (const phase of PHASES) {
      told(phase)
      await begin(phase, place, clip, adapter)
    }
}

const ENDS: Record<string, () => void> = {
  exit: () => process.exit(7),
  throw: () => {
    throw new Error('in the middle')
  },
  reject: () => void Promise.reject(new Error('in the middle')),
  nothing: () => {},
}

async function end(place: Place, phase: Phase, how: string, delay: number): Promise<void> {
  const { clip, adapter } = await open(place)
  await steps(clip, adapter, 1)
  const running = begin(phase, place, clip, adapter)
  if (delay < 0) ENDS[how]()
  else setTimeout(ENDS[how], delay)
  await running
  await synchronize()
  if (how === 'nothing') process.stdout.write('whole\n')
  else await new Promise((resolve) => setTimeout(resolve, 5000))
}

if (parentPort) {
  const port = parentPort
  work(workerData as Place, (phase) => port.postMessage(phase))
} else if (process.argv[1] === __filename) {
  const place = JSON.parse(process.argv[2]) as Place
  mkdirSync(place.out, { recursive: true })
  void end({ ...place, out: mkdtempSync(join(place.out, 'o')) }, process.argv[3] as Phase, process.argv[4], Number(process.argv[5]))
}
