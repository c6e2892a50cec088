import { cases } from './cases.js'
import { draw, expected } from './check-case.js'
import { normals, seedOf } from './normals.js'
import { erf } from './reference.js'

// The reference is judged too: its gradient against central differences of itself, along a random direction.
test.each(cases.map((c) => ({ name: c.name, c })))('reference of $name', ({ c }) => {
  const at: Record<string, ArrayLike<number>> = draw(c, 'f32')
  const h = 1e-5
  const along: Record<string, number[]> = {}
  for (const [name, { trains, values, partlyConstant }] of Object.entries(c.inputs)) {
    const size = 'spread' in values ? values.spread : 1
    if (trains && !partlyConstant) along[name] = normals(seedOf(`${c.name} ${name} along`), at[name].length).map((z) => size * z)
  }
  const loss = (step: number): number => {
    const moved = { ...at }
    for (const [name, direction] of Object.entries(along)) moved[name] = direction.map((d, i) => at[name][i] + step * d)
    const { forward, seeds } = expected(c, moved, 'f32')
    return forward.reduce((total, y, i) => total + y * seeds[i], 0)
  }
  const { gradients, forward, seeds } = expected(c, at, 'f32')
  let slope = 0
  let scale = forward.reduce((total, y, i) => total + Math.abs(y * seeds[i]), 0)
  for (const [name, direction] of Object.entries(along)) {
    direction.forEach((d, i) => {
      slope += d * gradients[name][i]
      scale += Math.abs(d * gradients[name][i])
    })
  }
  const difference = (loss(h) - loss(-h)) / (2 * h)
  expect(Math.abs(difference - slope)).toBeLessThanOrEqual(2e-8 * scale)
})

test('erf', () => {
  // Abramowitz & Stegun, table 7.1, and erfc(4) = 1.541725790028002e-8
  expect(erf(0.5)).toBeCloseTo(0.5204998778130465, 15)
  expect(erf(-1)).toBeCloseTo(-0.8427007929497149, 15)
  expect(erf(2.9)).toBeCloseTo(0.9999589021219005, 15)
  expect(1 - erf(4)).toBeCloseTo(1.541725790028002e-8, 15)
  expect(erf(0)).toBe(0)
})
