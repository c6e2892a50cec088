/**
 * A sharded bf16 checkpoint of a Llama of any size with random weights, and a PEFT LoRA of all its linears: for timing merges.
 *
 *   node bench/make-checkpoint.mjs --out DIR [--layers 20] [--width 2560] [--inner 6912] [--shard 1e9] [--rank 16]
 *
 * writes DIR/model and DIR/adapter.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { writeCheckpoint } = require('../dist/formats/checkpoint.js')
const { writeSafetensors } = require('../dist/formats/safetensors-write.js')

const { values: args } = parseArgs({
  options: {
    out: { type: 'string' },
    layers: { type: 'string', default: '20' },
    width: { type: 'string', default: '2560' },
    inner: { type: 'string', default: '6912' },
    vocab: { type: 'string', default: '32000' },
    shard: { type: 'string', default: '1e9' },
    rank: { type: 'string', default: '16' },
  },
})
const [layers, width, inner, vocab, rank] = ['layers', 'width', 'inner', 'vocab', 'rank'].map((key) => Number(args[key]))

/** A pool of normal numbers, from which every tensor takes a stretch that begins elsewhere. */
const pool = Float32Array.from(
  { length: 1 << 22 },
  () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random()),
)
const halves = (scale) => Uint16Array.from(new Uint32Array(pool.map((x) => x * scale).buffer), (bits) => bits >>> 16)
const stretch = (source, count) => {
  const out = new source.constructor(count)
  for (let at = 0; at < count; ) {
    const from = Math.floor(Math.random() * source.length)
    const part = source.subarray(from, Math.min(source.length, from + count - at))
    out.set(part, at)
    at += part.length
  }
  return new Uint8Array(out.buffer)
}
const weights = halves(0.02)
const tensor = (name, shape) => ({
  name,
  dtype: 'BF16',
  shape,
  data: () =>
    stretch(
      weights,
      shape.reduce((a, b) => a * b),
    ),
})

const linears = {
  ...Object.fromEntries(['q', 'k', 'v', 'o'].map((p) => [`self_attn.${p}_proj`, [width, width]])),
  'mlp.gate_proj': [inner, width],
  'mlp.up_proj': [inner, width],
  'mlp.down_proj': [width, inner],
}
const model = [
  tensor('model.embed_tokens.weight', [vocab, width]),
  tensor('model.norm.weight', [width]),
  tensor('lm_head.weight', [vocab, width]),
]
const adapter = []
for (let layer = 0; layer < layers; layer++) {
  const at = `model.layers.${layer}`
  for (const norm of ['input_layernorm', 'post_attention_layernorm']) model.push(tensor(`${at}.${norm}.weight`, [width]))
  for (const [name, shape] of Object.entries(linears)) {
    model.push(tensor(`${at}.${name}.weight`, shape))
    const factor = (part, sides) => ({
      name: `base_model.model.${at}.${name}.${part}.weight`,
      dtype: 'F32',
      shape: sides,
      data: () =>
        stretch(
          pool.map((x) => x * 0.01),
          sides[0] * sides[1],
        ),
    })
    adapter.push(factor('lora_A', [rank, shape[1]]), factor('lora_B', [shape[0], rank]))
  }
}
for (const part of ['model', 'adapter']) mkdirSync(join(args.out, part), { recursive: true })
await writeCheckpoint(join(args.out, 'model'), model, { maxShardBytes: Number(args.shard) })
await writeSafetensors(join(args.out, 'adapter/adapter_model.safetensors'), adapter)
const config = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: width,
  intermediate_size: inner,
  num_hidden_layers: layers,
  num_attention_heads: width / 128,
  num_key_value_heads: width / 128,
  vocab_size: vocab,
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
}
writeFileSync(join(args.out, 'model/config.json'), JSON.stringify(config, null, 2))
const peft = {
  peft_type: 'LORA',
  task_type: 'CAUSAL_LM',
  r: rank,
  lora_alpha: 2 * rank,
  target_modules: Object.keys(linears).map((name) => name.split('.')[1]),
}
writeFileSync(join(args.out, 'adapter/adapter_config.json'), JSON.stringify(peft, null, 2))
