/** What `require('cambium')` gives, and `import 'cambium'` passes on: index.ts with its arguments checked. Types are those of index.ts. */
import { MixedBatch } from './adapters/mixed-batch.js'
import { guard } from './arguments/guard.js'
import { SIGNATURES } from './arguments/signatures.js'
import * as api from './index.js'

export = guard(api, SIGNATURES, { MixedBatch })
