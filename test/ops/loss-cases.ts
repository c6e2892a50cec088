// Cases of the contrastive loss: duplicates, one class, one pair, margin, smoothing, both forms of the scale.
import * as ops from '../../lib/ops.js'
import { type Case, drawn, F32, given, indices } from './case.js'
import { contrastive } from './reference.js'

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

export const lossCases: readonly Case[] = [
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
