/** Numbers as the report prints them. */

/** 0.1234: `12.3`, in percent. */
export const percent = (value: number): string => (100 * value).toFixed(1)

/** A difference of fractions in points, with its sign: `+1.9`, `−0.4`, `0.0`. */
export const points = (value: number): string => signed(100 * value, 1)

/** With a true minus; what rounds to zero has no sign. */
export function signed(value: number, digits = 0): string {
  const text = Math.abs(value).toFixed(digits)
  return Number(text) === 0 ? text : `${value < 0 ? '−' : '+'}${text}`
}

/** 75 s: `1 min 15 s`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds)
  if (whole < 60) return seconds < 10 ? `${seconds.toFixed(1)} s` : `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}

/** Seconds since 1970: `2026-11-22 18:20 UTC`. */
export const date = (time: number): string => `${new Date(time * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`

/** Thousands apart by a thin space. */
export const count = (value: number): string => String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, '\u{202f}')

/** A rate or a loss in four figures, without an exponent where that is short. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return 'not finite'
  const size = Math.abs(value)
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)))
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2
}
