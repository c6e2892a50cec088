/**
 * The one error class of the library. Every error carries a stable `code` that programs may match on; the message is for
 * people: `<op or option>: expected …, got …`. Errors made by the native core arrive with the same codes.
 */

export interface CambiumErrorOptions {
  /** What caused it, as the standard `Error.cause`. */
  cause?: unknown
  /** Facts a program may want: the path, the tensor's name, the shapes. */
  details?: Readonly<Record<string, unknown>>
}

/** An error with a stable `code` such as `E_SHAPE`, `E_SAFETENSORS`, `E_IMAGE`. */
export class CambiumError extends Error {
  readonly code: string
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: string, message: string, options: CambiumErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'CambiumError'
    this.code = code
    this.details = options.details ?? {}
  }
}

/** True for an error of this library, also one from another realm (a jest module, a worker). */
export function isCambiumError(error: unknown): error is CambiumError {
  return (
    typeof error === 'object' &&
    error !== null &&
    typeof (error as { code?: unknown }).code === 'string' &&
    (error as { name?: unknown }).name === 'CambiumError'
  )
}

/** The message of whatever was thrown; of Node's `ENOENT: no such file or directory, open 'path'` the words alone. */
export function messageOf(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('message' in error)) return String(error)
  const message = String(error.message)
  const { code, syscall } = error as { code?: unknown; syscall?: unknown }
  if (typeof code !== 'string' || typeof syscall !== 'string' || !message.startsWith(`${code}: `)) return message
  const end = message.indexOf(`, ${syscall}`)
  return message.slice(code.length + 2, end < 0 ? undefined : end)
}

/** Throws `<what>: expected <expected>, got <got>` with a code. */
export function fail(code: string, what: string, expected: string, got: unknown): never {
  throw new CambiumError(code, `${what}: expected ${expected}, got ${describe(got)}`)
}

const MOST_LISTED = 20

/** A value in a message: short, and whole only when that is short; of what is more than data, what it is. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 200 ? `${value.slice(0, 199)}…` : value)
  if (typeof value === 'bigint') return `${value}`
  if (value === undefined) return 'nothing'
  if (typeof value === 'function') return value.name === '' ? 'a function' : `the function ${value.name}`
  if (typeof value === 'object' && value !== null) {
    if (Array.isArray(value) && value.length > MOST_LISTED) return `a list of ${value.length}`
    const own = nameOfClass(value)
    if (own !== undefined) return `${/^[AEIOU]/i.test(own) ? 'an' : 'a'} ${own}`
    let text: string
    try {
      text = JSON.stringify(value)
    } catch {
      return 'a value of many levels'
    }
    return text.length > 80 ? `${text.slice(0, 77)}…` : text
  }
  return String(value)
}

/** Nothing for lists and plain objects, of whatever realm. */
function nameOfClass(value: object): string | undefined {
  const name = (Object.getPrototypeOf(value) as { constructor?: { name?: string } } | null)?.constructor?.name
  return name === undefined || name === '' || name === 'Object' || name === 'Array' ? undefined : name
}

/** The reason an `AbortSignal` gives, or an `E_ABORTED` error; call when `signal.aborted`. */
export function abortReason(signal: AbortSignal): unknown {
  return signal.reason ?? new CambiumError('E_ABORTED', 'the work was aborted')
}
