// Trains on the device by the trainer, with captured steps and with plain ones, and prints what comes out of each run: losses and
// norms, a hash of all that it trained, how many graphs it recorded, how much memory the device had given after each step.
import { createHash } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LearnTask } from '../../lib/continual/learner.js'
import { createLearner } from '../../lib/continual/learners/registry.js'
import type { Dataset } from '../../lib/data/dataset.js'
import { openDataset } from '../../lib/data/open-dataset.js'
import { useDevice } from '../../lib/device.js'
import { Diki } from '../../lib/methods/diki.js'
import { FullFineTuning } from '../../lib/methods/full-fine-tuning.js'
import { Lora } from '../../lib/methods/lora.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { ClassCrossEntropy } from '../../lib/objectives/cross-entropy.js'
import { InfoNceLoss } from '../../lib/objectives/info-nce.js'
import { MpmNceLoss } from '../../lib/objectives/mpm-nce.js'
import { gatherRows, sum } from '../../lib/ops.js'
import { synchronize, Tensor } from '../../lib/tensor.js'
import { type StepTerm, Trainer, type TrainerOptions } from '../../lib/train/train.js'
import { tinyImages } from '../tiny-clip.js'
import { smallClip } from './small-clip.js'

const folder = mkdtempSync(join(tmpdir(), 'train-'))
/** Of other numbers and lengths in every batch; some are equal. */
const LONG = ['very', 'rather', 'quite', 'really', 'hardly'].map((how) => `a ${how} long caption`)
const CAPTIONS = ['a', 'a', 'b c', 'it', ...LONG, LONG[0]]

type Trained = Partial<TrainerOptions> & Pick<TrainerOptions, 'method' | 'objective' | 'data'> & { end?(): void }
type Make = (clip: Clip) => Trained | Promise<Trained>

interface Run {
  readonly make: Make
  /** the captured run is stopped after this step, and another one goes on from its checkpoint; the plain one is not */
  readonly stopAfter?: number
}

const model = smallClip(join(folder, 'clip'))
const load = () => Clip.load(model, { dtype: 'bf16', imageSize: 16 })

async function part(make: Make, { out, stopAfter, resume = false }: { out?: string; stopAfter?: number; resume?: boolean }) {
  const clip = await load()
  const { end, ...options } = await make(clip)
  const { method } = options
  const told = {
    losses: [] as number[],
    norms: [] as number[],
    reasons: [] as string[],
    reserved: [] as number[],
    graphs: 0,
    hash: '',
    error: '',
  }
  const afterStep = (done: number) => {
    options.afterStep?.(done)
    told.reserved.push(native.memory().reserved)
  }
  const trainer = new Trainer(clip, {
    epochs: 2,
    batch: 4,
    lr: 1e-2,
    warmup: 0,
    seed: 3,
    augment: false,
    checkpointEvery: 1,
    ...options,
    out,
    afterStep,
  })
  const abort = new AbortController()
  try {
    for await (const event of trainer.run({ signal: abort.signal, resume })) {
      if (event.type === 'plain') told.reasons.push(event.reason)
      if (event.type !== 'step') continue
      told.losses.push(event.loss)
      told.norms.push(event.gradientNorm)
      if (event.step === stopAfter) abort.abort()
    }
  } catch (error) {
    told.error = `${(error as { code?: string }).code}: ${(error as Error).message}`
  }
  told.graphs = trainer.graphs
  const hash = createHash('sha256')
  for (const p of [...method.parameters, ...(trainer.averages ?? new Map<string, Tensor>()).values()])
    hash.update(new Uint8Array((await p.floats()).buffer))
  told.hash = hash.digest('hex')
  trainer.dispose()
  end?.()
  ;(method as Partial<{ dispose(): void }>).dispose?.()
  clip.dispose()
  return told
}

async function outcome({ make, stopAfter }: Run, captured: boolean) {
  process.env.CAMBIUM_GRAPH = captured ? '1' : '0'
  if (!captured || stopAfter === undefined) return part(make, {})
  const out = mkdtempSync(join(folder, 'run-'))
  const first = await part(make, { out, stopAfter })
  const rest = await part(make, { out, resume: true })
  return {
    ...rest,
    losses: [...first.losses, ...rest.losses],
    norms: [...first.norms, ...rest.norms],
    graphs: first.graphs + rest.graphs,
    failed: first.error,
  }
}

/** A task of a continual method, as the loop trains it. */
function learned(name: string, settings: Record<string, unknown>, data: Dataset): Make {
  return async (clip) => {
    const learner = await createLearner(clip, name, { epochs: 2, batch: 4, lr: 1e-4, ...settings }, { seed: 1 })
    const task: LearnTask = { index: 0, name, train: data, last: true }
    const training = await learner.begin(task, {})
    if (!training) throw new Error(`${name}: expected something to train`)
    const { method, objective, options } = training
    return { data, ...options, method: { ...methodOf(method), dispose: undefined } as never, objective, end: () => learner.dispose() }
  }
}

