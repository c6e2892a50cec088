import { parseClipConfig } from '../../lib/formats/hf-config.js'
import { estimateTraining } from '../../lib/train/estimate.js'
import { loraLoad } from '../../lib/train/plan.js'

const config = parseClipConfig({ model_type: 'clip', projection_dim: 512, vision_config: { patch_size: 16 } })
const estimate = (options: Parameters<typeof loraLoad>[1]) =>
  estimateTraining({ config, method: 'lora', lora: loraLoad(config, options), batch: 8, dtype: 'bf16', attended: false, ema: false })

test('what a LoRA trains', () => {
  expect(estimate({ method: 'lora' }).trainable).toBe(12 * 2 * 8 * 2 * (768 + 512)) // as PEFT counts it: 491 520
  expect(estimate({ method: 'lora', rank: 4, lora: { targets: ['fc1'], tower: 'text', bias: true, dora: true } }).trainable).toBe(
    12 * (4 * (512 + 2048) + 2 * 2048),
  )
})

test('the estimate of its memory is not below what was measured, and not far above', () => {
  // Peak resident memory of bench/lora-step.mjs --less with ViT-B/16 and batch 8 (VmHWM), in MiB, on 2026-11-23.
  const ratio = estimate({ method: 'lora' }).memory.total / 2 ** 20 / 769
  expect(ratio).toBeGreaterThan(0.95)
  expect(ratio).toBeLessThan(1.1)
  expect(estimate({ method: 'lora', lora: { targets: 'all-linear', dora: true } }).memory.activations).toBeGreaterThan(
    1.5 * estimate({ method: 'lora' }).memory.activations,
  )
})
