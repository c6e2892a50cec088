import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DeviceReport } from './cases-child.js'
import { child, EMULATED_CUBLAS } from './emulated.js'
import type { ProductErrors } from './products-child.js'

// Our calls of cuBLASLt against a library of our own with the documented meaning: operations, leading dimensions, epilogues,
// alignments, compute types. Every product that it can do goes there; the rest stays with our kernels.
test('products by cuBLASLt', async () => {
  const env = { CAMBIUM_CUBLAS: EMULATED_CUBLAS, CAMBIUM_CASES: 'linear|low-rank|contrastive|cross', CAMBIUM_ORDERS: 'forward' }
  const report = JSON.parse(await child('cases-child.ts', env)) as DeviceReport
  expect(report.failures).toEqual([])
  expect(report.checked).toBeGreaterThan(100)
}, 600_000)

describe('products of f32', () => {
  const errors = async (env: Record<string, string>) => JSON.parse(await child('products-child.ts', env)) as ProductErrors
  const libraries: [string, Record<string, string>][] = [
    ['our own', { CAMBIUM_PRODUCTS: 'own' }],
    ['cuBLASLt’s', { CAMBIUM_CUBLAS: EMULATED_CUBLAS }],
    ['those that cuBLASLt refuses after all', { CAMBIUM_CUBLAS: EMULATED_CUBLAS, CAMBIUM_EMULATION_CUBLAS_REFUSES: '15' }],
  ]

  test.each(libraries)(
    '%s keep all bits of their operands',
    async (_, env) => {
      for (const { name, full, rounded } of await errors(env)) {
        expect({ name, exact: full < 2e-6, error: full }).toMatchObject({ exact: true })
        expect(rounded).toBeGreaterThan(1e-4)
      }
    },
    600_000,
  )

  test.each(libraries)(
    '%s round them to TF32 when that is asked for, and only then',
    async (_, env) => {
      for (const { name, full, rounded } of await errors({ ...env, CAMBIUM_TF32: '1' })) {
        expect({ name, exact: rounded < 2e-6, error: rounded }).toMatchObject({ exact: true })
        expect(full).toBeGreaterThan(1e-4)
      }
      for (const { full } of await errors({ ...env, CAMBIUM_TF32: '0' })) expect(full).toBeLessThan(2e-6)
    },
    600_000,
  )
})

describe('cuBLASLt is found', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cambium-cublas-'))
  afterAll(() => rmSync(folder, { recursive: true }))
  const nowhere = { CUDA_HOME: '', CUDA_PATH: '', VIRTUAL_ENV: '', CONDA_PREFIX: '', CAMBIUM_CUBLAS: '' }
  const products = async (env: Record<string, string>): Promise<string> =>
    JSON.parse(await child('probe-child.ts', { ...nowhere, ...env })).products
  const placed = (...parts: string[]) => {
    const at = join(folder, ...parts)
    mkdirSync(join(at, '..'), { recursive: true })
    symlinkSync(EMULATED_CUBLAS, at)
    return at
  }

  test('where CAMBIUM_CUBLAS says', async () => {
    expect(await products({ CAMBIUM_CUBLAS: EMULATED_CUBLAS })).toBe(`own, and cuBLASLt 13.0 from ${EMULATED_CUBLAS}`.slice(0, 140))
    expect(await products({ CAMBIUM_CUBLAS: EMULATED_CUBLAS, CAMBIUM_PRODUCTS: 'own' })).toBe('own (CAMBIUM_PRODUCTS)')
  }, 600_000)

  test.each([
    ['VIRTUAL_ENV', 'lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13', ''],
    ['CONDA_PREFIX', 'lib/python3.11/site-packages/nvidia/cublas/lib/libcublasLt.so.12', ''],
    ['CUDA_HOME', 'lib64/libcublasLt.so.13', ''],
    ['CUDA_PATH', 'lib64/libcublasLt.so', ''],
    ['LD_LIBRARY_PATH', 'libcublasLt.so.13', ''],
  ])(
    'by %s',
    async (variable, path) => {
      const at = placed(variable, path)
      const found = await products({ [variable]: join(folder, variable) })
      const expected = variable === 'LD_LIBRARY_PATH' ? 'libcublasLt.so.13' : at
      expect(found).toBe(`own, and cuBLASLt 13.0 from ${expected}`.slice(0, found.length))
      expect(found.length).toBeGreaterThan(40)
    },
    600_000,
  )

  test('or else what is wrong with it is told', async () => {
    expect(await products({})).toBe('own (no cuBLASLt was found; CAMBIUM_CUBLAS names its file)')
    expect(await products({ CAMBIUM_CUBLAS: '/nowhere/libcublasLt.so' })).toMatch(
      /^own \(CAMBIUM_CUBLAS: \/nowhere\/libcublasLt\.so: cannot open/,
    )
    const old = await products({ CAMBIUM_CUBLAS: EMULATED_CUBLAS, CAMBIUM_EMULATION_CUBLAS: '110900' })
    expect(old).toMatch(/^own \(expected cuBLASLt 12 or newer, got another: /)
  }, 600_000)
})
