// Reads the numerical fixtures (made with PyTorch, see fixtures/README.md) and compares tensors with them.
import { join } from 'node:path'
import { openSafetensors } from '../lib/formats/safetensors-read.js'
import { native } from '../lib/native.js'

export const fixture = (...parts: string[]) => join(__dirname, 'fixtures', ...parts)

export class Case {
  private constructor(
    readonly values: ReadonlyMap<string, Float32Array | Int32Array>,
    readonly shapes: ReadonlyMap<string, readonly number[]>,
  ) {}

  static async open(folder: string): Promise<Case> {
    const file = await openSafetensors(join(folder, 'case.safetensors'))
    const values = new Map<string, Float32Array | Int32Array>()
    for (const t of file.tensors.values()) {
      const integer = t.dtype === 'I64' || t.dtype === 'I32'
      const bytes = await native.readTensor({
        path: t.path,
        offset: t.offset,
        count: t.count,
        from: t.dtype,
        to: integer ? 'I32' : 'F32',
        expectedSize: t.fileSize,
      })
      values.set(t.name, integer ? new Int32Array(bytes) : new Float32Array(bytes))
    }
    return new Case(values, new Map([...file.tensors.values()].map((t) => [t.name, t.shape])))
  }

  get(name: string): Float32Array {
    const value = this.values.get(name)
    if (!value) throw new Error(`fixture: no tensor ${name}`)
    return value as Float32Array
  }

  shape(name: string): readonly number[] {
    return this.shapes.get(name) ?? []
  }

  /** rows of token ids */
  ids(): number[][] {
    const [rows, columns] = this.shape('ids')
    const all = Array.from(this.get('ids'))
    return Array.from({ length: rows }, (_, i) => all.slice(i * columns, (i + 1) * columns))
  }
}

/** ‖got − want‖ / ‖want‖ over all pairs together; exactly zero is asked of a zero reference. */
export function relativeError(...pairs: [ArrayLike<number>, ArrayLike<number>][]): number {
  let difference = 0
  let reference = 0
  for (const [got, want] of pairs) {
    if (got.length !== want.length) return Number.POSITIVE_INFINITY
    for (let i = 0; i < want.length; i++) {
      difference += (got[i] - want[i]) ** 2
      reference += want[i] ** 2
    }
  }
  if (reference === 0) return difference === 0 ? 0 : Number.POSITIVE_INFINITY
  return Math.sqrt(difference / reference)
}
