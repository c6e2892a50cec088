// The table of op cases: every op with its options, over shapes that fit no vector width. One table drives forward and
// gradients against float64 (ops.test.ts), and every CPU level with any number of threads (levels.test.ts).
import { attentionCases } from './attention-cases.js'
import { branchCases } from './branch-cases.js'
import type { Case } from './case.js'
import { elementCases } from './element-cases.js'
import { linearCases } from './linear-cases.js'
import { lossCases } from './loss-cases.js'
import { lowRankCases } from './low-rank-cases.js'
import { rowCases } from './row-cases.js'

export const cases: readonly Case[] = [
  ...linearCases,
  ...lowRankCases,
  ...attentionCases,
  ...branchCases,
  ...rowCases,
  ...lossCases,
  ...elementCases,
]
