import { count, date, duration, figure, median, points, signed } from '../../lib/report/numbers.js'

test.each([
  [0.0123, '+1.2'],
  [-0.0123, '−1.2'],
  [-0.0004, '0.0'],
])('%d in points', (value, text) => {
  expect(points(value)).toBe(text)
})

test('other forms', () => {
  expect([signed(3), signed(-2.5, 1), signed(0)]).toEqual(['+3', '−2.5', '0'])
  expect([duration(4.21), duration(59.6), duration(75), duration(3725)]).toEqual(['4.2 s', '1 min 0 s', '1 min 15 s', '1 h 2 min'])
  expect([count(999), count(1234567)]).toEqual(['999', '1\u{202f}234\u{202f}567'])
  expect([figure(0), figure(0.00012345), figure(2.345678), figure(Number.NaN)]).toEqual(['0', '1.23e-4', '2.346', 'not finite'])
  expect(date(1.7e9)).toBe('2023-11-14 22:13 UTC')
  expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5])
})
