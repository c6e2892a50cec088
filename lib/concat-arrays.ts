/** The values of several tensors on the host as those of one. */
type Concatenated = Float32Array | Int32Array

/**
 * Arrays one behind the other, as one of their own.
 * @param Type of all of them
 */
export function concatArrays<A extends Concatenated>(Type: new (length: number) => A, parts: readonly A[]): A {
  const all = new Type(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}
