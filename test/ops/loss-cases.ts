// Cases of the losses. Contrastive: duplicates, one class, one pair, margin, smoothing, both forms of the scale. Cross
// entropy: labels with smoothing, a teacher with a temperature, both forms of the scale, large logits.
import * as ops from '../../lib/ops.js'
import { type Case, drawn, F32, given, indices } from './case.js'
import { contrastive, crossEntropy } from './reference.js'

interface LossCase {
  labels: readonly number[]
  p: number
  scale?: number
  logScale?: boolean
  margin?: number
  epsilon?: number
}

function lossCase({ labels, p, scale = 14, logScale = false, margin = 0, epsilon = 0 }: LossCase): Case {
  const shown = labels.length > 8 ? `${labels.slice(0, 6)}, …` : labels
  return {
    name: `contrastive ${labels.length} x ${p}, labels [${shown}], ${logScale ? 'log ' : ''}scale ${scale}, margin ${margin}, epsilon ${epsilon}`,
    inputs: {
      image: drawn([labels.length, p], { spread: 1 / Math.sqrt(p) }),
      text: drawn([labels.length, p], { spread: 1 / Math.sqrt(p) }),
      labels: indices(labels),
      scale: given([scale], { trains: true }),
    },
    run: (t) => ops.contrastive(t.image, t.text, { labels: t.labels, scale: t.scale, logScale, margin, epsilon }),
    reference: (t, v) => [contrastive(t, v.image, v.text, { p, labels, scale: v.scale[0], logScale, margin, epsilon })],
    f32: F32,
  }
}

const count = (n: number, of: (i: number) => number): number[] => Array.from({ length: n }, (_, i) => of(i))

interface CrossEntropyCase {
  n: number
  classes: number
  /** default: the teacher's softmax */
  labels?: readonly number[]
  scale?: number
  logScale?: boolean
  smoothing?: number
  temperature?: number
  spread?: number
}

function crossEntropyCase(c: CrossEntropyCase): Case {
  const { n, classes, labels, scale, logScale = false, smoothing = 0, temperature = 1, spread = 1 } = c
  const scaled = scale === undefined ? '' : `, ${logScale ? 'log ' : ''}scale ${scale}`
  return {
    name: `cross_entropy ${n} x ${classes}${labels ? '' : ', teacher'}${scaled}, smoothing ${smoothing}, temperature ${temperature}, spread ${spread}`,
    inputs: {
      logits: drawn([n, classes], { spread }),
      ...(labels ? { labels: indices(labels) } : { teacher: drawn([n, classes], { spread, trains: false }) }),
      // the teacher's softmax is a constant, the scale in it too
      ...(scale !== undefined && { scale: given([scale], { trains: true, partlyConstant: labels === undefined }) }),
    },
    run: (t) => ops.crossEntropy(t.logits, { labels: t.labels, teacher: t.teacher, scale: t.scale, logScale, smoothing, temperature }),
    reference: (t, v) => {
      const options = { classes, labels, teacher: v.teacher, scale: v.scale?.[0], logScale, smoothing, temperature }
      return [crossEntropy(t, v.logits, options)]
    },
    f32: F32,
  }
}

const crossEntropyCases: readonly Case[] = [
  crossEntropyCase({ n: 5, classes: 3, labels: [0, 2, 1, 2, 2] }),
  crossEntropyCase({ n: 33, classes: 67, labels: count(33, (i) => (i * i) % 67), scale: 14, smoothing: 0.1, spread: 0.3 }),
  crossEntropyCase({ n: 7, classes: 1030, labels: count(7, (i) => 147 * i), scale: Math.log(100), logScale: true, spread: 0.2 }),
  crossEntropyCase({ n: 4, classes: 9, labels: [8, 0, 3, 3], scale: 0, smoothing: 0.5 }),
  crossEntropyCase({ n: 3, classes: 1, labels: [0, 0, 0], smoothing: 0.2 }),
  crossEntropyCase({ n: 6, classes: 20, labels: [1, 2, 3, 4, 5, 6], spread: 100 }),
  crossEntropyCase({ n: 9, classes: 17, temperature: 2, scale: 3 }),
  crossEntropyCase({ n: 19, classes: 100, temperature: 0.5, scale: 2, logScale: true }),
  crossEntropyCase({ n: 2, classes: 600 }),
]

export const lossCases: readonly Case[] = [
  ...crossEntropyCases,
  lossCase({ labels: count(13, (i) => i), p: 24 }),
  lossCase({ labels: count(13, (i) => i), p: 24, scale: Math.log(100), logScale: true }),
  lossCase({ labels: [4, 4, 1, 2, 1, 4], p: 9, margin: 0.05, epsilon: 0.02 }),
  lossCase({ labels: count(67, (i) => (i * i) % 11), p: 33, margin: 0.05, epsilon: 0.1, scale: 2, logScale: true }),
  lossCase({ labels: count(40, (i) => i % 39), p: 16, scale: 100, margin: 0.05 }),
  lossCase({ labels: [-7, -7, 2147483647], p: 5, epsilon: 0.3, scale: 0.5 }),
  lossCase({ labels: [3, 3, 3, 3], p: 6, margin: 0.05, epsilon: 0.02 }),
  lossCase({ labels: [5], p: 8, margin: 0.05, epsilon: 0.02 }),
  lossCase({ labels: [1, 2], p: 1, scale: 0, epsilon: 0.1 }),
]
