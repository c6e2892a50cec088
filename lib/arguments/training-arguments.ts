/** Arguments of training, evaluation, features and data. */
import { z } from 'zod'
import type { BatchOptions } from '../data/batches.js'
import type { DatasetOptions, Sample } from '../data/dataset.js'
import type { ImageFolderOptions } from '../data/image-folder.js'
import type { ImageTableOptions } from '../data/image-table.js'
import type { ClassFile, OpenDatasetOptions } from '../data/open-dataset.js'
import type { TrainCrop } from '../formats/crop.js'
import type { TextOptions } from '../models/text-batch.js'
import type { ProtocolDataset, ProtocolMethod, ProtocolOptions } from '../protocols/protocol.js'
import { PROTOCOLS } from '../protocols/protocol.js'
import type { ReportOptions } from '../report/write-report.js'
import type { ClassifyOptions, ClassifyStreamOptions } from '../train/classify.js'
import type { TrainingShape } from '../train/estimate.js'
import type { EvaluateOptions, EvaluationSet } from '../train/evaluate.js'
import type { EvaluateModelOptions } from '../train/evaluate-model.js'
import type { StreamOptions } from '../train/feature-stream.js'
import type { EncodeOptions } from '../train/features.js'
import type { FineTuneOptions } from '../train/fine-tune.js'
import { METHODS } from '../train/fine-tune-method.js'
import type { SweepOptions } from '../train/sweep.js'
import type { TrainerOptions } from '../train/train.js'
import { optional, type Signatures } from './guard.js'
import * as k from './kinds.js'
import { loraShape } from './model-arguments.js'

const { callback, clip, count, dataset, flag, injection, number, numbers, path, signal, text, texts, whole } = k
const sets = k.listOf(k.namedPath)
const alphas = numbers

export const encoding = {
  batch: count,
  scoresAtOnce: count,
  signal,
  onProgress: callback,
  skipBroken: flag,
  onSkip: callback,
  exif: flag,
  cache: k.kind('a FeatureCache', ({ images, texts }) => images instanceof Map && texts instanceof Map),
  decoded: k.kind('DecodedImages', ({ of }) => typeof of === 'function'),
}
const evaluating = { ...encoding, templates: texts, onPredictions: callback }
const sweeping = { ...evaluating, averages: k.lookup, onAlpha: callback }
const streaming = { batch: count, injection, normalize: flag, exif: flag, concurrency: count, signal }
const encodeOptions = k.optionsOf<EncodeOptions>(encoding)
const evaluationSet = k.optionsOf<EvaluationSet>(
  { name: text, data: dataset, task: z.enum(['classification', 'retrieval']) },
  'name',
  'data',
)

const crop = k.optionsOf<TrainCrop>({ scale: numbers, ratio: numbers, flip: number })
const trainerOptions = k.optionsOf<TrainerOptions>(
  {
    method: k.method,
    objective: k.objective,
    data: dataset,
    epochs: number,
    batch: number,
    accumulate: number,
    lr: number,
    warmup: number,
    minLr: number,
    schedule: z.enum(['cosine-floor', 'cosine-to-min']),
    optimizer: k.map,
    weightDecay: number,
    clipNorm: number,
    ema: z.union([flag, number]),
    seed: number,
    augment: z.union([z.literal(false), crop]),
    text: k.optionsOf<TextOptions>({ dedupe: flag, cut: flag }),
    classTexts: texts,
    terms: k.listOf(
      k.kind(
        'a term of the loss: {settings, prepare, loss}',
        ({ prepare, loss }) => typeof prepare === 'function' && typeof loss === 'function',
      ),
    ),
    afterStep: callback,
    extraState: k.listOf(k.parameter),
    keepBest: callback,
    skipBroken: flag,
    exif: flag,
    onSkip: callback,
    out: path,
    checkpointEvery: count,
  },
  ...(['method', 'objective', 'data', 'epochs', 'batch'] as const),
)

