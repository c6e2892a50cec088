import { clipTensors } from '../../lib/formats/clip-tensors.js'
import { clipConfigToJson, parseClipConfig } from '../../lib/formats/hf-config.js'
import { availableMemory, estimateTraining, formatBytes, requireMemory, type TrainingShape } from '../../lib/train/estimate.js'

const b16 = parseClipConfig({ model_type: 'clip', projection_dim: 512, vision_config: { patch_size: 16 } })
const l14 = parseClipConfig({
  model_type: 'clip',
  projection_dim: 768,
  text_config: { hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12 },
  vision_config: { hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24, num_attention_heads: 16, patch_size: 14 },
})
const shape = (changes: Partial<TrainingShape> = {}): TrainingShape => ({
  config: b16,
  method: 'r-adapter',
  batch: 256,
  dtype: 'bf16',
  ...changes,
})
const billions = (value: number) => Math.round(value / 1e8) / 10

describe('parameters', () => {
  test.each([
    ['B/16', b16],
    ['L/14', l14],
  ])('of %s are those of its tensors', (_, config) => {
    const counted = [...clipTensors(config).values()].reduce((sum, sides) => sum + sides.reduce((a, b) => a * b, 1), 0)
    expect(estimateTraining(shape({ config })).parameters).toBe(counted)
  })

  test('that train are those of the paper', () => {
    expect(estimateTraining(shape()).trainable).toBe(20_447_232) // 20.45 M, 13.7 %
    expect(estimateTraining(shape({ rank: 4 })).trainable).toBe(245_760) // 0.25 M
    expect(estimateTraining(shape({ config: l14 })).trainable).toBe(64_487_424) // 64.5 M
    expect(estimateTraining(shape({ method: 'full' })).trainable).toBe(149_620_737)
  })
})

describe('operations of a step', () => {
  // Of one image and no text: the text tower is left out by giving it no prompt.
  const vision = (changes: Partial<TrainingShape>) => billions(estimateTraining(shape({ batch: 1, texts: 0, ...changes })).flopsPerStep)

  test('are those derived for B/16 and L/14', () => {
    expect(vision({})).toBe(88.9)
    expect(vision({ drop: 1 })).toBe(72.2)
    expect(vision({ method: 'full' })).toBeCloseTo(105.7, 0)
    expect(vision({ config: l14 })).toBeCloseTo(411, -0.5)
  })

  test('of text follow its length and the number of different prompts', () => {
    const text = (changes: Partial<TrainingShape>) =>
      estimateTraining(shape({ batch: 8, ...changes })).flopsPerStep - estimateTraining(shape({ batch: 8, texts: 0 })).flopsPerStep
    expect(billions(text({}) / 8)).toBe(15)
    expect(text({ texts: 4 })).toBeCloseTo(text({}) / 2, -3)
    expect(text({ textTokens: 16 })).toBeLessThan(text({}) / 4)
    expect(text({ textTokens: 500 })).toBe(text({}))
  })

  test('grow by one forward pass when a contrastive batch is accumulated', () => {
    const [whole, cut] = [estimateTraining(shape({ drop: 1 })), estimateTraining(shape({ drop: 1, accumulate: 4 }))]
    expect(cut.flopsPerStep / whole.flopsPerStep).toBeCloseTo(1.485, 2)
  })
})

