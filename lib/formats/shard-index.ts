/** `*.safetensors.index.json`: which shard of a checkpoint holds which tensor. */

import { CambiumError, messageOf } from '../errors.js'
import { readFile } from '../files.js'
import { parseStrictJson } from './strict-json.js'

/** The Hub's own limit. */
const MAX_SHARDS = 10_000

/**
 * Reads and checks an index: tensor name -> shard's file name. Errors: E_SHARD_INDEX for a text that is no index, a shard name
 * that could leave the folder, too many shards; E_NOT_FOUND, E_IO.
 */
export async function readShardIndex(path: string): Promise<Map<string, string>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw new CambiumError('E_IO', `${path}: ${messageOf(error)}`, { cause: error })
  }
  return parseShardIndex(text, path)
}

/** The same for a text; `what` names it in errors. */
export function parseShardIndex(text: string, what: string): Map<string, string> {
  let root: unknown
  try {
    root = parseStrictJson(text)
  } catch (error) {
    return invalid(what, 'JSON', messageOf(error))
  }
  const map = root instanceof Map ? root.get('weight_map') : undefined
  if (!(map instanceof Map)) return invalid(what, 'an object weight_map', 'none')
  const shards = new Set<string>()
  const result = new Map<string, string>()
  for (const [tensor, shard] of map) {
    if (typeof shard !== 'string') return invalid(`${what}: ${tensor}`, 'the name of a file', 'another value')
    if (!isPlainName(shard)) return invalid(`${what}: ${tensor}`, 'a file beside the index, named *.safetensors', JSON.stringify(shard))
    shards.add(shard)
    result.set(tensor, shard)
  }
  if (shards.size > MAX_SHARDS) return invalid(what, `at most ${MAX_SHARDS} shards`, `${shards.size}`)
  return result
}

/** `model-00001-of-00002.safetensors` */
export function shardName(stem: string, index: number, count: number): string {
  const pad = (value: number) => String(value).padStart(5, '0')
  return `${stem}-${pad(index + 1)}-of-${pad(count)}.safetensors`
}

function isPlainName(name: string): boolean {
  return /^[^/\\\0:]+\.safetensors$/.test(name) && !name.startsWith('..')
}

function invalid(what: string, expected: string, got: string): never {
  throw new CambiumError('E_SHARD_INDEX', `${what}: expected ${expected}, got ${got}`)
}
