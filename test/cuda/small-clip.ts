/** The tiny CLIP with fewer blocks: on the emulated device a step of it takes tenths of a second. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { tinyClip } from '../tiny-clip.js'

const BLOCKS = 2

/** Writes the checkpoint of the tiny CLIP without its blocks from the third on. Load it with `imageSize: 16`. */
export function smallClip(folder: string): string {
  tinyClip(folder)
  const weights = join(folder, 'model.safetensors')
  const bytes = readFileSync(weights)
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const all = JSON.parse(bytes.subarray(8, start).toString('utf8')) as Record<string, { data_offsets: [number, number] }>
  const kept = Object.entries(all).filter(([name]) => !(Number(/\.layers\.(\d+)\./.exec(name)?.[1] ?? 0) >= BLOCKS))
  const header: Record<string, unknown> = {}
  const parts: Buffer[] = []
  let at = 0
  for (const [name, entry] of kept) {
    if (name === '__metadata__') continue
    const [from, to] = entry.data_offsets
    parts.push(bytes.subarray(start + from, start + to))
    header[name] = { ...entry, data_offsets: [at, at + to - from] }
    at += to - from
  }
  const text = Buffer.from(JSON.stringify(header))
  const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, ' ')])
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(padded.length))
  writeFileSync(weights, Buffer.concat([length, padded, ...parts]))
  const path = join(folder, 'config.json')
  const config = JSON.parse(readFileSync(path, 'utf8'))
  for (const tower of ['vision_config', 'text_config']) config[tower].num_hidden_layers = BLOCKS
  writeFileSync(path, JSON.stringify(config))
  return folder
}