const { r: _, seed: __, ...loraOptions } = loraShape
const fineTuneOptions = k.optionsOf<FineTuneOptions>(
  {
    model: path,
    data: path,
    out: path,
    method: z.enum(METHODS),
    validation: path,
    validationShare: number,
    shots: number,
    tests: sets,
    ood: sets,
    captions: sets,
    classNames: k.classNames,
    templates: texts,
    skipBroken: flag,
    exif: flag,
    seed: number,
    rank: count,
    drop: number,
    dropBy: z.enum(['adapter', 'token']),
    scale: number,
    lora: k.optionsOf<NonNullable<FineTuneOptions['lora']>>(loraOptions),
    margin: number,
    epsilon: number,
    temperature: number,
    epochs: count,
    batch: count,
    accumulate: count,
    lr: number,
    warmup: number,
    minLr: number,
    weightDecay: number,
    clipNorm: number,
    ema: z.union([flag, number]),
    checkpointEvery: count,
    alpha: number,
    alphas,
    curve: alphas,
    dtype: k.dtype,
    saveDtype: k.saveDtype,
    imageSize: count,
    activationCheckpointing: flag,
    dedupe: flag,
    cut: flag,
    memoryBudget: number,
    evaluationBatch: count,
    resume: flag,
    signal,
    onEvent: callback,
  },
  ...(['model', 'data', 'out', 'method'] as const),
)

const trainingShape = k.optionsOf<TrainingShape>(
  {
    config: k.kind('the config of a Clip', ({ vision, text }) => typeof vision === 'object' && typeof text === 'object'),
    method: z.enum(['r-adapter', 'lora', 'full']),
    rank: count,
    lora: k.map,
    batch: number,
    accumulate: number,
    dtype: k.dtype,
    textTokens: number,
    texts: number,
    classTexts: number,
    drop: number,
    ema: flag,
    activationCheckpointing: flag,
    attended: flag,
    prefetch: number,
    beside: k.map,
  },
  ...(['config', 'method', 'batch', 'dtype'] as const),
)

const protocolMethod = k.kind(
  'a method: {name, method, …}',
  ({ name, method }: Partial<Record<keyof ProtocolMethod, unknown>>) => typeof name === 'string' && METHODS.some((one) => one === method),
)
const protocolDataset = k.optionsOf<ProtocolDataset>({ name: text, train: path, test: path, validation: path }, 'name', 'train', 'test')
const protocolOptions = k.optionsOf<ProtocolOptions>(
  {
    protocol: z.enum(PROTOCOLS),
    model: path,
    out: path,
    datasets: k.listOf(protocolDataset),
    ood: sets,
    methods: k.listOf(protocolMethod),
    shots: numbers,
    seeds: numbers,
    epochs: count,
    batch: count,
    warmup: number,
    tried: alphas,
    templates: texts,
    dtype: k.dtype,
    imageSize: count,
    memoryBudget: number,
    skipBroken: flag,
    exif: flag,
    signal,
    onEvent: callback,
  },
  ...(['protocol', 'model', 'out', 'datasets', 'methods'] as const),
)

const sampleKeys: readonly (keyof Sample)[] = ['id', 'image']
const samples = k.kind(
  'a list of samples, {id, image, …}',
  (value) => Array.isArray(value) && value.every((one) => sampleKeys.every((key) => one?.[key] !== undefined)),
)
const datasetShape = { classNames: texts, templates: texts, skipBroken: flag }

