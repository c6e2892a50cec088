/** The tensors of a CLIP by their canonical names, which are those that Hugging Face's CLIPModel writes, with their shapes. */
import { type ClipConfig, type TowerConfig, visionTokens } from './hf-config.js'

export type Shape = readonly number[]

/** Canonical name -> shape, in the order of the forward pass. */
export function clipTensors(config: ClipConfig): Map<string, Shape> {
  const { text, vision, projectionDim } = config
  const tensors = new Map<string, Shape>()
  const norm = (name: string, width: number) => {
    tensors.set(`${name}.weight`, [width])
    tensors.set(`${name}.bias`, [width])
  }
  tensors.set('vision_model.embeddings.class_embedding', [vision.hiddenSize])
  tensors.set('vision_model.embeddings.patch_embedding.weight', [vision.hiddenSize, 3, vision.patchSize, vision.patchSize])
  tensors.set('vision_model.embeddings.position_embedding.weight', [visionTokens(vision), vision.hiddenSize])
  norm('vision_model.pre_layrnorm', vision.hiddenSize) // the spelling is Hugging Face's
  addBlocks(tensors, 'vision_model', vision)
  norm('vision_model.post_layernorm', vision.hiddenSize)
  tensors.set('visual_projection.weight', [projectionDim, vision.hiddenSize])
  tensors.set('text_model.embeddings.token_embedding.weight', [text.vocabSize, text.hiddenSize])
  tensors.set('text_model.embeddings.position_embedding.weight', [text.maxPositionEmbeddings, text.hiddenSize])
  addBlocks(tensors, 'text_model', text)
  norm('text_model.final_layer_norm', text.hiddenSize)
  tensors.set('text_projection.weight', [projectionDim, text.hiddenSize])
  tensors.set('logit_scale', [])
  return tensors
}

function addBlocks(tensors: Map<string, Shape>, tower: string, config: TowerConfig): void {
  const { hiddenSize: width, intermediateSize: inner } = config
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const add = (part: string, out: number, ...rest: number[]) => {
      tensors.set(`${tower}.encoder.layers.${layer}.${part}.weight`, [out, ...rest])
      tensors.set(`${tower}.encoder.layers.${layer}.${part}.bias`, [out])
    }
    add('layer_norm1', width)
    for (const part of ['q_proj', 'k_proj', 'v_proj', 'out_proj']) add(`self_attn.${part}`, width, width)
    add('layer_norm2', width)
    add('mlp.fc1', inner, width)
    add('mlp.fc2', width, inner)
  }
}
