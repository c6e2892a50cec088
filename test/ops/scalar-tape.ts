// Reverse mode over float64 scalars, as plain as it gets: a node is a value and, for each parent, the partial derivative
// by it. References of ops are written with it as the formulas stand on paper; their gradients follow by themselves.

/** The number of a node. */
export type Scalar = number

export class ScalarTape {
  private values = new Float64Array(1 << 12)
  private starts = new Int32Array(1 << 12)
  private parents = new Int32Array(1 << 14)
  private partials = new Float64Array(1 << 14)
  private nodes = 0
  private edges = 0

  constant(value: number): Scalar {
    if (this.nodes + 1 >= this.values.length) {
      this.values = grow(this.values, new Float64Array(this.values.length * 2))
      this.starts = grow(this.starts, new Int32Array(this.starts.length * 2))
    }
    this.values[this.nodes] = value
    this.starts[this.nodes + 1] = this.edges
    return this.nodes++
  }

  valueOf(x: Scalar): number {
    return this.values[x]
  }

  /** A function of one scalar: its value and its derivative there. */
  unary(x: Scalar, value: number, derivative: number): Scalar {
    this.edge(x, derivative)
    return this.constant(value)
  }

  add(a: Scalar, b: Scalar): Scalar {
    this.edge(a, 1)
    this.edge(b, 1)
    return this.constant(this.values[a] + this.values[b])
  }

  multiply(a: Scalar, b: Scalar): Scalar {
    this.edge(a, this.values[b])
    this.edge(b, this.values[a])
    return this.constant(this.values[a] * this.values[b])
  }

  divide(a: Scalar, b: Scalar): Scalar {
    const inverse = 1 / this.values[b]
    this.edge(a, inverse)
    this.edge(b, -this.values[a] * inverse * inverse)
    return this.constant(this.values[a] * inverse)
  }

  /** factor · x + offset */
  affine(x: Scalar, factor: number, offset = 0): Scalar {
    return this.unary(x, factor * this.values[x] + offset, factor)
  }

  exp(x: Scalar): Scalar {
    const value = Math.exp(this.values[x])
    return this.unary(x, value, value)
  }

  log(x: Scalar): Scalar {
    return this.unary(x, Math.log(this.values[x]), 1 / this.values[x])
  }

  sqrt(x: Scalar): Scalar {
    const value = Math.sqrt(this.values[x])
    return this.unary(x, value, 0.5 / value)
  }

  sum(list: readonly Scalar[]): Scalar {
    let total = 0
    for (const x of list) {
      this.edge(x, 1)
      total += this.values[x]
    }
    return this.constant(total)
  }

  /** Σ a[i] · b[i] */
  dot(a: readonly Scalar[], b: readonly Scalar[]): Scalar {
    let total = 0
    for (let i = 0; i < a.length; ++i) {
      this.edge(a[i], this.values[b[i]])
      this.edge(b[i], this.values[a[i]])
      total += this.values[a[i]] * this.values[b[i]]
    }
    return this.constant(total)
  }

  /** d(Σ seeds · outputs) by every node. */
  gradients(outputs: readonly Scalar[], seeds: ArrayLike<number>): Float64Array {
    const gradients = new Float64Array(this.nodes)
    outputs.forEach((output, i) => {
      gradients[output] += seeds[i]
    })
    for (let node = this.nodes - 1; node >= 0; --node) {
      const gradient = gradients[node]
      if (gradient === 0) continue
      for (let e = this.starts[node]; e < this.starts[node + 1]; ++e) gradients[this.parents[e]] += gradient * this.partials[e]
    }
    return gradients
  }

  // Edges of a node are written before the node itself: starts[n] … starts[n + 1].
  private edge(parent: Scalar, partial: number): void {
    if (this.edges === this.parents.length) {
      this.parents = grow(this.parents, new Int32Array(this.parents.length * 2))
      this.partials = grow(this.partials, new Float64Array(this.partials.length * 2))
    }
    this.parents[this.edges] = parent
    this.partials[this.edges++] = partial
  }
}

function grow<T extends Int32Array | Float64Array>(from: T, to: T): T {
  to.set(from)
  return to
}
