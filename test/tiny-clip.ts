/** A small CLIP of the fixtures in a folder of its own, with a tokenizer: single bytes, and the ids that its config names. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { fixture } from './fixture.js'

/** GPT-2's printable stand-ins for bytes. */
function byteSymbols(): string[] {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174
  let next = 256
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++))
}

export function tinyClip(folder: string, model = 'clip-quick-gelu'): string {
  mkdirSync(folder, { recursive: true })
  for (const file of ['config.json', 'model.safetensors']) copyFileSync(fixture('even', model, file), join(folder, file))
  const vocab: Record<string, number> = {}
  for (const [i, symbol] of byteSymbols().entries()) {
    vocab[symbol] = i
    vocab[`${symbol}</w>`] = 256 + i
  }
  vocab['<|startoftext|>'] = 598
  vocab['<|endoftext|>'] = 599
  writeFileSync(join(folder, 'vocab.json'), JSON.stringify(vocab))
  writeFileSync(join(folder, 'merges.txt'), '#version: 0.2\n')
  const size = 40
  writeFileSync(
    join(folder, 'preprocessor_config.json'),
    JSON.stringify({ image_processor_type: 'CLIPImageProcessor', size: { shortest_edge: size }, crop_size: { height: size, width: size } }),
  )
  return folder
}

/** A folder with a class a folder: flat colours with noise, `count` images each. */
export async function tinyImages(folder: string, classes: readonly string[], count: number): Promise<string> {
  for (const [label, name] of classes.entries()) {
    mkdirSync(join(folder, name), { recursive: true })
    for (let i = 0; i < count; i++) {
      const pixels = Buffer.alloc(48 * 44 * 3, 0)
      for (let p = 0; p < pixels.length; p++) pixels[p] = (label * 83 + (p % 3) * 61 + ((p * (i + 7)) % 53)) % 256
      await sharp(pixels, { raw: { width: 48, height: 44, channels: 3 } })
        .png()
        .toFile(join(folder, name, `${i}.png`))
    }
  }
  return folder
}