/** Bound, so that its dispose may be left to its learner. */
const methodOf = (method: TrainerOptions['method']) => ({
  name: method.name,
  settings: method.settings,
  parameters: method.parameters,
  weights: method.weights,
  layer: method.layer.bind(method),
  decays: method.decays.bind(method),
  draw: method.draw.bind(method),
  at: method.at.bind(method),
})

/** Adds Σ image[row] with a row for each step. */
const rowTerm = (rowOf: (step: number) => number): StepTerm => ({
  settings: {},
  prepare: async (step) => [Tensor.from(Int32Array.of(rowOf(step)), [1], 'i32')],
  loss: (image, _, [row]) => sum(gatherRows(image, row), 1e-3),
})

async function main() {
  useDevice('cuda')
  const images = await tinyImages(join(folder, 'images'), ['red', 'green'], 5)
  const table = join(folder, 'captions.jsonl')
  const rows = CAPTIONS.map((caption, i) => ({
    image: join(images, i < 5 ? 'red' : 'green', `${i % 5}.png`),
    captions: [caption, `${caption}!`],
  }))
  writeFileSync(table, rows.map((row) => JSON.stringify(row)).join('\n'))
  const captioned = await openDataset(table)
  const classes = await openDataset(images, { templates: ['a {}.'] })
  const classTexts = ['a red.', 'a green one.']
  const mpm = new MpmNceLoss()
  const reference = { images, templates: ['an {}.'] }
  const adapter: Make = (clip) => ({ method: new RAdapter(clip, { drop: 0.3 }), objective: mpm, data: captioned })
  let calls = 0
  const secretive: StepTerm = {
    settings: {},
    prepare: async () => [],
    loss: () => Tensor.scalar(++calls), // what a term must not do
  }
  let broken = true
  const runs: Record<string, Run> = {
    'r-adapter': { make: async (clip) => ({ ...(await adapter(clip)), ema: 0.5, weightDecay: 0.1, epochs: 4 }), stopAfter: 3 },
    'lora accumulated': {
      make: async (clip) => ({
        method: await Lora.create(clip, { dropout: 0.2 }),
        objective: mpm,
        data: captioned,
        accumulate: 2,
        ema: false,
      }),
    },
    full: {
      make: async (clip) => {
        const method = await FullFineTuning.create(clip, { logitScale: true })
        return {
          method,
          objective: new InfoNceLoss(clip.logitScale),
          data: captioned,
          optimizer: { name: 'sgd', momentum: 0.9 },
          lr: 1e-3,
          batch: 5,
          epochs: 4,
        }
      },
    },
    diki: {
      make: (clip) => ({
        method: new Diki(clip, { depth: 1, length: 2 }),
        objective: new ClassCrossEntropy(clip.logitScale, { smoothing: 0.1 }),
        data: classes,
        classTexts,
        optimizer: { name: 'sgd' },
        accumulate: 2,
        ema: false,
      }),
    },
    lwf: { make: learned('lwf', {}, classes) },
    zscl: { make: learned('zscl', { reference, averageEvery: 1, referenceBatch: 3 }, classes) },
    prefix: { make: learned('prefix', { depth: 1, length: 2 }, classes) },
    'a term with host values': {
      make: async (clip) => {
        calls = 0
        return { ...(await adapter(clip)), terms: [secretive] }
      },
    },
    // The third step is replayed and told to read a row that is not there; the run is then gone on with.
    'a kernel that fails': {
      make: async (clip) => {
        const bad = broken ? 2 : -1
        broken = false
        return { ...(await adapter(clip)), terms: [rowTerm((step) => (step === bad ? 99 : step % 4))] }
      },
      stopAfter: 4,
    },
  }
  const chosen = process.argv.slice(2)
  const told: Record<string, unknown> = {}
  for (const [name, run] of Object.entries(runs)) {
    if (chosen.length > 0 && !chosen.includes(name)) continue
    const before = native.memory()
    const began = process.cpuUsage()
    const captured = await outcome(run, true)
    calls = 0
    const plain = await outcome(run, false)
    await synchronize()
    const { live, tensors } = native.memory()
    const used = process.cpuUsage(began)
    told[name] = { captured, plain, left: [tensors - before.tensors, live - before.live], seconds: (used.user + used.system) / 1e6 }
  }
  return told
}

main().then(
  (result) => console.log(JSON.stringify(result)),
  (error) => {
    console.error(error)
    process.exitCode = 1
  },
)
