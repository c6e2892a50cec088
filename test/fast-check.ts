/**
 * fast-check with the same seed in every run: what a test tries then depends on nothing but the code. Others with CAMBIUM_FUZZ_SEED.
 * Tests import it from here; architecture.test.ts checks that.
 */
import fc from 'fast-check'

fc.configureGlobal({ seed: Number(process.env.CAMBIUM_FUZZ_SEED ?? 20261122) })

export { default } from 'fast-check'
