/** Arguments of what works on folders of checkpoints and adapters. */
import { z } from 'zod'
import type { PeftAdapterToWrite } from '../formats/peft-write.js'
import type { ExtractOptions } from '../merge/extract.js'
import type { MergeFolderOptions } from '../merge/merge-folder.js'
import type { AdapterToMerge } from '../merge/open-adapters.js'
import { adapterRecipe, checkpointRecipe } from '../merge/recipe-schema.js'
import type { UnmergeOptions } from '../merge/unmerge.js'
import type { WriteOptions } from '../merge/write-merged.js'
import { optional, type Signatures } from './guard.js'
import * as k from './kinds.js'

const { callback, flag, number, path, signal, text } = k

const writing = {
  out: path,
  dtype: k.saveDtype,
  safe: flag,
  verify: z.enum(['sample', 'all']),
  dryRun: flag,
  signal,
  onProgress: callback,
}
const { dtype: _, ...rewriting } = writing
const weighted = k.optionsOf<AdapterToMerge>({ path, weight: number }, 'path')
const writeOptions = k.optionsOf<WriteOptions>(writing, 'out')

export const MERGING_ARGUMENTS = {
  mergeFolder: {
    options: k.optionsOf<MergeFolderOptions>(
      { ...writing, model: path, adapter: z.union([path, k.listOf(z.union([path, weighted]))]), alpha: number, keepOriginal: flag },
      ...(['model', 'adapter', 'out'] as const),
    ),
  },
  unmergeFolder: {
    options: k.optionsOf<UnmergeOptions>({ ...rewriting, model: path, adapter: k.listOf(weighted), original: path }, 'model', 'out'),
  },
  extractLora: {
    options: k.optionsOf<ExtractOptions>(
      { base: path, model: path, out: path, rank: number, targets: z.union([k.texts, text]), exact: flag, signal, onProgress: callback },
      ...(['base', 'model', 'out'] as const),
    ),
  },
  combineAdapters: {
    recipe: adapterRecipe,
    options: k.optionsOf<Pick<WriteOptions, 'out' | 'signal' | 'onProgress'>>({ out: path, signal, onProgress: callback }, 'out'),
  },
  combineCheckpoints: { recipe: checkpointRecipe, options: writeOptions },
  readRecipe: { path },
  runRecipe: { recipe: z.union([checkpointRecipe, adapterRecipe]), options: optional(k.optionsOf<WriteOptions>(writing)) },
  openPeftAdapter: { folder: path, options: optional(k.optionsOf<{ name?: string }>({ name: text })) },
  writePeftAdapter: {
    folder: path,
    options: k.optionsOf<PeftAdapterToWrite>(
      {
        modules: k.listOf(
          k.kind(
            'a module: {module, rank, alpha, a, b}',
            ({ module, a, b }) => typeof module === 'string' && a !== undefined && b !== undefined,
          ),
        ),
        useRslora: flag,
        dropout: number,
        others: k.texts,
        baseModel: text,
        baseClass: k.map,
        base: text,
        keep: k.map,
        signal,
      },
      'modules',
    ),
  },
} satisfies Signatures