export const TRAINING_ARGUMENTS = {
  'new Trainer': { clip, options: trainerOptions },
  fineTune: { options: fineTuneOptions },
  classify: {
    clip,
    images: k.listOf(k.image),
    labels: texts,
    options: optional(k.optionsOf<ClassifyOptions>({ templates: texts, head: k.floats, injection, batch: count, exif: flag, signal })),
  },
  classifyStream: {
    clip,
    items: k.iterable,
    labels: texts,
    options: optional(k.optionsOf<ClassifyStreamOptions>({ ...streaming, templates: texts, head: k.floats, top: number })),
  },
  encodeStream: { clip, items: k.iterable, options: optional(k.optionsOf<StreamOptions>(streaming)) },
  evaluate: {
    clip,
    sets: k.listOf(evaluationSet),
    options: optional(k.optionsOf<EvaluateOptions & { injection?: unknown }>({ ...evaluating, injection })),
  },
  evaluateModel: {
    options: k.optionsOf<EvaluateModelOptions>(
      {
        model: path,
        adapter: path,
        alpha: z.union([number, z.literal('sweep')]),
        alphas,
        validation: path,
        sets,
        captions: sets,
        classNames: k.classNames,
        templates: texts,
        dtype: k.dtype,
        imageSize: count,
        batch: count,
        skipBroken: flag,
        exif: flag,
        signal,
        onProgress: callback,
      },
      'model',
    ),
  },
  retrieve: {
    clip,
    dataset,
    options: optional(
      k.optionsOf<EncodeOptions & { injection?: unknown; onRanks?: unknown }>({ ...encoding, injection, onRanks: callback }),
    ),
  },
  classHead: {
    clip,
    classNames: texts,
    templates: optional(texts),
    injection: optional(injection),
    options: optional(encodeOptions),
  },
  encodeImages: { clip, dataset, injection: optional(z.union([callback, injection])), options: optional(encodeOptions) },
  encodeTexts: { clip, texts, injection: optional(injection), options: optional(encodeOptions) },
  'new DecodedImages': { budget: optional(number) },
  chooseAlpha: { alphas, evaluateValidation: callback },
  chooseAlphaOn: {
    clip,
    method: k.scalable,
    validation: evaluationSet,
    options: optional(k.optionsOf<SweepOptions & { alphas?: unknown }>({ ...sweeping, alphas })),
  },
  evaluateAlphas: {
    clip,
    method: k.scalable,
    alphas,
    sets: k.listOf(evaluationSet),
    options: optional(k.optionsOf<SweepOptions>(sweeping)),
  },
  estimateTraining: { options: trainingShape },
  requireMemory: { options: trainingShape, limit: number, name: optional(text) },
  harmonicMean: { a: number, b: number },
  runProtocol: { options: protocolOptions },
  writeReport: {
    folder: path,
    options: optional(k.optionsOf<ReportOptions>({ compare: k.listOf(path), pictures: flag, out: path })),
  },
  openDataset: {
    path,
    options: optional(
      k.optionsOf<OpenDatasetOptions>({
        classNames: k.classNames,
        templates: texts,
        fallback: k.optionsOf<ClassFile>({ classNames: k.classNames, templates: texts }),
        skipBroken: flag,
      }),
    ),
  },
  'ImageFolder.open': {
    path,
    options: optional(
      k.optionsOf<ImageFolderOptions>({ classNames: z.union([k.classNames, path]), folders: texts, templates: texts, skipBroken: flag }),
    ),
  },
  'ImageTable.open': {
    path,
    options: optional(
      k.optionsOf<ImageTableOptions>({
        ...datasetShape,
        root: path,
        columns: k.optionsOf<NonNullable<ImageTableOptions['columns']>>({ image: text, caption: text, label: text }),
      }),
    ),
  },
  'new Dataset': { samples, options: optional(k.optionsOf<DatasetOptions>(datasetShape)) },
  batches: {
    dataset,
    options: k.optionsOf<BatchOptions>(
      {
        batchSize: number,
        preprocessor: k.preprocessor,
        augment: crop,
        texts: z.enum(['random', 'first']),
        shuffle: flag,
        seed: number,
        epochs: number,
        start: k.map,
        dropLast: flag,
        prefetch: number,
        concurrency: number,
        skipBroken: flag,
        onSkip: callback,
        exif: flag,
        cache: k.anything,
        signal,
        random: k.anything,
      },
      'batchSize',
      'preprocessor',
    ),
  },
  fewShot: { dataset, shots: number, seed: optional(number) },
  fewShotWithValidation: { dataset, shots: number, validationShots: number, seed: optional(number) },
  selectClasses: { dataset, classes: k.listOf(whole) },
  splitDataset: { dataset, share: number, seed: optional(number) },
} satisfies Signatures
