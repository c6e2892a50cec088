/** Transposition of a matrix's bytes, for the two projections that OpenAI's layout stores as [in, out]. */
import { CambiumError } from '../errors.js'

/** `bytes` hold [rows, cols]; the result holds [cols, rows]. Elements of 1, 2, 4 or 8 bytes. */
export function transposeBytes(bytes: Uint8Array, rows: number, cols: number): Uint8Array {
  const size = bytes.byteLength / (rows * cols)
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice()
  const { buffer, byteOffset } = aligned
  const count = rows * cols
  switch (size) {
    case 1:
      return transpose(aligned, new Uint8Array(count), rows, cols)
    case 2:
      return transpose(new Uint16Array(buffer, byteOffset, count), new Uint16Array(count), rows, cols)
    case 4:
      return transpose(new Uint32Array(buffer, byteOffset, count), new Uint32Array(count), rows, cols)
    case 8:
      return transpose(new BigUint64Array(buffer, byteOffset, count), new BigUint64Array(count), rows, cols)
    default:
      throw new CambiumError('E_SHAPE', `transpose: expected ${count} elements of 1, 2, 4 or 8 bytes, got ${bytes.byteLength} bytes`)
  }
}

function transpose<T extends Uint8Array | Uint16Array | Uint32Array | BigUint64Array>(
  from: T,
  to: T,
  rows: number,
  cols: number,
): Uint8Array {
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) to[c * rows + r] = from[r * cols + c]
  return new Uint8Array(to.buffer, to.byteOffset, to.byteLength)
}