describe('memory', () => {
  test('of the table of tokens is f16 beside bf16, unless every weight trains', () => {
    const weights = (changes: Partial<TrainingShape>) => estimateTraining(shape(changes)).memory.weights
    const table = b16.text.vocabSize * b16.text.hiddenSize
    const larger = { ...b16, text: { ...b16.text, vocabSize: 2 * b16.text.vocabSize } }
    for (const [changes, size] of [
      [{}, 2],
      [{ dtype: 'f32' }, 4],
      [{ method: 'full' }, 4],
    ] as const)
      expect(weights({ ...changes, config: larger }) - weights(changes)).toBe(size * table)
  })

  test('adds up, and shrinks with accumulation but not below what the weights need', () => {
    const { memory } = estimateTraining(shape())
    const { total, ...parts } = memory
    expect(Object.values(parts).reduce((a, b) => a + b)).toBe(total)
    const { memory: cut, trainable } = estimateTraining(shape({ accumulate: 256 }))
    expect(cut.activations - 4 * trainable).toBeLessThan(memory.activations / 200) // gradients stay from part to part
    expect(cut.weights).toBe(memory.weights)
  })

  test('is about 24 D bytes per token and layer in bf16, and more in f32 and when everything trains', () => {
    const kept = (changes: Partial<TrainingShape>) =>
      (estimateTraining(shape({ texts: 0, batch: 64, ...changes })).memory.activations - 4 * 64 ** 2 - 32 * 64 * 512) / 64 / 197 / 12 / 768
    expect(kept({})).toBeGreaterThan(23)
    expect(kept({})).toBeLessThan(25)
    expect(kept({ dtype: 'f32' })).toBeGreaterThan(1.5 * kept({}))
    expect(kept({ method: 'full' })).toBeGreaterThan(kept({}) + 7.2)
  })

  test('that is not there is an error that says what would fit', () => {
    const estimate = estimateTraining(shape())
    expect(requireMemory(shape(), estimate.memory.total)).toEqual(estimate)
    let error: { code?: string; message?: string; details?: { accumulate?: number } } = {}
    try {
      requireMemory(shape(), 4e9, '--memory-budget')
    } catch (thrown) {
      error = thrown as typeof error
    }
    expect(error.code).toBe('E_MEMORY')
    expect(error.message).toMatch(/expected at most 4\.0 GB \(--memory-budget\), got about \d+ GB .*accumulate \d+ would fit/)
    const k = error.details?.accumulate as number
    expect(() => requireMemory(shape({ accumulate: k }), 4e9)).not.toThrow()
    expect(() => requireMemory(shape({ accumulate: k / 2 }), 4e9)).toThrow()
    expect(() => requireMemory(shape(), 1e6)).toThrow(/smaller model/)
  })

  test('available is more than this test takes and not more than the machine has', () => {
    expect(availableMemory()).toBeGreaterThan(1e6)
    expect(availableMemory()).toBeLessThanOrEqual(require('node:os').totalmem())
  })

  test('a batch that cannot be cut is refused', () => {
    expect(() => estimateTraining(shape({ batch: 10, accumulate: 3 }))).toThrow(expect.objectContaining({ code: 'E_OPTION' }))
  })
})

test('blocks that run again in backward take less', () => {
  const { total } = estimateTraining(shape({ batch: 8, attended: false, activationCheckpointing: true })).memory
  expect(total / 2 ** 20 / 877).toBeGreaterThan(0.95) // measured, as below
  expect(total / 2 ** 20 / 877).toBeLessThan(1.1)
})

test('bytes for people', () => {
  expect([0, 999, 1000, 12_345_678, 1.5e9, 123e9, 5e15].map(formatBytes)).toEqual([
    '0 B',
    '999 B',
    '1.0 kB',
    '12 MB',
    '1.5 GB',
    '123 GB',
    '5000 TB',
  ])
})

test('a configuration survives the way to JSON and back', () => {
  expect(estimateTraining(shape({ config: parseClipConfig(clipConfigToJson(b16)) }))).toEqual(estimateTraining(shape()))
})

test.each([
  // Peak resident memory of a process that did two steps with ViT-B/16 and 77 tokens a text (VmHWM), in MiB, on 2026-11-23; the first
  // is that of bench/step.mjs --last-block pooled, the others are the same program with another type, rank or method.
  ['bf16', 'r-adapter', undefined, 8, 1078],
  ['f32', 'r-adapter', undefined, 8, 1733],
  ['bf16', 'r-adapter', 4, 8, 752],
  ['bf16', 'full', undefined, 4, 2479],
] as const)('the estimate for %s %s, rank %s, batch %i is near what was measured', (dtype, method, rank, batch, measured) => {
  const { total } = estimateTraining(shape({ dtype, method, rank, batch, attended: false, ema: method !== 'full' })).memory
  expect(total / 2 ** 20 / measured).toBeGreaterThan(0.95)
  expect(total / 2 ** 20 / measured).toBeLessThan(1.1)
})
