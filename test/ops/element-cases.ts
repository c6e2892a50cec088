// Cases of ops on whole tensors, views and patches.
import type { FloatDType } from '../../lib/native.js'
import * as ops from '../../lib/ops.js'
import type { Tensor } from '../../lib/tensor.js'
import { BF16, type Case, drawn, given } from './case.js'
import * as reference from './reference.js'
import type { Scalar, ScalarTape } from './scalar-tape.js'

const elementwise: Case[] = [0, 1, 37, 20003].flatMap((n): Case[] => [
  {
    name: `add ${n}`,
    inputs: { a: drawn([n], { operand: true }), b: drawn([n]) },
    run: (t) => ops.add(t.a, t.b),
    reference: (t, v) => v.a.map((a, i) => t.add(a, v.b[i])),
    bf16: BF16,
  },
  {
    name: `multiply ${n}`,
    inputs: { a: drawn([n], { operand: true }), b: drawn([n]) },
    run: (t, dtype) => ops.multiply(t.a, t.b, dtype),
    reference: (t, v) => v.a.map((a, i) => t.multiply(a, v.b[i])),
    bf16: BF16,
  },
  {
    name: `scale ${n}`,
    inputs: { x: drawn([n], { operand: true }), s: given([-1.75], { trains: true }) },
    run: (t) => ops.scale(t.x, t.s),
    reference: (t, v) => v.x.map((x) => t.multiply(x, v.s[0])),
    bf16: BF16,
  },
  {
    name: `sum ${n}`,
    inputs: { x: drawn([n], { operand: true, centre: 0.25 }) },
    run: (t) => ops.sum(t.x, 0.5),
    reference: (t, v) => [t.affine(t.sum(v.x), 0.5)],
    bf16: { forward: 1e-5, gradient: 4e-3 },
  },
])

const sameTwice: Case[] = [
  {
    name: 'add of a tensor and itself',
    inputs: { a: drawn([5, 7], { operand: true }) },
    run: (t) => ops.add(t.a, t.a),
    reference: (t, v) => v.a.map((a) => t.add(a, a)),
    bf16: BF16,
  },
  {
    name: 'multiply of a tensor and itself',
    inputs: { a: drawn([5, 7], { operand: true }) },
    run: (t) => ops.multiply(t.a, t.a),
    reference: (t, v) => v.a.map((a) => t.multiply(a, a)),
    bf16: { forward: 2.5e-3, gradient: 6e-3 },
  },
]

const views: Case[] = [
  {
    name: 'reshape',
    inputs: { x: drawn([4, 6], { operand: true }) },
    run: (t) => ops.reshape(t.x, [3, 8]),
    reference: (_, v) => v.x,
    bf16: BF16,
  },
  {
    name: 'slice_rows, the parts the other way round',
    inputs: { x: drawn([5, 7], { operand: true }) },
    run: (t) => ops.concatRows([ops.sliceRows(t.x, 3, 2), ops.sliceRows(t.x, 0, 3)]),
    reference: (_, v) => [...v.x.slice(21), ...v.x.slice(0, 21)],
    bf16: BF16,
  },
  {
    name: 'slice_rows of a vector, and a row of it twice',
    inputs: { x: drawn([9], { operand: true }) },
    run: (t) => ops.concatRows([ops.sliceRows(t.x, 2, 4), ops.sliceRows(t.x, 4, 4)].map((part) => ops.reshape(part, [1, 4]))),
    reference: (_, v) => [...v.x.slice(2, 6), ...v.x.slice(4, 8)],
    bf16: BF16,
  },
  {
    name: 'cast to bf16 and back',
    inputs: { x: drawn([4, 33]) },
    run: (t) => ops.cast(ops.cast(t.x, 'bf16'), 'f32'),
    reference: (_, v) => v.x,
    f32: BF16,
  },
  {
    name: 'cast to f16 and back',
    inputs: { x: drawn([4, 33]) },
    run: (t) => ops.cast(ops.cast(t.x, 'f16'), 'f32'),
    reference: (_, v) => v.x,
    f32: { forward: 5e-4, gradient: 5e-4 },
  },
]

const images: Case[] = [
  { shape: [2, 3, 8, 12], patch: 4 },
  { shape: [1, 1, 3, 3], patch: 1 },
  { shape: [2, 3, 15, 10], patch: 5 },
  { shape: [1, 2, 14, 28], patch: 14 },
  { shape: [0, 3, 4, 4], patch: 2 },
].map(({ shape, patch }) => ({
  name: `patchify [${shape}] by ${patch}`,
  inputs: { pixels: drawn(shape) },
  run: (t: Record<string, Tensor>, dtype: FloatDType) => ops.patchify(t.pixels, patch, dtype),
  reference: (_: ScalarTape, v: Record<string, Scalar[]>) => reference.patchify(v.pixels, shape, patch),
  bf16: BF16,
}))

export const elementCases: readonly Case[] = [...elementwise, ...sameTwice, ...views, ...images]
